// Package synthetic keeps nodes that have no virtual machine: they have a power
// state and a definition, and nothing that runs. It is a product, for those who
// need many nodes or none that boot, and the test double of all that is above
// a provider.
//
// On a hypervisor a node is two files in its cluster's folder, written by two
// processes: the worker writes synthetic/<node>.json, the definition; the BMC
// process writes synthetic/<node>.state, the power. Both processes only read
// what the other has written, so neither needs to tell the other anything.
package synthetic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/machine"
	"github.com/tenks/tenks/internal/provider"
)

// Provider keeps synthetic nodes. It implements [provider.Provider] and
// [provider.Controls]. The zero value keeps them in memory.
type Provider struct {
	// Dir is the folder that has a folder per cluster; empty: memory. It
	// must not change after first use.
	Dir string

	// Fail, if set, is asked before every operation and its error returned:
	// it is how a test breaks the third Create. op is the method in lower case:
	// observe, create, update, delete; on, start, stop, reset, shutdown,
	// interrupt. node is empty for observe.
	Fail func(op, node string) error

	memory memory
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Controls = (*Provider)(nil)
)

// errNoNode says that a node has no definition.
var errNoNode = errors.New("there is no such synthetic node")

// store is where nodes are kept. Its methods are safe for concurrent use.
type store interface {
	list(clusterName string) ([]cluster.Node, error)     // as defined, in no order
	node(clusterName, name string) (cluster.Node, error) // wraps errNoNode

	// stamp changes when the definition changes. It is cheap. The zero stamp
	// says nothing.
	stamp(clusterName, name string) (stamp, error) // wraps errNoNode

	define(clusterName string, n cluster.Node) error
	remove(clusterName, name string) error
	on(clusterName, name string) (bool, error) // cheap
	setOn(clusterName, name string, on bool) error
}

// stamp is the identity of a definition's file.
type stamp struct {
	inode   uint64
	changed int64 // nanoseconds
}

// store returns where this provider's nodes are.
func (p *Provider) store() store {
	if p.Dir != "" {
		return disk{p.Dir}
	}
	return &p.memory
}

func (p *Provider) fail(op, node string) error {
	if p.Fail == nil {
		return nil
	}
	return p.Fail(op, node)
}

// Observe implements [provider.Provider]. Synthetic nodes of other clusters
// stand in nobody's way: there are no strangers.
func (p *Provider) Observe(ctx context.Context, clusterName string) (provider.Found, error) {
	if err := errors.Join(context.Cause(ctx), p.fail("observe", "")); err != nil {
		return provider.Found{}, fmt.Errorf("synthetic nodes: %w", err)
	}
	nodes, err := p.store().list(clusterName)
	if err != nil {
		return provider.Found{}, fmt.Errorf("synthetic nodes of cluster %s: %w", clusterName, err)
	}
	for i := range nodes {
		on, err := p.store().on(clusterName, nodes[i].Name)
		switch {
		case err != nil:
			nodes[i].Power = cluster.PowerUnknown
		case on:
			nodes[i].Power = cluster.PowerOn
		default:
			nodes[i].Power = cluster.PowerOff
		}
	}
	slices.SortFunc(nodes, func(a, b cluster.Node) int { return strings.Compare(a.Name, b.Name) })
	return provider.Found{Nodes: nodes}, nil
}

// Create implements [provider.Provider]. A node that is there already keeps its
// power.
func (p *Provider) Create(ctx context.Context, clusterName string, n cluster.Node) error {
	return p.change(ctx, "create", clusterName, n, func(s store) error {
		if _, err := s.node(clusterName, n.Name); errors.Is(err, errNoNode) {
			if err := s.setOn(clusterName, n.Name, false); err != nil {
				return err
			}
		}
		return s.define(clusterName, n)
	})
}

// Update implements [provider.Provider]. A synthetic node has nothing that
// would have to wait for its next power-on.
func (p *Provider) Update(ctx context.Context, clusterName string, _, want cluster.Node) error {
	return p.change(ctx, "update", clusterName, want, func(s store) error {
		if _, err := s.node(clusterName, want.Name); err != nil {
			return err
		}
		return s.define(clusterName, want)
	})
}

// Delete implements [provider.Provider].
func (p *Provider) Delete(ctx context.Context, clusterName string, n cluster.Node) error {
	return p.change(ctx, "delete", clusterName, n, func(s store) error {
		return s.remove(clusterName, n.Name)
	})
}

// change makes one change to the definition of a node.
func (p *Provider) change(ctx context.Context, op, clusterName string, n cluster.Node, f func(store) error) error {
	err := errors.Join(context.Cause(ctx), p.fail(op, n.Name))
	if err == nil {
		err = f(p.store())
	}
	if err != nil {
		return fmt.Errorf("synthetic node %s: %w", n.Name, err)
	}
	return nil
}

// Run implements [provider.Controls]. There is nothing to keep up to date:
// what the worker changes is seen when it is asked for.
func (p *Provider) Run(ctx context.Context, ready func()) error {
	ready()
	<-ctx.Done()
	return nil
}

// Hardware implements [provider.Controls].
func (p *Provider) Hardware(clusterName, node, uuid string) machine.Hardware {
	return &hardware{p: p, cluster: clusterName, node: node, uuid: uuid}
}

// hardware is one node as a BMC controls it.
type hardware struct {
	p                   *Provider
	cluster, node, uuid string

	mu   sync.Mutex
	seen stamp // of the definition that was found to have that UUID
}

// power calls f, if the operation may be done, with the power as it is.
func (h *hardware) power(op string, f func(s store, on bool) error) error {
	err := h.p.fail(op, h.node)
	if err == nil {
		s := h.p.store()
		var on bool
		if err = h.known(s); err == nil {
			on, err = s.on(h.cluster, h.node)
		}
		if err == nil {
			err = f(s, on)
		}
	}
	if err != nil {
		return fmt.Errorf("synthetic node %s: %w", h.node, err)
	}
	return nil
}

// known returns an error unless the node is there and is the one that is meant.
func (h *hardware) known(s store) error {
	now, err := s.stamp(h.cluster, h.node)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now != (stamp{}) && now == h.seen {
		return nil
	}
	n, err := s.node(h.cluster, h.node)
	if err != nil {
		return err
	}
	if n.UUID != h.uuid {
		return fmt.Errorf("its UUID is %s, not %s", n.UUID, h.uuid)
	}
	h.seen = now
	return nil
}

// On implements [machine.Hardware].
func (h *hardware) On() (on bool, err error) {
	err = h.power("on", func(_ store, now bool) error {
		on = now
		return nil
	})
	return on, err
}

// Start implements [machine.Hardware]. What it boots from makes no difference.
func (h *hardware) Start(ctx context.Context, b machine.Boot) error {
	return h.power("start", func(s store, on bool) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if on {
			return nil
		}
		if err := bootable(b); err != nil {
			return err
		}
		if err := s.setOn(h.cluster, h.node, true); err != nil {
			return err
		}
		// The worker may have deleted the node at this moment: it removes
		// the definition first, so one of us removes the power.
		if err := h.known(s); err != nil {
			_ = s.setOn(h.cluster, h.node, false) // nobody asks for it any more
			return err
		}
		return nil
	})
}

// Stop implements [machine.Hardware].
func (h *hardware) Stop(ctx context.Context) error {
	return h.power("stop", func(s store, on bool) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !on {
			return nil
		}
		return s.setOn(h.cluster, h.node, false)
	})
}

// Reset implements [machine.Hardware].
func (h *hardware) Reset(ctx context.Context, b machine.Boot) error {
	return h.whileOn(ctx, "reset", func() error { return bootable(b) })
}

// Shutdown implements [machine.Hardware]. The operating system that the node
// does not have obeys at once.
func (h *hardware) Shutdown(ctx context.Context) error {
	return h.power("shutdown", func(s store, on bool) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !on:
			return machine.ErrOff
		}
		return s.setOn(h.cluster, h.node, false)
	})
}

// Interrupt implements [machine.Hardware].
func (h *hardware) Interrupt(ctx context.Context) error {
	return h.whileOn(ctx, "interrupt", func() error { return nil })
}

// whileOn does something that does not change the power, if the node is on.
func (h *hardware) whileOn(ctx context.Context, op string, f func() error) error {
	return h.power(op, func(_ store, on bool) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !on:
			return machine.ErrOff
		}
		return f()
	})
}

// bootable refuses devices that no machine has.
func bootable(b machine.Boot) error {
	switch b.Device {
	case machine.DeviceDefault, machine.DevicePXE, machine.DeviceDisk, machine.DeviceCDROM,
		machine.DeviceSetup, machine.DeviceSafe, machine.DeviceDiag, machine.DeviceFloppy:
		return nil
	}
	return fmt.Errorf("boot from %q: %w", b.Device, machine.ErrUnsupported)
}

// memory is a store for tests.
type memory struct {
	mu    sync.Mutex
	nodes map[key]cluster.Node
	isOn  map[key]bool
}

type key struct{ cluster, node string }

func (m *memory) list(clusterName string) ([]cluster.Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var nodes []cluster.Node
	for k, n := range m.nodes {
		if k.cluster == clusterName {
			nodes = append(nodes, clone(n))
		}
	}
	return nodes, nil
}

func (m *memory) node(clusterName, name string) (cluster.Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[key{clusterName, name}]
	if !ok {
		return cluster.Node{}, errNoNode
	}
	return clone(n), nil
}

func (m *memory) stamp(clusterName, name string) (stamp, error) {
	_, err := m.node(clusterName, name)
	return stamp{}, err
}

func (m *memory) define(clusterName string, n cluster.Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes, m.isOn = make(map[key]cluster.Node), make(map[key]bool)
	}
	m.nodes[key{clusterName, n.Name}] = defined(n)
	return nil
}

func (m *memory) remove(clusterName, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, key{clusterName, name})
	delete(m.isOn, key{clusterName, name})
	return nil
}

func (m *memory) on(clusterName, name string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isOn[key{clusterName, name}], nil
}

func (m *memory) setOn(clusterName, name string, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !on {
		delete(m.isOn, key{clusterName, name})
	} else if _, ok := m.nodes[key{clusterName, name}]; ok {
		m.isOn[key{clusterName, name}] = true
	}
	return nil
}

// defined is a node as it is kept: without what is only found, and without the
// hypervisor, which is where it is kept.
func defined(n cluster.Node) cluster.Node {
	n = clone(n)
	n.Hypervisor, n.Power = "", cluster.PowerUnknown
	return n
}

func clone(n cluster.Node) cluster.Node {
	n.Volumes, n.Ports = slices.Clone(n.Volumes), slices.Clone(n.Ports)
	return n
}
