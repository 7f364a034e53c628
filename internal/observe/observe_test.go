package observe_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/hypervisor/hypervisortest"
	"github.com/tenks/tenks/internal/observe"
	"github.com/tenks/tenks/internal/plan"
)

// service is a bare metal service that answers what it is told to.
type service struct {
	enrol.Enroller // what is not below is not called
	found          enrol.Found
	err            error
	wait           time.Duration
}

func (s *service) Observe(ctx context.Context, _ string) (enrol.Found, error) {
	select {
	case <-time.After(s.wait):
		return s.found, s.err
	case <-ctx.Done():
		return enrol.Found{}, ctx.Err()
	}
}

// slow is a worker that takes its time, and may not listen when told to stop.
type slow struct {
	*hypervisortest.Worker
	wait time.Duration
	deaf bool
}

func (s *slow) Observe(ctx context.Context, name string) (cluster.State, error) {
	stop := ctx.Done()
	if s.deaf {
		stop = nil
	}
	select {
	case <-time.After(s.wait):
		return s.Worker.Observe(context.WithoutCancel(ctx), name)
	case <-stop:
		return cluster.State{}, fmt.Errorf("read: %w", ctx.Err())
	}
}

// worker has a synthetic node with a BMC.
func worker(t *testing.T, name, node string) *hypervisortest.Worker {
	t.Helper()
	w := &hypervisortest.Worker{Hypervisor: name}
	ctx := context.Background()
	for _, s := range []plan.Step{
		plan.CreateNode{Node: cluster.Node{Name: node, Hypervisor: name, Provider: cluster.Synthetic}},
		plan.CreateBMCs{Hypervisor: name, BMCs: []cluster.BMC{{Node: node, Hypervisor: name, Address: "127.64.0.1"}}},
	} {
		if err := w.Do(ctx, "dev", s); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func nodes(s cluster.State) []string {
	var out []string
	for _, n := range s.Nodes {
		out = append(out, n.Hypervisor+"/"+n.Name)
	}
	return out
}

// All parts are put together and sorted, whoever answers first.
func TestRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &slow{Worker: worker(t, "hv1", "dev-1"), wait: 5 * time.Second}, worker(t, "hv2", "dev-0")
		b.Strangers = []cluster.Stranger{{Hypervisor: "hv2", Kind: cluster.StrangerLink, Name: "eth0"}}
		e := &service{found: enrol.Found{
			Enrolments: []cluster.Enrolment{{Node: "dev-1"}, {Node: "dev-0"}},
			Strangers:  []cluster.Stranger{{Kind: cluster.StrangerNode, Name: "rack7"}},
		}}
		began := time.Now()
		s := observe.Read(t.Context(), "dev", []hypervisor.Worker{b, a}, e, observe.Options{})
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v: the slowest alone takes 5 s", took)
		}
		if diff := cmp.Diff([]string{"hv1/dev-1", "hv2/dev-0"}, nodes(s)); diff != "" {
			t.Error(diff)
		}
		if s.Cluster != "dev" || len(s.BMCs) != 2 || s.Enrolments[0].Node != "dev-0" || s.Strangers[0].Name != "rack7" || s.Strangers[1].Name != "eth0" || s.Unknown != nil {
			t.Errorf("%+v", s)
		}
	})
}

// An error makes a hypervisor unknown, with its cause and the way out; nothing
// of a partial answer is used, and the others are there.
func TestErrorIsUnknown(t *testing.T) {
	a, b := worker(t, "hv1", "dev-0"), worker(t, "hv2", "dev-1")
	a.Down = hint.Add(errors.New("ssh: no route to host"), "see whether hv1 is on")
	e := &service{found: enrol.Found{Enrolments: []cluster.Enrolment{{Node: "dev-0"}}}, err: errors.New("503 Service Unavailable")}
	s := observe.Read(t.Context(), "dev", []hypervisor.Worker{a, b}, e, observe.Options{})
	want := []cluster.Unknown{{Cause: "503 Service Unavailable"}, {Hypervisor: "hv1", Cause: "ssh: no route to host (see whether hv1 is on)"}}
	if diff := cmp.Diff(want, s.Unknown); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"hv2/dev-1"}, nodes(s)); diff != "" || s.Enrolments != nil || len(s.BMCs) != 1 {
		t.Errorf("%s\n%+v", diff, s)
	}
}

// A provider that does not answer is unknown alone, and named with the
// hypervisor: without one it would be the bare metal service.
func TestProviderIsUnknown(t *testing.T) {
	a := worker(t, "hv1", "dev-0")
	a.Unknown = map[string]string{cluster.Libvirt: "libvirtd does not run"}
	s := observe.Read(t.Context(), "dev", []hypervisor.Worker{a}, nil, observe.Options{})
	want := []cluster.Unknown{{Hypervisor: "hv1", Provider: cluster.Libvirt, Cause: "libvirtd does not run"}}
	if diff := cmp.Diff(want, s.Unknown); diff != "" || len(s.Nodes) != 1 {
		t.Errorf("%s\n%+v", diff, s)
	}
}

// Who does not answer in time is unknown, holds up nobody, and is not waited for
// though it does not listen.
func TestNoAnswer(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := &slow{worker(t, "hv1", "dev-0"), time.Hour, deaf}, worker(t, "hv2", "dev-1")
			e := &service{wait: time.Hour}
			began := time.Now()
			s := observe.Read(t.Context(), "dev", []hypervisor.Worker{a, b}, e, observe.Options{Limit: 3 * time.Second})
			if took := time.Since(began); took != 3*time.Second {
				t.Errorf("took %v, the limit is 3 s", took)
			}
			want := []cluster.Unknown{{Cause: "no answer within 3s"}, {Hypervisor: "hv1", Cause: "no answer within 3s"}}
			if diff := cmp.Diff(want, s.Unknown); diff != "" || len(s.Nodes) != 1 {
				t.Errorf("%s\n%+v", diff, s)
			}
			time.Sleep(2 * time.Hour) // those that do not listen end too
		})
	}
}

// Ctrl-C ends the reading at once, and is what everybody's cause says.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("interrupted")) })
		a := &slow{worker(t, "hv1", "dev-0"), time.Minute, false}
		began := time.Now()
		s := observe.Read(ctx, "dev", []hypervisor.Worker{a}, nil, observe.Options{})
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		if len(s.Unknown) != 1 || s.Unknown[0].Cause != "interrupted" {
			t.Errorf("%+v", s.Unknown)
		}
	})
}
