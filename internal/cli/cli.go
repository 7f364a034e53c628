// Package cli is the command line: it parses flags, connects the parts, and
// prints. It is the only package that names concrete platforms (connect.go).
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/hint"
)

// ErrInterrupted is the cause of a context that a signal ended.
var ErrInterrupted = errors.New("interrupted")

// Streams are what the program reads from and writes to.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// exitStatus is an error that only sets the exit status: all has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// app is what all commands share.
type app struct {
	version string
	io      Streams
	log     *slog.Logger

	// flags of all commands
	file          string
	root          string // state folder
	libvirtSocket string
	output        string // "", json
	verbose       bool
}

// Run runs the command line and returns the exit status: 0, 1 for a failure, 2
// for changes under plan --detailed-exitcode, 130 if ctx was interrupted.
func Run(ctx context.Context, version string, args []string, s Streams) int {
	a := &app{version: version, io: s}
	root := a.command()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var status exitStatus
	if !errors.As(err, &status) {
		a.printError(err)
		status = 1
	}
	if errors.Is(context.Cause(ctx), ErrInterrupted) {
		return 130
	}
	return int(status)
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "tenks",
		Short: "Clusters of virtual bare metal, from one file",
		Long: `Tenks makes clusters of virtual bare metal: machines that an Ironic conductor, a
Metal3 operator or a person with ipmitool cannot tell from servers in a rack.

One file says what is wanted. "tenks apply" makes it so, "tenks status" shows it,
and "tenks destroy" leaves the host as it was found.`,
		Example: `  tenks init                 write a cluster file to start from
  tenks host setup           install and start what a hypervisor needs
  tenks plan                 what would apply do?
  tenks apply                do it
  tenks status               nodes, power, BMC addresses
  tenks console dev-0        the serial console of a node
  tenks destroy              take it all down again`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelWarn
			if a.verbose {
				level = slog.LevelDebug
			}
			a.log = slog.New(slog.NewTextHandler(a.io.Err, &slog.HandlerOptions{Level: level}))
			if a.output != "" && a.output != "json" {
				return hint.Add(fmt.Errorf("unknown output format %q", a.output), "use -o json, or leave it out")
			}
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.file, "file", "f", defaultFile, "cluster file")
	f.StringVar(&a.root, "state-dir", fromEnv("TENKS_STATE_DIR", "/var/lib/tenks"), "where BMCs and their credentials are kept (TENKS_STATE_DIR)")
	f.StringVar(&a.libvirtSocket, "libvirt-socket", fromEnv("TENKS_LIBVIRT_SOCKET", "/run/libvirt/libvirt-sock"), "libvirt's socket (TENKS_LIBVIRT_SOCKET)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log what happens to standard error")

	_ = root.MarkPersistentFlagFilename("file", "yaml", "yml")
	root.SetFlagErrorFunc(usage)
	root.AddCommand(a.initCommand(), a.validateCommand(), a.planCommand(), a.applyCommand(), a.statusCommand(),
		a.destroyCommand(), a.consoleCommand(), a.bmcCommand(), a.doctorCommand(), a.hostCommand(), a.versionCommand())
	return root
}

const defaultFile = "tenks.yaml"

func fromEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// outputFlag adds -o to commands that have something to say in JSON.
func (a *app) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.output, "output", "o", "", "json: for programs")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.io.Out, format, args...) }

// note writes to standard error: progress, and what is not the result.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.io.Err, format, args...) }

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.io.Out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printError prints every error that was joined into err, with its frame of the
// cluster file and its advice. Advice that is the same for one error after the
// other is given once, below the last.
func (a *app) printError(err error) {
	pending := "" // advice of the errors above
	advise := func() {
		if pending != "" {
			a.note("tenks: hint: %s\n", pending)
		}
		pending = ""
	}
	hint.Each(err, func(err error, advice string) {
		if advice != pending {
			advise()
		}
		a.note("tenks: error: %s\n", oneLine(err))
		pending = advice
		var m *config.Mistake
		if errors.As(err, &m) && m.Frame != "" {
			a.note("%s\n", m.Frame)
			advise()
		}
	})
	advise()
}

// oneLine is the text of an error in one line: those of other programs may have
// several.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// isTerminal tells whether f is a terminal.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			a.printf("tenks %s\n", a.version)
			return nil
		},
	}
}

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "init [CLUSTER]",
		Short:   "Write a cluster file to start from",
		Long:    "Write a short, commented cluster file. A file that exists is never overwritten.",
		Example: "  tenks init\n  tenks init lab --file lab.yaml",
		Args:    mayName,
		RunE: func(_ *cobra.Command, args []string) error {
			name := "dev"
			if len(args) == 1 {
				name = args[0]
			}
			if err := config.CheckCluster(name); err != nil {
				return err
			}
			text := config.NewFile(name)
			f, err := os.OpenFile(a.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, os.ErrExist) {
				return hint.Add(fmt.Errorf("%s exists already", a.file), "name another one: tenks init --file OTHER.yaml")
			}
			if err != nil {
				return err
			}
			_, err = f.WriteString(text)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			a.printf("wrote %s; next: tenks plan --file %s\n", a.file, filepath.Clean(a.file))
			return nil
		},
	}
}

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "validate",
		Short:   "Check the cluster file, and nothing else",
		Example: "  tenks validate --file lab.yaml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := config.Load(a.file)
			if err != nil {
				return err
			}
			nodes := 0
			for _, s := range f.Specs {
				nodes += s.Count
			}
			a.printf("%s is valid: cluster %s, %s\n", a.file, f.Cluster, counted(nodes, "node"))
			return nil
		},
	}
}

// counted is "1 node", "3 nodes".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
