package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
)

// placeNodes keeps the nodes that the file still asks for and adds new ones.
func (p *placer) placeNodes() {
	p.macs, p.foreign = map[string]bool{}, map[string]bool{}
	for _, s := range p.found.Strangers {
		if s.Kind == cluster.StrangerMAC {
			p.foreign[strings.ToLower(s.Name)] = true
		}
	}

	kept := p.keptNodes()
	load := map[string]int{} // nodes per hypervisor
	for _, nodes := range kept {
		for _, n := range nodes {
			load[n.Hypervisor]++
			for _, port := range n.Ports {
				p.macs[port.MAC] = true
			}
		}
	}
	names := p.newNames()
	for i, s := range p.file.Specs {
		t, ok := p.nodeType(s.Type)
		if !ok {
			p.fail(fmt.Errorf("spec %q: there is no node type %q", s.Name, s.Type), "add %s to node_types", s.Type)
			continue
		}
		nodes := kept[i]
		for len(nodes) < s.Count && !p.unknown(t.Provider) {
			h, ok := leastLoaded(p.options.Hypervisors, load)
			if !ok {
				p.fail(fmt.Errorf("spec %q: %w", s.Name, errNoHypervisor), "name at least one hypervisor")
				break
			}
			load[h]++
			nodes = append(nodes, cluster.Node{Name: names.next(s.NamePrefix), Hypervisor: h, Provider: t.Provider, Spec: s.Name})
		}
		for _, n := range nodes {
			p.want.Nodes = append(p.want.Nodes, p.fill(n, t))
		}
	}
}

// keptNodes returns, for each spec of the file, the found nodes that it keeps:
// those with the lowest numbers.
func (p *placer) keptNodes() [][]cluster.Node {
	bySpec := map[string][]cluster.Node{}
	for _, n := range p.found.Nodes {
		bySpec[n.Spec] = append(bySpec[n.Spec], n)
	}
	kept := make([][]cluster.Node, len(p.file.Specs))
	seen := map[string]bool{}
	for i, s := range p.file.Specs {
		nodes := bySpec[s.Name]
		slices.SortFunc(nodes, func(a, b cluster.Node) int {
			return cmp.Or(cmp.Compare(number(a.Name), number(b.Name)), cmp.Compare(a.Name, b.Name),
				cmp.Compare(a.Hypervisor, b.Hypervisor), cmp.Compare(a.Provider, b.Provider))
		})
		for _, n := range nodes {
			if len(kept[i]) < s.Count && !seen[n.Name] { // one name twice: only after the unknown has come back
				seen[n.Name] = true
				kept[i] = append(kept[i], n)
			}
		}
	}
	return kept
}

// number is the number at the end of a node's name, or -1.
func number(name string) int {
	digits := name[len(strings.TrimRight(name, "0123456789")):]
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}

// names gives names to new nodes.
type names struct {
	used map[string]bool
	from map[string]int // per prefix: no number below is free
}

// newNames knows the names that cannot be given. A node that goes keeps its
// name until it is gone. While hypervisors are unknown, so are the owners of
// taps, BMCs and enrolments that have no node.
func (p *placer) newNames() *names {
	ns := &names{used: map[string]bool{}, from: map[string]int{}}
	for _, n := range p.found.Nodes {
		ns.used[n.Name] = true
	}
	if !slices.ContainsFunc(p.found.Unknown, func(u cluster.Unknown) bool { return u.Hypervisor != "" }) {
		return ns
	}
	for _, t := range p.found.Taps {
		ns.used[t.Node] = true
	}
	for _, b := range p.found.BMCs {
		ns.used[b.Node] = true
	}
	for _, e := range p.found.Enrolments {
		ns.used[e.Node] = true
	}
	return ns
}

// next returns the prefix and the lowest number that is free.
func (ns *names) next(prefix string) string {
	for i := ns.from[prefix]; ; i++ {
		if name := prefix + strconv.Itoa(i); !ns.used[name] {
			ns.used[name] = true
			ns.from[prefix] = i + 1
			return name
		}
	}
}

// leastLoaded returns the hypervisor with the fewest nodes, the first of several.
func leastLoaded(hypervisors []string, load map[string]int) (string, bool) {
	if len(hypervisors) == 0 {
		return "", false
	}
	return slices.MinFunc(hypervisors, func(a, b string) int { return cmp.Compare(load[a], load[b]) }), true
}

// fill returns the node as its type wants it. Identity that n has stays.
func (p *placer) fill(n cluster.Node, t config.NodeType) cluster.Node {
	old := n.Ports
	n = cluster.Node{
		Name: n.Name, Hypervisor: n.Hypervisor, Spec: n.Spec, UUID: n.UUID, Serial: n.Serial,
		Provider: t.Provider, Type: t.Name, VCPUs: t.VCPUs, MemoryMB: t.MemoryMB, BootMode: t.BootMode,
	}
	if n.UUID == "" {
		n.UUID = cluster.UUID(p.file.Cluster, "node", n.Name)
	}
	if n.Serial == "" {
		n.Serial = cluster.Serial(p.file.Cluster, n.Name)
	}
	real := t.Provider == cluster.Libvirt // its nodes have disks and links on the hypervisor
	for i, size := range t.Volumes {
		v := cluster.Volume{Name: fmt.Sprintf("%s-vol%d", n.Name, i), Size: size}
		if real {
			v.Pool = cluster.PoolName(p.file.Cluster)
		}
		n.Volumes = append(n.Volumes, v)
	}
	for i, network := range t.Networks {
		port := cluster.Port{Network: network}
		if i < len(old) && old[i].MAC != "" {
			port.MAC = old[i].MAC
		} else {
			port.MAC = p.newMAC(n.Name, i)
		}
		if real {
			port.Tap = cluster.LinkName(fmt.Sprintf("%s-%d", n.Name, i))
		}
		n.Ports = append(n.Ports, port)
	}
	return n
}

// newMAC derives an address that nobody has.
func (p *placer) newMAC(node string, port int) string {
	for attempt := 0; ; attempt++ {
		if mac := cluster.MAC(p.file.Cluster, node, port, attempt); !p.macs[mac] && !p.foreign[mac] {
			p.macs[mac] = true
			return mac
		}
	}
}
