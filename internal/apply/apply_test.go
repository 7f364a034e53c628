package apply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/apply"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/plan"
)

// script is a hypervisor that does what a test says.
type script struct {
	hypervisor.Worker // what is not below is not called
	name              string
	do                func(context.Context, plan.Step) error

	mu      sync.Mutex
	running int
	most    int
	done    []string
}

func (s *script) Name() string { return s.name }

func (s *script) Do(ctx context.Context, clusterName string, step plan.Step) error {
	if clusterName != "dev" {
		return fmt.Errorf("cluster %q", clusterName)
	}
	s.mu.Lock()
	s.running++
	s.most = max(s.most, s.running)
	s.mu.Unlock()
	var err error
	if s.do != nil {
		err = s.do(ctx, step)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if err == nil {
		s.done = append(s.done, step.Changes()[0].Object)
	}
	return err
}

func on(workers ...*script) map[string]hypervisor.Worker {
	m := map[string]hypervisor.Worker{}
	for _, w := range workers {
		m[w.name] = w
	}
	return m
}

func create(h string, names ...string) []plan.Step {
	var steps []plan.Step
	for _, n := range names {
		steps = append(steps, plan.CreateNode{Node: cluster.Node{Name: n, Hypervisor: h}})
	}
	return steps
}

func dev(stages ...plan.Stage) plan.Plan { return plan.Plan{Cluster: "dev", Stages: stages} }

// said returns every error with its hint.
func said(err error) []string {
	var out []string
	hint.Each(err, func(err error, advice string) { out = append(out, strings.TrimSuffix(err.Error()+" / "+advice, " / ")) })
	return out
}

// Errors name place and object once, whoever named them already, and keep their
// advice; all are there, in the order of the plan, and nobody else is stopped.
func TestErrors(t *testing.T) {
	hv := &script{name: "hv1", do: func(_ context.Context, s plan.Step) error {
		switch s.Changes()[0].Object {
		case "node a":
			return hint.Add(errors.New("no such machine type"), "install qemu-system-x86")
		case "node b":
			return errors.New("node b: volume b-vol0: No space left on device")
		case "node c":
			return errors.Join(errors.New("one"), errors.New("two"))
		}
		return nil
	}}
	p := dev(plan.Stage{Name: "create nodes", Steps: append(create("hv1", "a", "b", "c", "d"), create("hv9", "e")...)},
		plan.Stage{Name: "enrol nodes", Steps: []plan.Step{plan.Enrol{Enrolment: cluster.Enrolment{Node: "d"}}}})
	r := apply.Run(t.Context(), p, on(hv), nil, apply.Options{})
	want := []string{
		"hv1: node a: no such machine type / install qemu-system-x86",
		"hv1: node b: volume b-vol0: No space left on device / make room on hv1 (df -h shows where) and run it again",
		"hv1: node c: one", "hv1: node c: two",
		"hv9: node e: no such hypervisor",
		"Ironic: enrolment of d: no bare metal service to carry it out",
	}
	if diff := cmp.Diff(want, said(r.Errs)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if r.Done != 1 || r.Failed != 5 || r.Skipped != 0 {
		t.Errorf("%+v", r)
	}
}

// What stands on something that failed is skipped, with why; what does not is
// done, also in the same bulk step.
func TestSkipped(t *testing.T) {
	node := func(n string) cluster.Node {
		return cluster.Node{Name: n, Hypervisor: "hv1", Volumes: []cluster.Volume{{Name: n + "-vol0", Pool: "tenks-dev"}}}
	}
	hv := &script{name: "hv1", do: func(_ context.Context, s plan.Step) error {
		if n, ok := s.(plan.CreateNode); ok && n.Node.Name == "a" {
			return errors.New("broken")
		}
		return nil
	}}
	var events []string
	p := dev(plan.Stage{Name: "create pools", Steps: []plan.Step{plan.CreatePool{Pool: cluster.Pool{Name: "tenks-dev", Hypervisor: "hv1"}}}},
		plan.Stage{Name: "create nodes", Steps: []plan.Step{plan.CreateNode{Node: node("a")}, plan.CreateNode{Node: node("b")}}},
		plan.Stage{Name: "create BMCs", Steps: []plan.Step{plan.CreateBMCs{Hypervisor: "hv1", BMCs: []cluster.BMC{{Node: "a", Hypervisor: "hv1"}, {Node: "b", Hypervisor: "hv1"}}}}},
		plan.Stage{Name: "enrol nodes", Steps: []plan.Step{plan.Enrol{Enrolment: cluster.Enrolment{Node: "a"}}, plan.Enrol{Enrolment: cluster.Enrolment{Node: "b"}}}})
	s := &service{}
	finished := 0
	r := apply.Run(t.Context(), p, on(hv), s, apply.Options{Parallel: 1, Events: func(e apply.Event) {
		if e.Total != 7 || e.Finished < finished {
			t.Errorf("%d of %d after %d", e.Finished, e.Total, finished)
		}
		finished = e.Finished
		if e.Kind == apply.Skipped {
			events = append(events, e.Err.Error())
		}
	}})
	if diff := cmp.Diff([]string{
		"hv1: BMC of a: skipped, since hv1: node a failed",
		"Ironic: enrolment of a: skipped, since hv1: node a failed",
	}, events); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"storage pool tenks-dev", "node b", "BMC of b"}, hv.done); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b"}, s.names()); diff != "" || r.Done != 4 || r.Failed != 1 || r.Skipped != 2 || finished != 7 {
		t.Errorf("%s %+v, %d finished", diff, r, finished)
	}
}

// A hypervisor has so many steps at a time and no more, and a slow one holds up
// no other within a stage.
func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := func(context.Context, plan.Step) error { time.Sleep(time.Second); return nil }
		a, b := &script{name: "hv1", do: second}, &script{name: "hv2", do: second}
		steps := append(create("hv1", "1", "2", "3", "4", "5", "6", "7"), create("hv2", "8", "9")...)
		began := time.Now()
		r := apply.Run(t.Context(), dev(plan.Stage{Name: "create nodes", Steps: steps}), on(a, b), nil, apply.Options{Parallel: 3})
		if took := time.Since(began); took != 3*time.Second { // ⌈7/3⌉
			t.Errorf("took %v", took)
		}
		if a.most != 3 || b.most != 2 || r.Done != 9 {
			t.Errorf("%d and %d at a time, %+v", a.most, b.most, r)
		}
	})
}

// A stage begins when the one before has ended.
func TestStages(t *testing.T) {
	hv := &script{name: "hv1"}
	p := dev(plan.Stage{Name: "one", Steps: create("hv1", "a")}, plan.Stage{Name: "two", Steps: create("hv1", "b")}, plan.Stage{Name: "three", Steps: create("hv1", "c")})
	apply.Run(t.Context(), p, on(hv), nil, apply.Options{})
	if diff := cmp.Diff([]string{"node a", "node b", "node c"}, hv.done); diff != "" {
		t.Error(diff)
	}
}

// When the user interrupts, running steps may end in good order, nothing new
// starts, and the cause is told once.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		hv := &script{name: "hv1", do: func(ctx context.Context, s plan.Step) error {
			if s.Changes()[0].Object == "node a" {
				cancel(errors.New("interrupted (interrupt)"))
				time.Sleep(time.Second) // it ends what it is about
				return nil
			}
			<-ctx.Done()
			return fmt.Errorf("rpc: %w", ctx.Err())
		}}
		began := time.Now()
		r := apply.Run(ctx, dev(plan.Stage{Name: "one", Steps: create("hv1", "a", "b", "c")}, plan.Stage{Name: "two", Steps: create("hv1", "d")}), on(hv), nil, apply.Options{Parallel: 2})
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		got := said(r.Errs)
		if got[len(got)-1] != "stopped: interrupted (interrupt)" || r.Done != 1 || r.Failed != 1 || r.Skipped != 2 {
			t.Errorf("%q %+v", got, r)
		}
		for _, line := range got {
			if strings.Contains(line, "context canceled") {
				t.Errorf("a user does not know what this is: %s", line)
			}
		}
	})
}

// A step that hangs is given up: after its limit if it listens, and after the
// grace if it does not. The limit grows with the number of objects.
func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		deaf bool
		took time.Duration
		err  string
	}{
		"listens": {false, 5 * time.Second, "hv1: node a: not done within 5s"},
		"deaf":    {true, 7 * time.Second, "hv1: node a: not done within 5s, and did not stop"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hv := &script{name: "hv1", do: func(ctx context.Context, _ plan.Step) error {
					if tt.deaf {
						time.Sleep(time.Hour)
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				}}
				began := time.Now()
				r := apply.Run(t.Context(), dev(plan.Stage{Name: "x", Steps: create("hv1", "a")}), on(hv), nil,
					apply.Options{StepTime: 5 * time.Second, Grace: 2 * time.Second})
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v", took)
				}
				if diff := cmp.Diff([]string{tt.err}, said(r.Errs)); diff != "" {
					t.Error(diff)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		hv := &script{name: "hv1", do: func(context.Context, plan.Step) error { time.Sleep(14 * time.Second); return nil }}
		taps := make([]cluster.Tap, 2000)
		p := dev(plan.Stage{Name: "create taps", Steps: []plan.Step{plan.CreateTaps{Hypervisor: "hv1", Taps: taps}}})
		if r := apply.Run(t.Context(), p, on(hv), nil, apply.Options{StepTime: 5 * time.Second, Grace: time.Second}); r.Errs != nil {
			t.Errorf("2,000 taps have three times the limit of one: %v", r.Errs)
		}
	})
}

// The log has a record for each step, and no secrets; a failure is returned and
// so not a warning as well.
func TestLog(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	hv := &script{name: "hv1", do: func(_ context.Context, s plan.Step) error {
		if _, ok := s.(plan.CreateNode); ok {
			return errors.New("broken")
		}
		return nil
	}}
	p := dev(plan.Stage{Name: "update BMCs", Steps: []plan.Step{plan.UpdateBMCs{Hypervisor: "hv1", Old: []cluster.BMC{{Node: "z", Password: "s3cret"}}, New: []cluster.BMC{{Node: "z", Password: "s3cret2"}}}}},
		plan.Stage{Name: "create nodes", Steps: create("hv1", "a")},
		plan.Stage{Name: "create BMCs", Steps: []plan.Step{plan.CreateBMCs{Hypervisor: "hv1", BMCs: []cluster.BMC{{Node: "a", Password: "s3cret"}}}}})
	apply.Run(t.Context(), p, on(hv), nil, apply.Options{Log: log})
	for _, want := range []string{
		`level=INFO msg="step done" stage="update BMCs" hypervisor=hv1 object="BMC of z"`,
		`level=DEBUG msg="step failed" stage="create nodes" hypervisor=hv1 object="node a"`,
		`level=DEBUG msg="step skipped" stage="create BMCs" hypervisor=hv1 object="BMC of a"`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no record %s in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "s3cret") || strings.Contains(b.String(), "WARN") {
		t.Errorf("%s", b.String())
	}
}

// Nothing to do is nothing done, also for an apply that is interrupted already.
func TestNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := apply.Run(ctx, plan.Plan{Cluster: "dev"}, nil, nil, apply.Options{}); r != (apply.Result{}) {
		t.Errorf("%+v", r)
	}
}
