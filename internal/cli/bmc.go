package cli

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tenks/tenks/internal/bmc"
	"github.com/tenks/tenks/internal/hint"
)

func (a *app) bmcCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "bmc",
		Short: "The BMCs of a cluster",
	})
	cmd.AddCommand(a.bmcServeCommand(), a.bmcSuperviseCommand(), a.bmcPasswordCommand())
	return cmd
}

func (a *app) bmcServeCommand() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the BMCs of a cluster on this machine",
		Long:  "Serve the BMCs that are listed in the cluster's folder. Apply starts this; it is seldom typed.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := bmc.ReadList(folder)
			if err != nil {
				return err
			}
			a.log = a.serviceLog()
			root := filepath.Dir(filepath.Clean(folder))
			return bmc.Serve(cmd.Context(), bmc.Options{Folder: folder, Hands: a.hands(root, list.LibvirtSocket), Log: a.log})
		},
	}
	cmd.Flags().StringVar(&folder, "folder", "", "the cluster's folder")
	_ = cmd.MarkFlagRequired("folder")
	return cmd
}

func (a *app) bmcSuperviseCommand() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "supervise",
		Short: "Run \"bmc serve\", and again after a crash",
		Long:  "Run \"bmc serve\" and start it again after a crash. Apply starts this on machines without systemd.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.log = a.serviceLog()
			return bmc.Supervise(cmd.Context(), bmc.SuperviseOptions{Folder: folder, Log: a.log})
		},
	}
	cmd.Flags().StringVar(&folder, "folder", "", "the cluster's folder")
	_ = cmd.MarkFlagRequired("folder")
	return cmd
}

// serviceLog is the log of a process that runs for long.
func (a *app) serviceLog() *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.io.Err, &slog.HandlerOptions{Level: level}))
}

func (a *app) bmcPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "password [CLUSTER]",
		Short:   "Print the password of the cluster's BMCs",
		Example: "  IPMI_PASSWORD=$(tenks bmc password) ipmitool -E -I lanplus …",
		Args:    mayName,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := a.clusterOf(args, cmd.Flags().Changed("file"))
			if err != nil {
				return err
			}
			text, err := os.ReadFile(a.passwordFile(name))
			if os.IsNotExist(err) {
				return hint.Add(fmt.Errorf("cluster %s has no BMCs here", name), "run: tenks apply")
			}
			if err != nil {
				return err
			}
			a.printf("%s", text)
			return nil
		},
		ValidArgsFunction: a.completeCluster,
	}
}
