package cli

import (
	"github.com/spf13/cobra"

	"github.com/tenks/tenks/internal/host"
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Find what this machine lacks, and say how to mend it",
		Long:    "Look at this machine as a hypervisor. Changes nothing. The exit status is 1 if there is a problem.",
		Example: "  tenks doctor\n  tenks doctor -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lv := a.libvirt(a.libvirtSocket)
			defer func() { _ = lv.Close() }()
			findings := host.Doctor(cmd.Context(), host.Options{
				StateDir: a.root, LibvirtSocket: a.libvirtSocket, User: bmcUser,
				Libvirt: lv.Ping, VirtType: lv.VirtType,
			})
			problems := 0
			for _, f := range findings {
				if f.Severity == host.Problem {
					problems++
				}
			}
			if a.output == "json" {
				if err := a.printJSON(findings); err != nil {
					return err
				}
			} else {
				a.printFindings(findings, problems)
			}
			if problems > 0 {
				return exitStatus(1)
			}
			return nil
		},
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) printFindings(findings []host.Finding, problems int) {
	for _, f := range findings {
		a.printf("%-8s %s", f.Severity, f.What)
		if f.Why != "" {
			a.printf(": %s", f.Why)
		}
		a.printf("\n")
		if f.Cure != "" {
			a.printf("         type: %s\n", f.Cure)
		}
	}
	if problems == 0 {
		a.printf("this machine can be a hypervisor\n")
		return
	}
	a.printf("%s to mend\n", counted(problems, "problem"))
}

func (a *app) hostCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "host", Short: "Prepare this machine"})
	var dry bool
	setup := &cobra.Command{
		Use:   "setup",
		Short: "Install and start what a hypervisor needs",
		Long: `Install and start libvirt, QEMU and firmware on this machine, and make the system
user that BMCs run as. Says what it does, and does nothing twice.`,
		Example: "  tenks host setup\n  tenks host setup --dry-run     only say what would be done",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lv := a.libvirt(a.libvirtSocket)
			defer func() { _ = lv.Close() }()
			changed, err := host.Setup(cmd.Context(), host.SetupOptions{
				Options: host.Options{StateDir: a.root, LibvirtSocket: a.libvirtSocket, User: bmcUser, Libvirt: lv.Ping, VirtType: lv.VirtType},
				Say:     func(line string) { a.printf("%s\n", line) },
				DryRun:  dry,
			})
			if err == nil && !changed {
				a.printf("nothing to do\n")
			}
			return err
		},
	}
	setup.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	cmd.AddCommand(setup)
	return cmd
}
