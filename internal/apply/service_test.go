package apply_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/plan"
)

// service is a bare metal service in memory.
type service struct {
	fail func(n int, s plan.Step) error // asked before every step
	down error                          // what Observe returns

	mu    sync.Mutex
	calls int
	nodes map[string]cluster.Enrolment
}

var _ enrol.Enroller = (*service)(nil)

func (*service) ID() string { return "cloud:test" }

func (s *service) Observe(context.Context, string) (enrol.Found, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var f enrol.Found
	for _, e := range s.nodes {
		e.Password = "" // Ironic never tells
		f.Enrolments = append(f.Enrolments, e)
	}
	return f, s.down
}

func (s *service) Do(_ context.Context, _ string, step plan.Step) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.nodes == nil {
		s.nodes = map[string]cluster.Enrolment{}
	}
	var fault error
	if s.fail != nil {
		fault = s.fail(s.calls, step)
	}
	switch step := step.(type) {
	case plan.Enrol:
		if fault != nil {
			step.Enrolment.State = "enroll" // killed midway: it is there, and not ready
		}
		s.nodes[step.Enrolment.Node] = step.Enrolment
	case plan.UpdateEnrolment:
		if fault == nil {
			s.nodes[step.New.Node] = step.New
		}
	case plan.Unenrol:
		if fault == nil {
			delete(s.nodes, step.Enrolment.Node)
		}
	default:
		return fmt.Errorf("the service does not carry out %T", step)
	}
	return fault
}

func (s *service) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for n := range s.nodes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
