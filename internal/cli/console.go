package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tenks/tenks/internal/bmc"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// escape ends a console session: Ctrl-], as in telnet and virsh.
const escape = 0x1d

func (a *app) consoleCommand() *cobra.Command {
	var force bool
	var name string
	cmd := &cobra.Command{
		Use:   "console NODE",
		Short: "Connect to a node's serial console",
		Long: `Connect to the serial console of a node that is on. Ctrl-] ends the session. In a
pipe, output goes to standard output until standard input ends or the node is
switched off.`,
		Example: "  tenks console dev-0\n  tenks console dev-0 --force    take it over from somebody else",
		Args:    oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			var named []string
			if name != "" {
				named = []string{name}
			}
			clusterName, _, err := a.clusterOf(named, cmd.Flags().Changed("file"))
			if err != nil {
				return err
			}
			return a.console(cmd.Context(), clusterName, args[0], force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "take the console over from somebody else")
	cmd.Flags().StringVar(&name, "cluster", "", "the node's cluster, where that is not clear")
	_ = cmd.RegisterFlagCompletionFunc("cluster", a.completeCluster)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeNode(cmd, name), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// completeNode returns the names of a cluster's nodes on this machine. It reads
// the list of BMCs, since a shell does not wait for libvirt.
func (a *app) completeNode(cmd *cobra.Command, name string) []string {
	var named []string
	if name != "" {
		named = []string{name}
	}
	clusterName, _, err := a.clusterOf(named, cmd.Flags().Changed("file"))
	if err != nil {
		return nil
	}
	list, err := bmc.ReadList(filepath.Join(a.root, clusterName))
	if err != nil {
		return nil
	}
	var nodes []string
	for _, b := range list.BMCs {
		nodes = append(nodes, b.Node)
	}
	return nodes
}

func (a *app) console(ctx context.Context, clusterName, node string, force bool) error {
	w, err := a.worker()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	found, err := w.Observe(ctx, clusterName)
	if err != nil {
		return err
	}
	a.printUnknown(found.Unknown)
	n, err := findNode(found, node)
	if err != nil {
		return err
	}
	if n.Power == cluster.PowerOff {
		return hint.Add(fmt.Errorf("node %s is off", node), "switch it on first; tenks status --try prints how")
	}
	c, err := w.Console(ctx, clusterName, n, force)
	if err != nil {
		return err
	}
	defer c.Close()
	if isTerminal(a.io.In) {
		a.note("Console of %s; Ctrl-] ends the session.\r\n", node)
		fd := int(a.io.In.(*os.File).Fd())
		old, err := term.MakeRaw(fd)
		if err != nil {
			return err
		}
		defer func() {
			_ = term.Restore(fd, old)
			a.note("\n")
		}()
	}
	return join(ctx, c, a.io.In, a.io.Out)
}

// join copies between the console and the user until one of them ends, the user
// types the escape character, or ctx is done.
func join(ctx context.Context, c io.ReadWriteCloser, in io.Reader, out io.Writer) error {
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(out, c)
		ended <- err
	}()
	go func() { ended <- typed(c, in) }()
	select {
	case err := <-ended:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// typed copies what is typed to the console up to the escape character.
func typed(c io.Writer, in io.Reader) error {
	buf := make([]byte, 256)
	for {
		n, err := in.Read(buf)
		for i, b := range buf[:n] {
			if b == escape {
				_, err := c.Write(buf[:i])
				return err
			}
		}
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}
