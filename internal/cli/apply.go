package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tenks/tenks/internal/apply"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/plan"
)

func (a *app) applyCommand() *cobra.Command {
	var parallel int
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the cluster what the file says",
		Long: `Make the cluster what the file says. What is right already is left alone: a
second apply finds nothing to do. An apply that was interrupted is simply run
again.`,
		Example: `  tenks apply
  tenks apply --file lab.yaml
  tenks apply -o json              one JSON object per event`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := config.Load(a.file)
			if err != nil {
				return err
			}
			return a.change(cmd.Context(), "apply", file.Cluster, &file, changeOptions{parallel: parallel})
		},
	}
	cmd.Flags().IntVar(&parallel, "parallel", 0, "steps at the same time on one hypervisor (default 8)")
	a.outputFlag(cmd)
	return cmd
}

func (a *app) destroyCommand() *cobra.Command {
	var parallel int
	var yes, leave bool
	cmd := &cobra.Command{
		Use:   "destroy [CLUSTER]",
		Short: "Remove the cluster, and leave the host as it was",
		Long: `Remove everything that Tenks has made for the cluster. It needs the cluster's
name and no file: named, or the one of the file, or the only one on this machine.`,
		Example: "  tenks destroy\n  tenks destroy lab --yes",
		Args:    mayName,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := a.clusterOf(args, cmd.Flags().Changed("file"))
			if err != nil {
				return err
			}
			ask := func() error { return a.confirm(name) }
			if yes || a.output == "json" || !isTerminal(a.io.In) {
				ask = nil
			}
			return a.change(cmd.Context(), "destroy", name, nil, changeOptions{parallel: parallel, ask: ask, leaveIronic: leave})
		},
		ValidArgsFunction: a.completeCluster,
	}
	cmd.Flags().IntVar(&parallel, "parallel", 0, "steps at the same time on one hypervisor (default 8)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&leave, "leave-ironic", false, "leave the nodes in Ironic, for an Ironic that is gone for good")
	a.outputFlag(cmd)
	return cmd
}

// confirm asks at the terminal.
func (a *app) confirm(name string) error {
	a.note("Remove cluster %s with all its nodes and their disks? [y/N] ", name)
	line, _ := bufio.NewReader(a.io.In).ReadString('\n')
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y") {
		return nil
	}
	return errors.New("nothing was removed")
}

// changeOptions adjust change.
type changeOptions struct {
	parallel    int
	ask         func() error // asked before anything is removed; nil: nobody is
	leaveIronic bool         // the bare metal service is not asked, and nothing in it is changed
}

// change turns the cluster into what file says; nil: into nothing.
func (a *app) change(ctx context.Context, command, name string, file *config.File, o changeOptions) error {
	w, err := a.worker()
	if err != nil {
		return err
	}
	s := &session{name: name, worker: hypervisor.Worker(w), leaveIronic: o.leaveIronic}
	defer s.close()
	// Locked before anything is read: what is found stays true.
	release, err := s.lock(ctx, command)
	if err != nil {
		return err
	}
	defer release()
	if s, err = a.read(ctx, s, file); err != nil {
		return err
	}
	p, _, err := s.plan(file)
	if err != nil {
		return err
	}
	a.printUnknown(p.Unknown)
	if o.ask != nil && !p.Empty() {
		if err := a.printPlan(p); err != nil {
			return err
		}
		if err := o.ask(); err != nil {
			return err
		}
	}
	events := a.progress()
	result := apply.Run(ctx, p, s.workers(), s.enroller, apply.Options{Parallel: o.parallel, Log: a.log, Events: events.event})
	if file == nil && result.Errs == nil && ctx.Err() == nil {
		result.Errs = s.worker.Tidy(ctx, name)
	}
	return a.summary(ctx, command, name, p, result, events)
}

// summary says how it went, and returns the exit status.
func (a *app) summary(ctx context.Context, command, name string, p plan.Plan, r apply.Result, pr *progress) error {
	pr.end()
	if r.Errs != nil {
		a.printError(r.Errs)
	}
	switch {
	case a.output == "json":
		_ = json.NewEncoder(a.io.Out).Encode(map[string]any{"event": "end", "cluster": name, "done": r.Done, "failed": r.Failed, "skipped": r.Skipped, "unknown": len(p.Unknown)})
	case p.Empty() && len(p.Unknown) == 0 && command == "destroy":
		a.printf("nothing to do: there is no cluster %s here\n", name)
	case p.Empty():
		a.printf("%s", p.Text(nil))
	case r.Failed+r.Skipped == 0:
		a.printf("%s: %s done in %s\n", command, counted(r.Done, "step"), short(time.Since(pr.began)))
	default:
		a.printf("%s: %s done, %d failed, %d skipped\n", command, counted(r.Done, "step"), r.Failed, r.Skipped)
		advice := "mend what is named above and run"
		if ctx.Err() != nil { // nothing is broken
			advice = "run"
		}
		a.note("tenks: hint: %s tenks %s again: it goes on where this one stopped\n", advice, command)
	}
	if len(p.Unknown) > 0 && r.Failed+r.Skipped == 0 && a.output != "json" {
		a.note("tenks: hint: run tenks %s again when what is unknown answers: nothing was done there\n", command)
		if command == "destroy" && slices.ContainsFunc(p.Unknown, func(u cluster.Unknown) bool { return u.Hypervisor == "" }) {
			a.note("tenks: hint: if Ironic is gone for good: tenks destroy %s --leave-ironic\n", name)
		}
	}
	if r.Failed+r.Skipped > 0 || len(p.Unknown) > 0 || r.Errs != nil {
		return exitStatus(1)
	}
	return nil
}

// short is a duration as people say it.
func short(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// progress shows how far a run is: a line that rewrites itself on a terminal,
// plain lines in a pipe, JSON lines with -o json.
type progress struct {
	a     *app
	began time.Time
	width int // of the terminal; 0: there is none

	mu   sync.Mutex
	line bool // a line that rewrites itself is on the screen
}

func (a *app) progress() *progress {
	pr := &progress{a: a, began: time.Now()}
	// If the output goes to a file, it is to have the plain lines.
	if out, ok := a.io.Out.(*os.File); ok && isTerminal(out) && isTerminal(a.io.Err) {
		pr.width = 80
		if w, _, err := term.GetSize(int(out.Fd())); err == nil && w > 0 {
			pr.width = w
		}
	}
	return pr
}

// eventJSON is one line of -o json.
type eventJSON struct {
	Event      string        `json:"event"` // start, done, failed, skipped
	Stage      string        `json:"stage"`
	Hypervisor string        `json:"hypervisor,omitempty"`
	Changes    []plan.Change `json:"changes"`
	Seconds    float64       `json:"seconds,omitempty"`
	Finished   int           `json:"finished"` // changes that are behind us, done or not
	Total      int           `json:"total"`
	Error      string        `json:"error,omitempty"`
	Hint       string        `json:"hint,omitempty"`
}

func (pr *progress) event(e apply.Event) {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	switch {
	case pr.a.output == "json":
		out := eventJSON{Event: string(e.Kind), Stage: e.Stage, Hypervisor: e.Step.Where(), Changes: e.Step.Changes(),
			Seconds: e.Took.Seconds(), Finished: e.Finished, Total: e.Total}
		if e.Err != nil {
			out.Error, out.Hint = oneLine(e.Err), hint.Of(e.Err)
		}
		_ = json.NewEncoder(pr.a.io.Out).Encode(out)
	case pr.width > 0:
		pr.line = true
		pr.a.note("\r\x1b[K%s", cut(fmt.Sprintf("[%d/%d] %s: %s", e.Finished, e.Total, e.Stage, firstChange(e.Step)), pr.width-1))
	case e.Kind == apply.Done:
		for _, c := range e.Step.Changes() {
			pr.a.printf("%s: %s\n", plan.Place(e.Step.Where()), c)
		}
	}
}

// cut is text that fits in a line of the terminal: one that does not cannot be
// taken back.
func cut(text string, width int) string {
	r := []rune(text)
	if len(r) <= width {
		return text
	}
	return string(r[:max(width-1, 0)]) + "…"
}

// end takes the line that rewrites itself off the screen.
func (pr *progress) end() {
	if pr.line {
		pr.a.note("\r\x1b[K")
	}
}

func firstChange(s plan.Step) string {
	all := s.Changes()
	switch len(all) {
	case 0:
		return ""
	case 1:
		return all[0].Object
	}
	return fmt.Sprintf("%s and %d more", all[0].Object, len(all)-1)
}
