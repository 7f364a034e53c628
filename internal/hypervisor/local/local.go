// Package local is the worker for the machine it runs on: it hands each step of
// a plan to the provider, the network or the BMC process that the step is
// about. It decides nothing.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tenks/tenks/internal/bmc/deploy"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/network"
	"github.com/tenks/tenks/internal/plan"
	"github.com/tenks/tenks/internal/provider"
)

// Worker acts on this machine.
type Worker struct {
	Hypervisor string                       // its name in the cluster file
	Providers  map[string]provider.Provider // by cluster.Libvirt, cluster.Synthetic
	Networks   network.Networks             // nil: this machine has no physical networks
	BMCs       *deploy.Host
	OnClose    func() error // ends the connections of what is above; may be nil
}

var _ hypervisor.Worker = (*Worker)(nil)

// Name implements [hypervisor.Worker].
func (w *Worker) Name() string { return w.Hypervisor }

// Close implements [hypervisor.Worker].
func (w *Worker) Close() error {
	if w.OnClose == nil {
		return nil
	}
	return w.OnClose()
}

// platformTime is how long a platform may take to say what there is. It is less
// than who asks a hypervisor waits for all of it: a platform that hangs is
// unknown, and the rest is not.
const platformTime = 30 * time.Second

// Observe implements [hypervisor.Worker]. Everything is asked side by side.
func (w *Worker) Observe(ctx context.Context, clusterName string) (cluster.State, error) {
	var (
		mu   sync.Mutex
		st   = cluster.State{Cluster: clusterName}
		errs []error
		all  sync.WaitGroup
	)
	for _, name := range slices.Sorted(maps.Keys(w.Providers)) {
		all.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, platformTime,
				hint.Add(fmt.Errorf("no answer within %s", platformTime), "see whether %s hangs, and restart it; or run: tenks doctor", name))
			defer cancel()
			found, err := w.Providers[name].Observe(ctx, clusterName)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				// A platform that the cluster has never used here has
				// nothing of it, whether it answers or not.
				if w.BMCs.Uses(clusterName, name) {
					st.Unknown = append(st.Unknown, cluster.Unknown{Hypervisor: w.Hypervisor, Provider: name, Cause: cause(err)})
				}
				return
			}
			st.Pools = append(st.Pools, found.Pools...)
			st.Nodes = append(st.Nodes, found.Nodes...)
			st.Strangers = append(st.Strangers, found.Strangers...)
		})
	}
	if w.Networks != nil {
		all.Go(func() {
			found, err := w.Networks.Observe(ctx, clusterName)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("networks: %w", err))
				return
			}
			st.Networks, st.Taps = found.Networks, found.Taps
			st.Strangers = append(st.Strangers, found.Strangers...)
		})
	}
	all.Go(func() {
		found, err := w.BMCs.Observe(ctx, clusterName)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, fmt.Errorf("BMCs: %w", err))
			return
		}
		st.BMCs = found.BMCs
		if found.Cloud != "" {
			st.Clouds = []cluster.Cloud{{ID: found.Cloud}}
		}
		st.Strangers = append(st.Strangers, found.Strangers...)
	})
	all.Wait()
	w.claim(&st)
	return st, errors.Join(errs...)
}

// cause is an error as it stands in an Unknown, with its way out.
func cause(err error) string {
	if h := hint.Of(err); h != "" {
		return err.Error() + " (" + h + ")"
	}
	return err.Error()
}

// claim writes this hypervisor's name into everything that was found here.
func (w *Worker) claim(st *cluster.State) {
	for i := range st.Pools {
		st.Pools[i].Hypervisor = w.Hypervisor
	}
	for i := range st.Networks {
		st.Networks[i].Hypervisor = w.Hypervisor
	}
	for i := range st.Taps {
		st.Taps[i].Hypervisor = w.Hypervisor
	}
	for i := range st.Nodes {
		st.Nodes[i].Hypervisor = w.Hypervisor
	}
	for i := range st.BMCs {
		st.BMCs[i].Hypervisor = w.Hypervisor
	}
	for i := range st.Clouds {
		st.Clouds[i].Hypervisor = w.Hypervisor
	}
	for i := range st.Strangers {
		st.Strangers[i].Hypervisor = w.Hypervisor
	}
}

// Do implements [hypervisor.Worker].
func (w *Worker) Do(ctx context.Context, c string, s plan.Step) error {
	switch s := s.(type) {
	case plan.CreatePool:
		st, err := w.storage()
		if err != nil {
			return err
		}
		if err := w.BMCs.Use(c, cluster.Libvirt); err != nil {
			return err
		}
		return st.CreatePool(ctx, c, s.Pool)
	case plan.DeletePool:
		st, err := w.storage()
		if err != nil {
			return err
		}
		return st.DeletePool(ctx, c, s.Pool)
	case plan.CreateNode, plan.UpdateNode, plan.DeleteNode:
		return w.doNode(ctx, c, s)
	case plan.CreateNetwork, plan.UpdateNetwork, plan.DeleteNetwork, plan.CreateTaps, plan.DeleteTaps:
		return w.doNetwork(ctx, c, s)
	case plan.CreateBMCs:
		return w.BMCs.Create(ctx, c, s.BMCs)
	case plan.UpdateBMCs:
		return w.BMCs.Update(ctx, c, s.New)
	case plan.DeleteBMCs:
		return w.BMCs.Delete(ctx, c, s.BMCs)
	case plan.RememberCloud:
		return w.BMCs.RememberCloud(ctx, c, s.Cloud.ID)
	case plan.ForgetCloud:
		return w.BMCs.ForgetCloud(ctx, c)
	}
	return fmt.Errorf("a worker does not carry out %T", s)
}

func (w *Worker) doNode(ctx context.Context, c string, s plan.Step) error {
	name := ""
	switch s := s.(type) {
	case plan.CreateNode:
		name = s.Node.Provider
	case plan.UpdateNode:
		name = s.New.Provider
	case plan.DeleteNode:
		name = s.Node.Provider
	}
	p, ok := w.Providers[name]
	if !ok {
		return fmt.Errorf("hypervisor %s has no provider %q", w.Hypervisor, name)
	}
	switch s := s.(type) {
	case plan.CreateNode:
		if err := w.BMCs.Use(c, name); err != nil {
			return err
		}
		return p.Create(ctx, c, s.Node)
	case plan.UpdateNode:
		return p.Update(ctx, c, s.Old, s.New)
	case plan.DeleteNode:
		return p.Delete(ctx, c, s.Node)
	}
	return nil
}

func (w *Worker) doNetwork(ctx context.Context, c string, s plan.Step) error {
	if w.Networks == nil {
		return fmt.Errorf("hypervisor %s has no physical networks", w.Hypervisor)
	}
	switch s := s.(type) {
	case plan.CreateNetwork:
		return w.Networks.Create(ctx, c, s.Network)
	case plan.UpdateNetwork:
		return w.Networks.Update(ctx, c, s.Old, s.New)
	case plan.DeleteNetwork:
		return w.Networks.Delete(ctx, c, s.Network)
	case plan.CreateTaps:
		return w.Networks.CreateTaps(ctx, c, s.Taps)
	case plan.DeleteTaps:
		return w.Networks.DeleteTaps(ctx, c, s.Taps)
	}
	return nil
}

// Tidy implements [hypervisor.Worker].
func (w *Worker) Tidy(ctx context.Context, c string) error {
	found, err := w.Observe(ctx, c)
	if err != nil {
		return err
	}
	left := len(found.Unknown) + len(found.Pools) + len(found.Networks) + len(found.Taps) + len(found.Nodes) + len(found.BMCs) + len(found.Clouds)
	if left > 0 {
		return nil
	}
	for name := range w.Providers {
		if err := w.BMCs.Unuse(c, name); err != nil {
			return err
		}
	}
	return w.BMCs.Sweep(c)
}

func (w *Worker) storage() (provider.Storage, error) {
	st, ok := w.Providers[cluster.Libvirt].(provider.Storage)
	if !ok {
		return nil, fmt.Errorf("hypervisor %s has no storage pools", w.Hypervisor)
	}
	return st, nil
}

// Lock implements [hypervisor.Worker].
func (w *Worker) Lock(ctx context.Context, c string, h hypervisor.Holder) (func(), error) {
	release, err := w.BMCs.Lock(ctx, c, deploy.Holder(h))
	var locked *deploy.LockedError
	if errors.As(err, &locked) {
		return nil, hint.Add(&hypervisor.LockedError{Hypervisor: w.Hypervisor, Cluster: c, Holder: hypervisor.Holder(locked.Holder)},
			"wait until it has ended; the lock ends with process %d, however that ends", locked.Holder.PID)
	}
	return release, err
}

// Console implements [hypervisor.Worker].
func (w *Worker) Console(ctx context.Context, c string, n cluster.Node, force bool) (io.ReadWriteCloser, error) {
	p, ok := w.Providers[n.Provider].(provider.Consoler)
	if !ok {
		return nil, hint.Add(fmt.Errorf("node %s: a %s node has no console", n.Name, n.Provider),
			"consoles are of libvirt nodes; see tenks status for which those are")
	}
	return p.Console(ctx, c, n.Name, force)
}
