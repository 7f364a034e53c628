// Package hypervisortest has a hypervisor in memory: a worker that keeps every
// promise of package hypervisor, can be told to break one, and refuses what a
// real hypervisor could not do. It tests what stands above a worker: plans,
// their order, and how they are carried out.
package hypervisortest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/plan"
)

// Worker is a hypervisor in memory. The zero value, given a Hypervisor, works.
type Worker struct {
	Hypervisor string // its name

	// Fail, if set, is asked before every step with the number of the call
	// of Do, from 1. If it returns an error, the step is not carried out.
	Fail func(n int, s plan.Step) error
	// Torn makes a step with many objects that Fail stops take effect on
	// the first half of them, as if it had been killed midway.
	Torn bool
	// Down, if set, is what Observe returns: the hypervisor does not answer.
	Down error
	// Unknown are providers that do not answer, and why: their nodes and
	// pools are not among those that Observe returns.
	Unknown map[string]string
	// Strangers are what others have here.
	Strangers []cluster.Stranger

	mu       sync.Mutex
	clusters map[string]*cluster.State
	holders  map[string]hypervisor.Holder
	calls    int
	steps    []plan.Step
}

var _ hypervisor.Worker = (*Worker)(nil)

// Name implements [hypervisor.Worker].
func (w *Worker) Name() string { return w.Hypervisor }

// Calls returns how often Do was called: what it counts is what would have
// changed something.
func (w *Worker) Calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// Steps returns the steps that were carried out, in that order.
func (w *Worker) Steps() []plan.Step {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.steps)
}

// Change lets a test do to a cluster what the world does behind Tenks' back.
func (w *Worker) Change(clusterName string, f func(*cluster.State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.state(clusterName))
}

// state returns the cluster's state; w.mu is held.
func (w *Worker) state(clusterName string) *cluster.State {
	if w.clusters == nil {
		w.clusters = map[string]*cluster.State{}
	}
	if w.clusters[clusterName] == nil {
		w.clusters[clusterName] = &cluster.State{Cluster: clusterName}
	}
	return w.clusters[clusterName]
}

// Observe implements [hypervisor.Worker].
func (w *Worker) Observe(ctx context.Context, clusterName string) (cluster.State, error) {
	if err := ctx.Err(); err != nil {
		return cluster.State{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Down != nil {
		return cluster.State{}, w.Down
	}
	s := *w.state(clusterName)
	s.Pools, s.Networks, s.Taps = slices.Clone(s.Pools), slices.Clone(s.Networks), slices.Clone(s.Taps)
	s.Nodes, s.BMCs, s.Clouds = slices.Clone(s.Nodes), slices.Clone(s.BMCs), slices.Clone(s.Clouds)
	s.Strangers = slices.Clone(w.Strangers)
	for provider, cause := range w.Unknown {
		s.Unknown = append(s.Unknown, cluster.Unknown{Hypervisor: w.Hypervisor, Provider: provider, Cause: cause})
		s.Nodes = slices.DeleteFunc(s.Nodes, func(n cluster.Node) bool { return n.Provider == provider })
		if provider == cluster.Libvirt {
			s.Pools = nil
		}
	}
	return s, nil
}

// Do implements [hypervisor.Worker].
func (w *Worker) Do(ctx context.Context, clusterName string, s plan.Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Where() != w.Hypervisor {
		return fmt.Errorf("this is hypervisor %s: the step is for %q", w.Hypervisor, s.Where())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	var fault error
	if w.Fail != nil {
		if fault = w.Fail(w.calls, s); fault != nil {
			if s = half(s); !w.Torn || s == nil {
				return fault
			}
		}
	}
	if err := w.carryOut(w.state(clusterName), s); err != nil {
		return errors.Join(fault, err)
	}
	w.steps = append(w.steps, s)
	return fault
}

// half is the first half of a step with many objects; nil if there is none.
func half(s plan.Step) plan.Step {
	switch s := s.(type) {
	case plan.CreateTaps:
		if n := len(s.Taps) / 2; n > 0 {
			s.Taps = s.Taps[:n]
			return s
		}
	case plan.DeleteTaps:
		if n := len(s.Taps) / 2; n > 0 {
			s.Taps = s.Taps[:n]
			return s
		}
	case plan.CreateBMCs:
		if n := len(s.BMCs) / 2; n > 0 {
			s.BMCs = s.BMCs[:n]
			return s
		}
	case plan.DeleteBMCs:
		if n := len(s.BMCs) / 2; n > 0 {
			s.BMCs = s.BMCs[:n]
			return s
		}
	}
	return nil
}

// carryOut changes the state as the step says, or says why that cannot be.
func (w *Worker) carryOut(st *cluster.State, s plan.Step) error {
	switch s := s.(type) {
	case plan.CreatePool:
		st.Pools = put(st.Pools, s.Pool, poolName)
	case plan.DeletePool:
		return deletePool(st, s.Pool)
	case plan.CreateNetwork:
		return w.putNetwork(st, s.Network)
	case plan.UpdateNetwork:
		return w.putNetwork(st, s.New)
	case plan.DeleteNetwork:
		st.Networks = remove(st.Networks, s.Network.Name, networkName)
		for i, t := range st.Taps {
			if t.Bridge == s.Network.Bridge {
				st.Taps[i].Bridge = "" // the kernel lets them go
			}
		}
	case plan.CreateTaps:
		return createTaps(st, s.Taps)
	case plan.DeleteTaps:
		return deleteTaps(st, s.Taps)
	case plan.CreateNode:
		return w.putNode(st, s.Node, cluster.PowerOff)
	case plan.UpdateNode:
		i := slices.IndexFunc(st.Nodes, func(n cluster.Node) bool { return n.Name == s.New.Name })
		if i < 0 {
			return fmt.Errorf("node %s is not there", s.New.Name)
		}
		return w.putNode(st, s.New, st.Nodes[i].Power)
	case plan.DeleteNode:
		st.Nodes = remove(st.Nodes, s.Node.Name, nodeName)
	case plan.CreateBMCs:
		return w.putBMCs(st, s.BMCs)
	case plan.UpdateBMCs:
		return w.putBMCs(st, s.New)
	case plan.DeleteBMCs:
		for _, b := range s.BMCs {
			st.BMCs = remove(st.BMCs, b.Node, bmcNode)
		}
	case plan.RememberCloud:
		st.Clouds = []cluster.Cloud{s.Cloud}
	case plan.ForgetCloud:
		st.Clouds = nil
	default:
		return fmt.Errorf("hypervisors do not carry out %T", s)
	}
	return nil
}

func poolName(p cluster.Pool) string       { return p.Name }
func networkName(n cluster.Network) string { return n.Name }
func tapName(t cluster.Tap) string         { return t.Name }
func nodeName(n cluster.Node) string       { return n.Name }
func bmcNode(b cluster.BMC) string         { return b.Node }

// put replaces the object of that name, or adds it.
func put[T any](list []T, x T, name func(T) string) []T {
	return append(remove(list, name(x), name), x)
}

func remove[T any](list []T, gone string, name func(T) string) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return name(x) == gone })
}

func has[T any](list []T, wanted string, name func(T) string) bool {
	return slices.ContainsFunc(list, func(x T) bool { return name(x) == wanted })
}

func deletePool(st *cluster.State, p cluster.Pool) error {
	for _, n := range st.Nodes {
		for _, v := range n.Volumes {
			if v.Pool == p.Name {
				return fmt.Errorf("pool %s still holds volume %s", p.Name, v.Name)
			}
		}
	}
	st.Pools = remove(st.Pools, p.Name, poolName)
	return nil
}

func (w *Worker) putNetwork(st *cluster.State, n cluster.Network) error {
	for _, o := range st.Networks {
		if o.Name != n.Name && o.Uplink == n.Uplink && n.Uplink != "" {
			return fmt.Errorf("uplink %s is in the bridge of physical network %s", n.Uplink, o.Name)
		}
	}
	for _, link := range []string{n.Bridge, n.UplinkPort, n.UplinkPeer} {
		if err := w.stranger(cluster.StrangerLink, link); err != nil {
			return err
		}
	}
	st.Networks = put(st.Networks, n, networkName)
	return nil
}

func createTaps(st *cluster.State, taps []cluster.Tap) error {
	for _, t := range taps {
		if !slices.ContainsFunc(st.Networks, func(n cluster.Network) bool { return n.Bridge == t.Bridge }) {
			return fmt.Errorf("tap %s: there is no bridge %s", t.Name, t.Bridge)
		}
		st.Taps = put(st.Taps, t, tapName)
	}
	return nil
}

func deleteTaps(st *cluster.State, taps []cluster.Tap) error {
	for _, t := range taps {
		for _, n := range st.Nodes {
			for _, p := range n.Ports {
				if p.Tap == t.Name {
					return fmt.Errorf("tap %s is used by node %s", t.Name, n.Name)
				}
			}
		}
		st.Taps = remove(st.Taps, t.Name, tapName)
	}
	return nil
}

func (w *Worker) putNode(st *cluster.State, n cluster.Node, power cluster.Power) error {
	if err := cmp.Or(w.stranger(cluster.StrangerDomain, n.Name), w.stranger(cluster.StrangerUUID, n.UUID)); err != nil {
		return err
	}
	for _, v := range n.Volumes {
		if v.Pool != "" && !has(st.Pools, v.Pool, poolName) {
			return fmt.Errorf("node %s: there is no pool %s", n.Name, v.Pool)
		}
	}
	for _, p := range n.Ports {
		if p.Tap != "" && !has(st.Taps, p.Tap, tapName) {
			return fmt.Errorf("node %s: there is no tap %s", n.Name, p.Tap)
		}
	}
	n.Power = power
	st.Nodes = put(st.Nodes, n, nodeName)
	return nil
}

func (w *Worker) putBMCs(st *cluster.State, bmcs []cluster.BMC) error {
	all := st.BMCs
	for _, b := range bmcs {
		if !has(st.Nodes, b.Node, nodeName) {
			return fmt.Errorf("there is no node %s to have a BMC", b.Node)
		}
		all = put(all, b, bmcNode)
	}
	used := map[string]string{} // all at once: one process has them all
	for _, b := range all {
		at := fmt.Sprintf("%s:%d", b.Address, b.Port)
		if other, taken := used[at]; taken {
			return fmt.Errorf("BMCs of %s and %s both have %s", other, b.Node, at)
		}
		used[at] = b.Node
		if err := w.stranger(cluster.StrangerUDP, at); err != nil {
			return err
		}
	}
	st.BMCs = all
	return nil
}

func (w *Worker) stranger(kind cluster.StrangerKind, name string) error {
	for _, s := range w.Strangers {
		if s.Kind == kind && s.Name == name {
			return fmt.Errorf("%s %s is taken: %s", kind, name, s.Owner)
		}
	}
	return nil
}

// Lock implements [hypervisor.Worker].
func (w *Worker) Lock(_ context.Context, clusterName string, h hypervisor.Holder) (func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if other, held := w.holders[clusterName]; held {
		return nil, &hypervisor.LockedError{Hypervisor: w.Hypervisor, Cluster: clusterName, Holder: other}
	}
	if w.holders == nil {
		w.holders = map[string]hypervisor.Holder{}
	}
	w.holders[clusterName] = h
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.holders, clusterName)
	}), nil
}

// Console implements [hypervisor.Worker]: it reads back what was written to it.
func (w *Worker) Console(_ context.Context, clusterName string, n cluster.Node, _ bool) (io.ReadWriteCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !has(w.state(clusterName).Nodes, n.Name, nodeName) {
		return nil, fmt.Errorf("node %s is not there", n.Name)
	}
	return &console{}, nil
}

type console struct{ bytes.Buffer }

func (*console) Close() error { return nil }

// Close implements [hypervisor.Worker].
func (w *Worker) Close() error { return nil }

// Tidy implements [hypervisor.Worker]. Nothing is kept here but the state.
func (w *Worker) Tidy(context.Context, string) error { return nil }
