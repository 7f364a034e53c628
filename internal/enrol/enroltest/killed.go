package enroltest

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/plan"
)

// killed carries a step out and kills it at its n-th change of the service:
// before the change is made, or after it while the answer is on its way. It
// returns false if the step ended before.
func (s Service) killed(t *testing.T, clusterName string, step plan.Step, n int, after bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	killed := false
	changes := 0
	kill := func(count bool) func(*http.Request) {
		return func(r *http.Request) {
			if r.Method == http.MethodGet {
				return
			}
			if count {
				changes++
			}
			if changes == n && count != after {
				killed = true
				cancel()
				// The server sees that the client has gone when it has read all.
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}
		}
	}
	arrived := make(chan struct{}, 100)
	front := s.front(t, kill(true), func(r *http.Request) {
		kill(false)(r)
		arrived <- struct{}{}
	})
	e := s.Open(t, front)
	err := e.Do(ctx, clusterName, step)
	if !killed && ctx.Err() == nil {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if err == nil {
		t.Fatal("no error although it was killed")
	}
	for range changes - 1 {
		<-arrived
	}
	if after {
		select {
		case <-arrived:
		case <-time.After(patience):
			t.Fatal("the last change was not carried out")
		}
	}
	return true
}

// everywhere kills a step at each of its changes. prepare makes the state
// before the step, check looks at what a run after the kill has made of it.
func (s Service) everywhere(t *testing.T, clusterName string, step plan.Step, prepare, check func()) {
	t.Helper()
	for _, after := range []bool{false, true} {
		const most = 20
		n := 1
		for ; n < most; n++ {
			prepare()
			if !s.killed(t, clusterName, step, n, after) {
				break
			}
			check()
			if t.Failed() {
				t.Fatalf("killed at change %d (after it: %v)", n, after)
			}
		}
		if n < 2 || n == most {
			t.Fatalf("the step has %d changes", n-1)
		}
	}
}

func testKilledEnrolling(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	want := Wanted("suite-killed", "killed-0")
	clean(t, e, "suite-killed", want)
	s.everywhere(t, "suite-killed", plan.Enrol{Enrolment: want},
		func() { do(t, e, "suite-killed", plan.Unenrol{Enrolment: want}) },
		func() {
			found := observe(t, e, "suite-killed").Enrolments
			if len(found) == 1 && found[0].State == "available" && !equal(found[0], want) {
				t.Errorf("a node that is not complete is available: %+v", found)
			}
			do(t, e, "suite-killed", plan.Enrol{Enrolment: want})
			same(t, e, "suite-killed", want)
		})
}

func testKilledUpdating(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	old := Wanted("suite-killed", "killed-1")
	want := different(old)
	clean(t, e, "suite-killed", old)
	do(t, e, "suite-killed", plan.Enrol{Enrolment: old})
	s.everywhere(t, "suite-killed", plan.UpdateEnrolment{Old: old, New: want},
		func() { do(t, e, "suite-killed", plan.UpdateEnrolment{Old: want, New: old}) },
		func() {
			found := observe(t, e, "suite-killed").Enrolments
			if len(found) != 1 {
				t.Fatalf("found %+v", found)
			}
			if equal(found[0], want) {
				return // a plan has nothing left to do
			}
			do(t, e, "suite-killed", plan.UpdateEnrolment{Old: found[0], New: want})
			same(t, e, "suite-killed", want)
		})
}

func testKilledUnenrolling(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	want := Wanted("suite-killed", "killed-2")
	clean(t, e, "suite-killed", want)
	s.everywhere(t, "suite-killed", plan.Unenrol{Enrolment: want},
		func() { do(t, e, "suite-killed", plan.Enrol{Enrolment: want}) },
		func() {
			do(t, e, "suite-killed", plan.Unenrol{Enrolment: want})
			same(t, e, "suite-killed")
		})
}

// equal tells whether a plan would see no difference.
func equal(got, want cluster.Enrolment) bool {
	want.Password = ""
	return reflect.DeepEqual(got, want)
}
