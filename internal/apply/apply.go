// Package apply carries a plan out: stage after stage, hypervisors side by
// side, so many steps at a time, each with a time limit. It decides nothing but
// one thing: a step that stands on something that failed is skipped.
//
// An error does not cancel other steps. An apply that was interrupted is simply
// run again, with a new plan.
package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/plan"
)

// Options adjust Run. The zero value is usable.
type Options struct {
	Parallel  int           // steps at the same time on one hypervisor, and in the service; 0 means 8
	StepTime  time.Duration // limit for one step, and for each further 1,000 objects in it; 0 means 2 minutes
	EnrolTime time.Duration // limit for one step in the bare metal service; 0 means 10 minutes
	Grace     time.Duration // how long a step may go on after its limit or a cancellation; 0 means 10 seconds
	Events    func(Event)   // told what happens, one event at a time; may be nil
	Log       *slog.Logger  // one record per step; nil discards
}

// Kind of an event.
type Kind string

// Kinds of events. A step that starts is done or failed later; one that is
// skipped does not start.
const (
	Started Kind = "start"
	Done    Kind = "done"
	Failed  Kind = "failed"
	Skipped Kind = "skipped"
)

// Event is what happened to a step. If some of the objects of a step are
// skipped and the others are not, there are two steps from then on.
type Event struct {
	Kind  Kind
	Stage string
	Step  plan.Step
	Took  time.Duration // Done and Failed
	Err   error         // Failed: what went wrong; Skipped: why
	// Finished is how many changes of the plan are behind us, done or not,
	// and Total how many it has.
	Finished, Total int
}

// Result is what became of a plan's steps.
type Result struct {
	Done, Failed, Skipped int   // steps
	Errs                  error // of the failed steps, joined, in plan order; and why it was cancelled
}

// errNoService and errNoWorker are mistakes of the caller.
var (
	errNoService = errors.New("no bare metal service to carry it out")
	errNoWorker  = errors.New("no such hypervisor")
)

// Run carries out p and returns when nothing of it is under way. Steps are
// carried out by the worker of their hypervisor, or by e, which may be nil if
// the plan has no steps for it.
//
// When ctx is done, running steps are told to stop and waited for, Options.Grace
// at the most; nothing new starts, and the cause is among the errors.
func Run(ctx context.Context, p plan.Plan, workers map[string]hypervisor.Worker, e enrol.Enroller, o Options) Result {
	r := &run{
		cluster: p.Cluster, workers: workers, enroller: e,
		parallel:  cmp.Or(o.Parallel, 8),
		stepTime:  cmp.Or(o.StepTime, 2*time.Minute),
		enrolTime: cmp.Or(o.EnrolTime, 10*time.Minute),
		grace:     cmp.Or(o.Grace, 10*time.Second),
		events:    o.Events, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		blocked: map[key]string{},
	}
	for _, st := range p.Stages {
		for _, s := range st.Steps {
			r.total += len(s.Changes())
		}
	}
	var errs []error
	for _, st := range p.Stages {
		errs = append(errs, r.stage(ctx, st)...)
	}
	if ctx.Err() != nil && r.result.Failed+r.result.Skipped > 0 {
		errs = append(errs, fmt.Errorf("stopped: %w", context.Cause(ctx)))
	}
	r.result.Errs = errors.Join(errs...)
	return r.result
}

// run is a Run under way.
type run struct {
	cluster   string
	workers   map[string]hypervisor.Worker
	enroller  enrol.Enroller
	parallel  int
	stepTime  time.Duration
	enrolTime time.Duration
	grace     time.Duration
	events    func(Event)
	log       *slog.Logger
	total     int

	mu       sync.Mutex // of what follows; held while events are told
	finished int
	result   Result

	blocked map[key]string // what failed, and in which words; changes between stages only
}

// stage carries out the steps of a stage that can be. A slow hypervisor holds
// up no other.
func (r *run) stage(ctx context.Context, st plan.Stage) []error {
	todo := make([]plan.Step, len(st.Steps)) // nil: skipped
	var blocks []block
	byPlace := map[string][]int{}
	for i, s := range st.Steps {
		rest, skipped := r.split(s)
		for _, sk := range skipped {
			r.report(ctx, Event{Kind: Skipped, Stage: st.Name, Step: sk.step, Err: sk.reason})
			blocks = append(blocks, block{sk.step, "was skipped"})
		}
		if rest != nil {
			todo[i] = rest
			byPlace[s.Where()] = append(byPlace[s.Where()], i)
		}
	}
	errs := make([]error, len(todo)) // one slot per step: no lock, plan order
	stopped := make([]bool, len(todo))
	var all sync.WaitGroup
	for _, mine := range byPlace {
		all.Go(func() {
			slots := make(chan struct{}, r.parallel)
			var steps sync.WaitGroup
			for _, i := range mine {
				slots <- struct{}{}
				steps.Go(func() {
					defer func() { <-slots }()
					if stopped[i] = ctx.Err() != nil; !stopped[i] {
						errs[i] = r.timed(ctx, st.Name, todo[i])
					}
				})
			}
			steps.Wait()
		})
	}
	all.Wait()
	for i, s := range todo {
		switch {
		case stopped[i]:
			r.report(ctx, Event{Kind: Skipped, Stage: st.Name, Step: s, Err: fmt.Errorf("stopped: %w", context.Cause(ctx))})
			blocks = append(blocks, block{s, "was skipped"})
		case errs[i] != nil:
			blocks = append(blocks, block{s, "failed"})
		}
	}
	for _, b := range blocks {
		r.block(b)
	}
	return errs
}

// timed carries out a step with a time limit, and tells about it. The error
// names the hypervisor and the object.
func (r *run) timed(ctx context.Context, stage string, s plan.Step) error {
	r.report(ctx, Event{Kind: Started, Stage: stage, Step: s})
	limit := r.stepTime * time.Duration(1+size(s)/1000)
	if s.Where() == "" {
		limit = r.enrolTime
	}
	began := time.Now()
	err := r.limited(ctx, limit, s)
	if err == nil {
		r.report(ctx, Event{Kind: Done, Stage: stage, Step: s, Took: time.Since(began)})
		return nil
	}
	err = name(s, err)
	r.report(ctx, Event{Kind: Failed, Stage: stage, Step: s, Took: time.Since(began), Err: err})
	return err
}

// limited carries out a step. One that does not stop when its time is over is
// left behind: better an error now than a program that hangs.
func (r *run) limited(ctx context.Context, limit time.Duration, s plan.Step) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %s", limit))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.do(ctx, s) }() // a panic in there ends the program, as it should
	select {
	case err := <-done:
		return because(ctx, err)
	case <-ctx.Done():
	}
	late := time.NewTimer(r.grace)
	defer late.Stop()
	select {
	case err := <-done:
		return because(ctx, err)
	case <-late.C:
		return fmt.Errorf("%w, and did not stop", context.Cause(ctx))
	}
}

// because puts the cause of a cancellation in the place of the bare "context
// canceled" that comes back.
func because(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// do is the one place where a step becomes an action.
func (r *run) do(ctx context.Context, s plan.Step) error {
	if s.Where() == "" {
		if r.enroller == nil {
			return errNoService
		}
		return r.enroller.Do(ctx, r.cluster, s)
	}
	w := r.workers[s.Where()]
	if w == nil {
		return errNoWorker
	}
	return w.Do(ctx, r.cluster, s)
}

// report counts, logs and tells what happened.
func (r *run) report(ctx context.Context, e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind != Started {
		r.finished += size(e.Step)
	}
	e.Finished, e.Total = r.finished, r.total
	attrs := []slog.Attr{slog.String("stage", e.Stage), slog.String("hypervisor", where(e.Step)), slog.String("object", object(e.Step))}
	switch e.Kind {
	case Done:
		r.result.Done++
		r.log.LogAttrs(ctx, slog.LevelInfo, "step done", append(attrs, slog.Duration("took", e.Took))...)
	case Failed:
		r.result.Failed++
		r.log.LogAttrs(ctx, slog.LevelDebug, "step failed", append(attrs, slog.Duration("took", e.Took))...) // the error is returned
	case Skipped:
		r.result.Skipped++
		r.log.LogAttrs(ctx, slog.LevelDebug, "step skipped", append(attrs, slog.Any("why", e.Err))...)
	}
	if r.events != nil {
		r.events(e)
	}
}

// name says in an error where it happened and to what. A hint stays; parts
// that were joined stay apart.
func name(s plan.Step, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && errors.Join(joined.Unwrap()...).Error() == err.Error() {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, name(s, e))
		}
		return errors.Join(errs...)
	}
	err = roomier(s, err)
	if what := object(s); !strings.HasPrefix(err.Error(), what+": ") { // some name it themselves
		err = fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", where(s), err)
}

// roomier is err with advice if it says that a disk is full. Those who say so
// are many, and some of them are programs that only give a text (strerror(3)).
func roomier(s plan.Step, err error) error {
	const full = "no space left on device"
	if hint.Of(err) != "" || !strings.Contains(strings.ToLower(err.Error()), full) {
		return err
	}
	return hint.Add(err, "make room on %s (df -h shows where) and run it again", where(s))
}

func where(s plan.Step) string { return plan.Place(s.Where()) }

// object is what a step is about: "node dev-0", "BMC of dev-0 and 9 more".
func object(s plan.Step) string {
	all := s.Changes()
	switch len(all) {
	case 0:
		return fmt.Sprintf("%T", s)
	case 1:
		return all[0].Object
	}
	return fmt.Sprintf("%s and %d more", all[0].Object, len(all)-1)
}

// size is how many objects a step changes.
func size(s plan.Step) int { return len(s.Changes()) }
