// Package observe reads all hypervisors and the bare metal service at once into
// one State: the cluster as it is. It changes nothing and judges nothing. What
// does not answer in time is unknown, and holds up nobody else.
package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/hypervisor"
)

// Options adjust Read. The zero value is usable.
type Options struct {
	Limit time.Duration // for each hypervisor, and for the service; 0 means 45 seconds
}

// Read asks the workers, and e unless it is nil, what there is of the cluster.
// Whoever has an error, or no answer in time, is in Unknown with the cause;
// nothing of a partial answer is used. Lists are sorted by hypervisor and name.
func Read(ctx context.Context, clusterName string, workers []hypervisor.Worker, e enrol.Enroller, o Options) cluster.State {
	limit := cmp.Or(o.Limit, 45*time.Second)
	parts := make([]cluster.State, len(workers)+1) // one slot each: no lock, stable order
	var all sync.WaitGroup
	for i, w := range workers {
		all.Go(func() {
			s, err := ask(ctx, limit, func(ctx context.Context) (cluster.State, error) { return w.Observe(ctx, clusterName) })
			if err != nil {
				s = cluster.State{Unknown: []cluster.Unknown{{Hypervisor: w.Name(), Cause: cause(err)}}}
			}
			for i := range s.Unknown {
				s.Unknown[i].Hypervisor = w.Name() // empty would be the service
			}
			parts[i] = s
		})
	}
	if e != nil {
		all.Go(func() {
			f, err := ask(ctx, limit, func(ctx context.Context) (enrol.Found, error) { return e.Observe(ctx, clusterName) })
			s := cluster.State{Enrolments: f.Enrolments, Strangers: f.Strangers}
			if err != nil {
				s = cluster.State{Unknown: []cluster.Unknown{{Cause: cause(err)}}}
			}
			parts[len(workers)] = s
		})
	}
	all.Wait()
	return merge(clusterName, parts)
}

// ask calls f with a time limit. It does not wait for an f that ignores the
// limit: f only reads, so it may end whenever it likes.
func ask[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		v, err := f(ctx)
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil && ctx.Err() != nil {
			a.err = context.Cause(ctx) // says more than "deadline exceeded"
		}
		return a.value, a.err
	case <-ctx.Done():
		var nothing T
		return nothing, context.Cause(ctx)
	}
}

// cause is an error in words, with its advice: an Unknown is plain data.
func cause(err error) string {
	if advice := hint.Of(err); advice != "" {
		return fmt.Sprintf("%v (%s)", err, advice)
	}
	return err.Error()
}

// merge puts the parts together and sorts them.
func merge(clusterName string, parts []cluster.State) cluster.State {
	s := cluster.State{Cluster: clusterName}
	for _, p := range parts {
		s.Unknown = append(s.Unknown, p.Unknown...)
		s.Pools = append(s.Pools, p.Pools...)
		s.Networks = append(s.Networks, p.Networks...)
		s.Taps = append(s.Taps, p.Taps...)
		s.Nodes = append(s.Nodes, p.Nodes...)
		s.BMCs = append(s.BMCs, p.BMCs...)
		s.Clouds = append(s.Clouds, p.Clouds...)
		s.Enrolments = append(s.Enrolments, p.Enrolments...)
		s.Strangers = append(s.Strangers, p.Strangers...)
	}
	by(s.Unknown, func(u cluster.Unknown) []string { return []string{u.Hypervisor, u.Provider} })
	by(s.Pools, func(p cluster.Pool) []string { return []string{p.Hypervisor, p.Name} })
	by(s.Networks, func(n cluster.Network) []string { return []string{n.Hypervisor, n.Name} })
	by(s.Taps, func(t cluster.Tap) []string { return []string{t.Hypervisor, t.Name} })
	by(s.Nodes, func(n cluster.Node) []string { return []string{n.Hypervisor, n.Name, n.Provider} })
	by(s.BMCs, func(b cluster.BMC) []string { return []string{b.Hypervisor, b.Node} })
	by(s.Clouds, func(c cluster.Cloud) []string { return []string{c.Hypervisor} })
	by(s.Enrolments, func(e cluster.Enrolment) []string { return []string{e.Node} })
	by(s.Strangers, func(x cluster.Stranger) []string { return []string{x.Hypervisor, string(x.Kind), x.Name} })
	return s
}

func by[T any](list []T, key func(T) []string) {
	slices.SortStableFunc(list, func(a, b T) int { return slices.Compare(key(a), key(b)) })
}
