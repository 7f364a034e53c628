package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenks/tenks/internal/hint"
)

// The arguments that a command may have. Cobra has such functions, but theirs
// count in a way that helps nobody ("accepts 1 arg(s), received 0").

// noArgs is for commands without arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s takes no argument, and %q is one", cmd.CommandPath(), args[0])
	if cmd.Root().PersistentFlags().Lookup("file") != nil && (cmd.Name() == "apply" || cmd.Name() == "plan" || cmd.Name() == "validate") {
		return hint.Add(err, "name the cluster file with --file: %s --file %s", cmd.CommandPath(), args[0])
	}
	return usage(cmd, err)
}

// mayName is for commands that take the name of a cluster, or none.
func mayName(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return usage(cmd, fmt.Errorf("%s takes one cluster at a time, and %q is a second", cmd.CommandPath(), args[1]))
}

// oneNode is for commands that take the name of a node.
func oneNode(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return usage(cmd, fmt.Errorf("%s needs the name of a node", cmd.CommandPath()))
	case 1:
		return nil
	}
	return usage(cmd, fmt.Errorf("%s takes one node at a time, and %q is a second", cmd.CommandPath(), args[1]))
}

// group makes a command that only has others below it: alone it shows its help,
// and what is not below it is an error.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return usage(cmd, fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// usage adds where to read on to an error of whoever typed the command.
func usage(cmd *cobra.Command, err error) error {
	return hint.Add(err, "see: %s --help", cmd.CommandPath())
}
