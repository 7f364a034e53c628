package cli

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

func (a *app) statusCommand() *cobra.Command {
	var try bool
	cmd := &cobra.Command{
		Use:     "status [CLUSTER]",
		Short:   "Show nodes, power, MAC addresses, BMC addresses and enrolment",
		Example: "  tenks status\n  tenks status lab -o json\n  tenks status --try         what to type next",
		Args:    mayName,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := a.clusterOf(args, cmd.Flags().Changed("file"))
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), name, nil)
			if err != nil {
				return err
			}
			defer s.close()
			rows := statusRows(s.found)
			if a.output == "json" {
				err = a.printJSON(statusJSON{name, rows, append([]cluster.Unknown{}, s.found.Unknown...)})
			} else {
				a.printStatus(name, rows, s.found)
				if try {
					a.printTry(name, rows)
				}
			}
			if err == nil && len(s.found.Unknown) > 0 {
				err = exitStatus(1)
			}
			return err
		},
		ValidArgsFunction: a.completeCluster,
	}
	cmd.Flags().BoolVar(&try, "try", false, "print what to try next")
	a.outputFlag(cmd)
	return cmd
}

// statusJSON is what -o json prints.
type statusJSON struct {
	Cluster string            `json:"cluster"`
	Nodes   []*statusRow      `json:"nodes"`
	Unknown []cluster.Unknown `json:"unknown"` // what did not answer
}

// statusRow is a node as status shows it.
type statusRow struct {
	Node       string   `json:"node"`
	Type       string   `json:"type,omitempty"`
	Provider   string   `json:"provider,omitempty"`
	Hypervisor string   `json:"hypervisor,omitempty"`
	Power      string   `json:"power"`
	MACs       []string `json:"macs"`
	BMC        *bmcRow  `json:"bmc,omitempty"`
	Ironic     string   `json:"ironic,omitempty"` // provision state
	Error      string   `json:"error,omitempty"`  // Ironic's last error
}

type bmcRow struct {
	Address  string `json:"address"`
	Port     int    `json:"port"`
	Username string `json:"username"`
	Serving  bool   `json:"serving"`
}

// statusRows has a row for every node that is known to exist in any way.
func statusRows(st cluster.State) []*statusRow {
	byName := map[string]*statusRow{}
	row := func(name string) *statusRow {
		if byName[name] == nil {
			byName[name] = &statusRow{Node: name, Power: "unknown", MACs: []string{}}
		}
		return byName[name]
	}
	for _, n := range st.Nodes {
		r := row(n.Name)
		r.Type, r.Provider, r.Hypervisor = n.Type, n.Provider, n.Hypervisor
		if n.Power != cluster.PowerUnknown {
			r.Power = string(n.Power)
		}
		for _, p := range n.Ports {
			r.MACs = append(r.MACs, p.MAC)
		}
	}
	for _, b := range st.BMCs {
		row(b.Node).BMC = &bmcRow{b.Address, b.Port, b.Username, b.Serving}
	}
	for _, e := range st.Enrolments {
		r := row(e.Node)
		r.Ironic, r.Error = e.State, e.LastError
	}
	rows := make([]*statusRow, 0, len(byName))
	for _, r := range byName {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(x, y *statusRow) int {
		return cmp.Or(cmp.Compare(stem(x.Node), stem(y.Node)), cmp.Compare(len(x.Node), len(y.Node)), cmp.Compare(x.Node, y.Node))
	})
	return rows
}

// stem is a node's name without its number.
func stem(node string) string { return strings.TrimRight(node, "0123456789") }

func (a *app) printStatus(name string, rows []*statusRow, st cluster.State) {
	a.printUnknown(st.Unknown)
	if len(rows) == 0 {
		a.printf("cluster %s: nothing is there\n", name)
		if host, err := a.deployHost(); err == nil {
			if names, err := host.Clusters(); err == nil && len(names) > 0 && len(st.Unknown) == 0 {
				a.note("tenks: hint: clusters on this machine: %s\n", strings.Join(names, ", "))
			}
		}
		return
	}
	w := tabwriter.NewWriter(a.io.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tTYPE\tPROVIDER\tHYPERVISOR\tPOWER\tMAC\tBMC\tUSER\tIRONIC")
	for _, r := range rows {
		address, username := "-", "-"
		if r.BMC != nil {
			address, username = fmt.Sprintf("%s:%d", r.BMC.Address, r.BMC.Port), r.BMC.Username
			if !r.BMC.Serving {
				address += " (not running)"
			}
		}
		macs := strings.Join(r.MACs, ",")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Node, dash(r.Type), dash(r.Provider), dash(r.Hypervisor), r.Power, dash(macs), address, username, dash(r.Ironic))
	}
	_ = w.Flush()
	for _, r := range rows {
		if r.Error != "" {
			a.printf("%s: Ironic says: %s\n", r.Node, oneLine(errors.New(r.Error)))
		}
	}
	if len(st.BMCs) > 0 {
		a.printf("BMC password: in %s (tenks bmc password %s)\n", a.passwordFile(name), name)
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// passwordFile holds the password of the cluster's BMCs and nothing else, so
// that ipmitool -f can read it.
func (a *app) passwordFile(name string) string {
	root, err := filepath.Abs(a.root)
	if err != nil {
		root = a.root
	}
	return filepath.Join(root, name, "bmc-password")
}

// printTry prints commands that work on the cluster as it is.
func (a *app) printTry(name string, rows []*statusRow) {
	for _, r := range rows {
		if r.BMC == nil || !r.BMC.Serving {
			continue
		}
		port := ""
		if r.BMC.Port != 623 {
			port = fmt.Sprintf(" -p %d", r.BMC.Port)
		}
		ipmi := fmt.Sprintf("ipmitool -I lanplus -H %s%s -U %s -f %s", r.BMC.Address, port, r.BMC.Username, a.passwordFile(name))
		a.printf("\nTry next:\n  %s power status\n  %s power on\n", ipmi, ipmi)
		if r.Provider == cluster.Libvirt {
			a.printf("  tenks console %s\n", r.Node)
		}
		a.printf("  tenks destroy %s\n", name)
		return
	}
}

// findNode looks a node up by name in what was found.
func findNode(st cluster.State, name string) (cluster.Node, error) {
	var names []string
	for _, n := range st.Nodes {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	err := fmt.Errorf("cluster %s has no node %q", st.Cluster, name)
	if len(names) == 0 {
		return cluster.Node{}, err
	}
	return cluster.Node{}, hint.Add(err, "its nodes are: %s", strings.Join(names, ", "))
}

// completeCluster completes the names of the clusters on this machine.
func (a *app) completeCluster(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	host, err := a.deployHost()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, _ := host.Clusters()
	return names, cobra.ShellCompDirectiveNoFileComp
}
