// Package providertest is the suite that every provider passes: the promises of
// package provider, as a test.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/machine"
	"github.com/tenks/tenks/internal/provider"
)

// step is the longest that one call may take.
const step = 2 * time.Minute

// Taps are the names of the taps of all nodes that the suite makes. A provider
// whose nodes need them to be there makes them before [Run] is called.
func Taps() []string {
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("pt%d", i))
	}
	return names
}

// Run tests a provider. open is called for every test of the suite; what it
// returns may share a platform with what it returned before, for each test
// has clusters of its own and removes them. The two values may be one.
func Run(t *testing.T, open func(t *testing.T) (provider.Provider, provider.Controls)) {
	for _, tt := range []struct {
		name string
		test func(*suite)
	}{
		{"create", (*suite).create},
		{"create again", (*suite).createAgain},
		{"interrupted create", (*suite).interrupted},
		{"update", (*suite).update},
		{"update of a running node", (*suite).updateRunning},
		{"update of an absent node", (*suite).updateAbsent},
		{"delete", (*suite).remove},
		{"two clusters", (*suite).twoClusters},
		{"power", (*suite).power},
		{"power of an absent node", (*suite).powerAbsent},
		{"concurrent use", (*suite).concurrent},
		{"done context", (*suite).doneContext},
		{"pool", (*suite).pool},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := open(t)
			s := &suite{T: t, p: p, c: c, cluster: "pt-" + strings.ReplaceAll(tt.name, " ", "-")}
			s.ctx = t.Context()
			s.makePool(s.cluster)
			tt.test(s)
		})
	}
}

// suite is one test of the suite.
type suite struct {
	*testing.T
	p       provider.Provider
	c       provider.Controls
	cluster string
	ctx     context.Context //nolint:containedctx // a test's own
}

func poolOf(clusterName string) cluster.Pool {
	return cluster.Pool{Name: cluster.PoolName(clusterName), UUID: cluster.PoolUUID(clusterName), Active: true}
}

// makePool makes the cluster's pool, where the platform has pools, and removes
// all of the cluster at the end of the test.
func (s *suite) makePool(clusterName string) {
	s.Helper()
	storage, ok := s.p.(provider.Storage)
	if ok {
		if err := storage.CreatePool(s.ctx, clusterName, poolOf(clusterName)); err != nil {
			s.Fatal(err)
		}
	}
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), step)
		defer cancel()
		found, err := s.p.Observe(ctx, clusterName)
		if err != nil {
			s.Error(err)
		}
		for _, n := range found.Nodes {
			if err := s.p.Delete(ctx, clusterName, n); err != nil {
				s.Error(err)
			}
		}
		if !ok {
			return
		}
		if err := storage.DeletePool(ctx, clusterName, poolOf(clusterName)); err != nil {
			s.Error(err)
		}
	})
}

const gib = 1 << 30

// node is a node of the cluster with two NICs and two volumes.
func (s *suite) node(clusterName string, i int) cluster.Node {
	name := fmt.Sprintf("%s-%d", clusterName, i)
	n := cluster.Node{
		Name: name, Spec: "spec", Type: "small", VCPUs: 1, MemoryMB: 64, BootMode: cluster.BootBIOS,
		UUID: cluster.UUID(clusterName, "node", name), Serial: cluster.Serial(clusterName, name),
	}
	for k := range 2 {
		v := cluster.Volume{Name: fmt.Sprintf("%s-vol%d", name, k), Size: gib * int64(k+1)}
		p := cluster.Port{MAC: cluster.MAC(clusterName, name, k, 0), Network: fmt.Sprintf("net%d", k)}
		if _, ok := s.p.(provider.Storage); ok {
			v.Pool = cluster.PoolName(clusterName)
			p.Tap = Taps()[2*i+k]
		}
		n.Volumes = append(n.Volumes, v)
		n.Ports = append(n.Ports, p)
	}
	return n
}

// observe returns what there is of the cluster, without what the worker or the
// wiring says of a node.
func (s *suite) observe(clusterName string) provider.Found {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, step)
	defer cancel()
	f, err := s.p.Observe(ctx, clusterName)
	if err != nil {
		s.Fatal(err)
	}
	for i := range f.Nodes {
		if h := f.Nodes[i].Hypervisor; h != "" {
			s.Errorf("node %s: the provider says that its hypervisor is %q", f.Nodes[i].Name, h)
		}
		f.Nodes[i].Provider = ""
	}
	slices.SortFunc(f.Nodes, func(a, b cluster.Node) int { return strings.Compare(a.Name, b.Name) })
	return f
}

// want fails the test if the cluster's nodes are not these.
func (s *suite) want(power cluster.Power, nodes ...cluster.Node) {
	s.Helper()
	want := slices.Clone(nodes)
	for i := range want {
		want[i].Power = power
	}
	got := s.observe(s.cluster).Nodes
	if d := cmp.Diff(want, got); len(want)+len(got) > 0 && d != "" {
		s.Errorf("nodes (-want +got):\n%s", d)
	}
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) create() {
	bios, uefi := s.node(s.cluster, 0), s.node(s.cluster, 1)
	uefi.BootMode, uefi.VCPUs, uefi.MemoryMB = cluster.BootUEFI, 2, 96
	bare := s.node(s.cluster, 2)
	bare.Volumes, bare.Ports = nil, nil
	for _, n := range []cluster.Node{bios, uefi, bare} {
		s.must(s.p.Create(s.ctx, s.cluster, n))
	}
	s.want(cluster.PowerOff, bios, uefi, bare)
	for _, st := range s.observe(s.cluster).Strangers {
		for _, n := range []cluster.Node{bios, uefi} {
			if st.Name == n.Name || st.Name == n.UUID || st.Name == n.Ports[0].MAC || st.Name == cluster.PoolName(s.cluster) {
				s.Errorf("our own is a stranger: %+v", st)
			}
		}
	}
}

func (s *suite) createAgain() {
	n := s.node(s.cluster, 0)
	for range 3 {
		s.must(s.p.Create(s.ctx, s.cluster, n))
		s.want(cluster.PowerOff, n)
	}
}

// interrupted cuts Create off at many points; the last one is let through.
func (s *suite) interrupted() {
	n := s.node(s.cluster, 0)
	for limit := 200 * time.Microsecond; limit < 100*time.Millisecond; limit *= 2 {
		ctx, cancel := context.WithTimeout(s.ctx, limit)
		_ = s.p.Create(ctx, s.cluster, n) // may fail, and may not
		cancel()
		for _, got := range s.observe(s.cluster).Nodes {
			if got.Name != n.Name || got.UUID != n.UUID {
				s.Fatalf("half a node: %+v", got)
			}
		}
	}
	s.must(s.p.Create(s.ctx, s.cluster, n))
	s.want(cluster.PowerOff, n)
}

// stories are changes of a node, one after the other.
func (s *suite) stories(n cluster.Node) []cluster.Node {
	clone := func(change func(*cluster.Node)) cluster.Node {
		n.Volumes, n.Ports = slices.Clone(n.Volumes), slices.Clone(n.Ports)
		change(&n)
		return n
	}
	other := s.node(s.cluster, 4)
	return []cluster.Node{
		clone(func(n *cluster.Node) { n.VCPUs, n.MemoryMB = 3, 128 }),
		clone(func(n *cluster.Node) { n.VCPUs, n.MemoryMB = 1, 64 }),
		clone(func(n *cluster.Node) { n.BootMode = cluster.BootUEFI }),
		clone(func(n *cluster.Node) { n.Spec, n.Type = "spec2", "big" }),
		clone(func(n *cluster.Node) { n.Ports = append(n.Ports, other.Ports[0]) }),
		clone(func(n *cluster.Node) { n.Ports[0].MAC = other.Ports[1].MAC }),
		clone(func(n *cluster.Node) { n.Ports[1].Network = "net7" }),
		clone(func(n *cluster.Node) { n.Ports[1].Tap = other.Ports[1].Tap }),
		clone(func(n *cluster.Node) { n.Ports = n.Ports[1:] }),
		clone(func(n *cluster.Node) { n.Volumes[0].Size += gib }),
		clone(func(n *cluster.Node) { n.Volumes = append(n.Volumes, other.Volumes[0]) }),
		clone(func(n *cluster.Node) { n.Volumes = n.Volumes[1:] }),
		clone(func(n *cluster.Node) { n.BootMode = cluster.BootBIOS }),
	}
}

func (s *suite) update() {
	have := s.node(s.cluster, 0)
	s.must(s.p.Create(s.ctx, s.cluster, have))
	for i, want := range s.stories(have) {
		if err := s.p.Update(s.ctx, s.cluster, have, want); err != nil {
			s.Fatalf("story %d: %v", i, err)
		}
		s.want(cluster.PowerOff, want)
		have = want
	}
	// Again is no error and changes nothing.
	s.must(s.p.Update(s.ctx, s.cluster, have, have))
	s.want(cluster.PowerOff, have)
}

// updateRunning checks that no update disturbs a running node.
func (s *suite) updateRunning() {
	have := s.node(s.cluster, 0)
	s.must(s.p.Create(s.ctx, s.cluster, have))
	hw := s.watched(have)
	s.must(hw.Start(s.ctx, machine.Boot{}))
	for i, want := range s.stories(have) {
		if err := s.p.Update(s.ctx, s.cluster, have, want); err != nil {
			s.Fatalf("story %d: %v", i, err)
		}
		s.want(cluster.PowerOn, want)
		have = want
	}
	s.must(hw.Stop(s.ctx))
	s.want(cluster.PowerOff, have)
}

func (s *suite) updateAbsent() {
	n := s.node(s.cluster, 0)
	if err := s.p.Update(s.ctx, s.cluster, n, n); err == nil || !strings.Contains(err.Error(), n.Name) {
		s.Errorf("an update of nothing: %v", err)
	}
	s.want(cluster.PowerOff)
}

func (s *suite) remove() {
	n, other := s.node(s.cluster, 0), s.node(s.cluster, 1)
	s.must(s.p.Delete(s.ctx, s.cluster, n)) // not there yet
	s.must(s.p.Create(s.ctx, s.cluster, n))
	s.must(s.p.Create(s.ctx, s.cluster, other))
	s.must(s.watched(n).Start(s.ctx, machine.Boot{}))
	for range 2 {
		s.must(s.p.Delete(s.ctx, s.cluster, n))
		s.want(cluster.PowerOff, other)
	}
	s.must(s.p.Create(s.ctx, s.cluster, n)) // the name is free again
	s.want(cluster.PowerOff, n, other)
}

// twoClusters checks that clusters see each other as strangers, and leave each
// other alone.
func (s *suite) twoClusters() {
	elsewhere := s.cluster + "-b"
	s.makePool(elsewhere)
	mine, theirs := s.node(s.cluster, 0), s.node(elsewhere, 1)
	s.must(s.p.Create(s.ctx, s.cluster, mine))
	s.must(s.p.Create(s.ctx, elsewhere, theirs))
	s.want(cluster.PowerOff, mine)

	strangers := s.observe(s.cluster).Strangers
	for _, st := range strangers {
		if !strings.HasPrefix(st.Owner, "cluster ") && st.Owner == "" {
			s.Errorf("a stranger without an owner: %+v", st)
		}
	}
	if _, ok := s.p.(provider.Storage); ok {
		owner := fmt.Sprintf("cluster %q", elsewhere)
		for kind, name := range map[cluster.StrangerKind]string{
			cluster.StrangerDomain: theirs.Name, cluster.StrangerUUID: theirs.UUID,
			cluster.StrangerMAC: theirs.Ports[0].MAC, cluster.StrangerPool: cluster.PoolName(elsewhere),
		} {
			if !slices.Contains(strangers, cluster.Stranger{Kind: kind, Name: name, Owner: owner}) {
				s.Errorf("%s %s of %s is not among the strangers", kind, name, owner)
			}
		}
		// Their name is taken, and they keep it.
		taken := s.node(s.cluster, 2)
		taken.Name = theirs.Name
		for what, err := range map[string]error{
			"create": s.p.Create(s.ctx, s.cluster, taken),
			"update": s.p.Update(s.ctx, s.cluster, taken, taken),
		} {
			if err == nil || !strings.Contains(err.Error(), theirs.Name) {
				s.Errorf("%s with somebody else's name: %v", what, err)
			}
		}
		s.must(s.p.Delete(s.ctx, s.cluster, taken)) // ours is not there
		if err := s.c.Hardware(s.cluster, theirs.Name, theirs.UUID).Start(s.ctx, machine.Boot{}); err == nil {
			s.Error("somebody else's node has been started")
		}
	}
	s.must(s.p.Delete(s.ctx, s.cluster, mine))
	s.want(cluster.PowerOff)
	theirs.Power = cluster.PowerOff
	if d := cmp.Diff([]cluster.Node{theirs}, s.observe(elsewhere).Nodes); d != "" {
		s.Errorf("the other cluster (-want +got):\n%s", d)
	}
}

// watched returns the node's hardware, with Run running until the end of the test.
func (s *suite) watched(n cluster.Node) machine.Hardware {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.c.Run(ctx, func() { close(ready) }) }()
	s.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("Run: %v", err)
		}
	})
	select {
	case <-ready:
	case <-time.After(step):
		s.Fatal("Run is not ready")
	}
	return s.c.Hardware(s.cluster, n.Name, n.UUID)
}

// is checks the power in both ways of seeing it. They agree at once: a call that
// changes the power returns when it has changed.
func (s *suite) is(hw machine.Hardware, n cluster.Node, on bool) {
	s.Helper()
	got, err := hw.On()
	if err != nil || got != on {
		s.Errorf("node %s is on: %v, %v; want %v", n.Name, got, err, on)
	}
	want := cluster.PowerOff
	if on {
		want = cluster.PowerOn
	}
	s.want(want, n)
}

func (s *suite) power() {
	n := s.node(s.cluster, 0)
	s.must(s.p.Create(s.ctx, s.cluster, n))
	hw := s.watched(n)
	s.is(hw, n, false)
	for what, err := range map[string]error{
		"reset":     hw.Reset(s.ctx, machine.Boot{}),
		"shutdown":  hw.Shutdown(s.ctx),
		"interrupt": hw.Interrupt(s.ctx),
	} {
		if !errors.Is(err, machine.ErrOff) {
			s.Errorf("%s of a machine that is off: %v", what, err)
		}
	}
	s.must(hw.Stop(s.ctx)) // is off
	for _, b := range []machine.Boot{{}, {Device: machine.DevicePXE}, {Device: machine.DeviceDisk, Persistent: true}} {
		s.must(hw.Start(s.ctx, b))
		s.is(hw, n, true)
		s.must(hw.Start(s.ctx, b)) // is on
		s.must(hw.Reset(s.ctx, b))
		s.is(hw, n, true)
		s.must(hw.Interrupt(s.ctx))
		s.must(hw.Stop(s.ctx))
		s.is(hw, n, false)
	}
	if err := hw.Start(s.ctx, machine.Boot{Device: "moon"}); !errors.Is(err, machine.ErrUnsupported) {
		s.Errorf("start from the moon: %v", err)
	}
	s.is(hw, n, false)
}

func (s *suite) powerAbsent() {
	n := s.node(s.cluster, 0)
	hw := s.watched(n)
	if on, err := hw.On(); err == nil {
		s.Errorf("a node that is not there is on: %v", on)
	}
	if err := hw.Start(s.ctx, machine.Boot{}); err == nil {
		s.Error("a node that is not there has started")
	}
	// It comes into being while Run runs.
	s.must(s.p.Create(s.ctx, s.cluster, n))
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := hw.On(); err == nil {
			break
		}
		if time.Now().After(until) {
			s.Fatal("a new node is not seen")
		}
	}
	s.is(hw, n, false)
}

// concurrent makes, starts and removes nodes side by side.
func (s *suite) concurrent() {
	nodes := make([]cluster.Node, 4)
	for i := range nodes {
		nodes[i] = s.node(s.cluster, i)
	}
	all := func(f func(cluster.Node) error) {
		s.Helper()
		var wg sync.WaitGroup
		for _, n := range nodes {
			wg.Go(func() {
				if err := f(n); err != nil {
					s.Error(err)
				}
			})
		}
		wg.Go(func() {
			if _, err := s.p.Observe(s.ctx, s.cluster); err != nil {
				s.Error(err)
			}
		})
		wg.Wait()
	}
	all(func(n cluster.Node) error { return s.p.Create(s.ctx, s.cluster, n) })
	s.want(cluster.PowerOff, nodes...)
	s.watched(nodes[0])
	all(func(n cluster.Node) error {
		return s.c.Hardware(s.cluster, n.Name, n.UUID).Start(s.ctx, machine.Boot{})
	})
	s.want(cluster.PowerOn, nodes...)
	all(func(n cluster.Node) error { return s.p.Delete(s.ctx, s.cluster, n) })
	s.want(cluster.PowerOff)
}

func (s *suite) doneContext() {
	ctx, cancel := context.WithCancelCause(s.ctx)
	cause := errors.New("enough")
	cancel(cause)
	if err := s.p.Create(ctx, s.cluster, s.node(s.cluster, 0)); err == nil {
		s.Error("Create with a context that is done")
	}
	if _, err := s.p.Observe(ctx, s.cluster); err == nil {
		s.Error("Observe with a context that is done")
	}
	s.want(cluster.PowerOff)
}

func (s *suite) pool() {
	storage, ok := s.p.(provider.Storage)
	if !ok {
		return // a platform without pools
	}
	want := []cluster.Pool{poolOf(s.cluster)}
	if d := cmp.Diff(want, s.observe(s.cluster).Pools); d != "" {
		s.Errorf("pools (-want +got):\n%s", d)
	}
	s.must(storage.CreatePool(s.ctx, s.cluster, want[0])) // again
	n := s.node(s.cluster, 0)
	s.must(s.p.Create(s.ctx, s.cluster, n))
	if err := storage.DeletePool(s.ctx, s.cluster, want[0]); err == nil || !strings.Contains(err.Error(), n.Volumes[0].Name) {
		s.Errorf("a pool with volumes has been deleted: %v", err)
	}
	s.want(cluster.PowerOff, n)
	s.must(s.p.Delete(s.ctx, s.cluster, n))
	for range 2 {
		s.must(storage.DeletePool(s.ctx, s.cluster, want[0]))
		if got := s.observe(s.cluster).Pools; len(got) > 0 {
			s.Errorf("pools after deletion: %v", got)
		}
	}
}
