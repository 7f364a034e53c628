package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenks/tenks/internal/apply"
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
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := config.Load(a.file)
			if err != nil {
				return err
			}
			return a.change(cmd.Context(), "apply", file.Cluster, &file, parallel, nil)
		},
	}
	cmd.Flags().IntVar(&parallel, "parallel", 0, "steps at the same time on one hypervisor (default 8)")
	a.outputFlag(cmd)
	return cmd
}

func (a *app) destroyCommand() *cobra.Command {
	var parallel int
	var yes bool
	cmd := &cobra.Command{
		Use:   "destroy [CLUSTER]",
		Short: "Remove the cluster, and leave the host as it was",
		Long: `Remove everything that Tenks has made for the cluster. It needs the cluster's
name and no file: named, or the one of the file, or the only one on this machine.`,
		Example: "  tenks destroy\n  tenks destroy lab --yes",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := a.clusterOf(args, cmd.Flags().Changed("file"))
			if err != nil {
				return err
			}
			ask := func() error { return a.confirm(name) }
			if yes || a.output == "json" || !isTerminal(a.io.In) {
				ask = nil
			}
			return a.change(cmd.Context(), "destroy", name, nil, parallel, ask)
		},
		ValidArgsFunction: a.completeCluster,
	}
	cmd.Flags().IntVar(&parallel, "parallel", 0, "steps at the same time on one hypervisor (default 8)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
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

// change turns the cluster into what file says; nil: into nothing.
func (a *app) change(ctx context.Context, command, name string, file *config.File, parallel int, ask func() error) error {
	w, err := a.worker()
	if err != nil {
		return err
	}
	s := &session{name: name, worker: hypervisor.Worker(w)}
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
	if ask != nil && !p.Empty() {
		if err := a.printPlan(p); err != nil {
			return err
		}
		if err := ask(); err != nil {
			return err
		}
	}
	events := a.progress(p)
	result := apply.Run(ctx, p, s.workers(), s.enroller, apply.Options{Parallel: parallel, Log: a.log, Events: events.event})
	if file == nil && result.Errs == nil && ctx.Err() == nil {
		result.Errs = s.worker.Tidy(ctx, name)
	}
	return a.summary(command, name, p, result, events)
}

// summary says how it went, and returns the exit status.
func (a *app) summary(command, name string, p plan.Plan, r apply.Result, pr *progress) error {
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
		a.printf("nothing to do\n")
	case r.Failed+r.Skipped == 0:
		a.printf("%s: %s done in %s\n", command, counted(r.Done, "step"), time.Since(pr.began).Round(100*time.Millisecond))
	default:
		a.printf("%s: %s done, %d failed, %d skipped\n", command, counted(r.Done, "step"), r.Failed, r.Skipped)
		a.note("tenks: hint: mend what is named above and run tenks %s again: it goes on where this one stopped\n", command)
	}
	if r.Failed+r.Skipped > 0 || len(p.Unknown) > 0 || r.Errs != nil {
		return exitStatus(1)
	}
	return nil
}

// progress shows how far a run is: a line that rewrites itself on a terminal,
// plain lines in a pipe, JSON lines with -o json.
type progress struct {
	a     *app
	began time.Time
	total int

	mu   sync.Mutex
	done int
	line bool // a line that rewrites itself is on the screen
}

func (a *app) progress(p plan.Plan) *progress {
	pr := &progress{a: a, began: time.Now()}
	for _, st := range p.Stages {
		pr.total += len(st.Steps)
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
	Error      string        `json:"error,omitempty"`
	Hint       string        `json:"hint,omitempty"`
}

func (pr *progress) event(e apply.Event) {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	if e.Kind != apply.Started {
		pr.done++
	}
	switch {
	case pr.a.output == "json":
		out := eventJSON{Event: string(e.Kind), Stage: e.Stage, Hypervisor: e.Step.Where(), Changes: e.Step.Changes(), Seconds: e.Took.Seconds()}
		if e.Err != nil {
			out.Error, out.Hint = e.Err.Error(), hint.Of(e.Err)
		}
		_ = json.NewEncoder(pr.a.io.Out).Encode(out)
	case isTerminal(pr.a.io.Err):
		pr.line = true
		pr.a.note("\r\x1b[K[%d/%d] %s: %s", pr.done, pr.total, e.Stage, firstChange(e.Step))
	case e.Kind == apply.Done:
		for _, c := range e.Step.Changes() {
			pr.a.printf("%s%s\n", prefix(e.Step.Where()), c)
		}
	}
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
