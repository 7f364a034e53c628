package plan

import (
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// Diff returns the plan that turns have into want. Nothing is created before
// what it stands on, and nothing is removed while something stands on it. To
// destroy a cluster, want an empty one.
//
// Nothing is planned for what have calls unknown, and nothing is removed that
// something unknown may stand on.
//
// What cannot be planned is an error, before anything is changed: a name or an
// address that a stranger has, a disk that would shrink, a node that is in use
// and would have to go. All of these are returned at once, joined, with hints.
func Diff(have, want cluster.State) (Plan, error) {
	d := compare(have, want)
	if err := d.conflicts(); err != nil {
		return Plan{}, err
	}
	p := Plan{Cluster: want.Cluster, Unknown: have.Unknown}
	if p.Cluster == "" {
		p.Cluster = have.Cluster
	}
	tapsNow, tapsLater := split(d.taps.gone, d.tapOfStayingNode)
	netsNow, netsLater := split(d.networks.gone, d.carriesStayingTap)
	poolsNow, poolsLater := split(d.pools.gone, d.holdsStayingVolume)

	p.add("unenrol nodes", steps(d.enrolments.gone, func(e cluster.Enrolment) Step { return Unenrol{e} }))
	p.add("remove BMCs", bulk(d.bmcs.gone, bmcPlace, func(h string, b []cluster.BMC) Step { return DeleteBMCs{h, b} }))
	p.add("delete nodes", steps(d.nodes.gone, func(n cluster.Node) Step { return DeleteNode{n} }))
	p.add("delete taps", bulk(tapsNow, tapPlace, func(h string, t []cluster.Tap) Step { return DeleteTaps{h, t} }))
	p.add("delete networks", steps(netsNow, func(n cluster.Network) Step { return DeleteNetwork{n} }))
	p.add("delete pools", steps(poolsNow, func(s cluster.Pool) Step { return DeletePool{s} }))

	p.add("create pools", d.createPools())
	p.add("release uplinks", d.releaseUplinks())
	p.add("update networks", d.updateNetworks())
	p.add("create networks", steps(d.networks.added, func(n cluster.Network) Step { return CreateNetwork{n} }))
	p.add("create taps", d.createTaps())
	p.add("update nodes", d.updateNodes())
	// A node that stays may have lost a port or its volumes: only now does it
	// no longer stand on them.
	p.add("delete unused taps", bulk(tapsLater, tapPlace, func(h string, t []cluster.Tap) Step { return DeleteTaps{h, t} }))
	p.add("delete unused networks", steps(netsLater, func(n cluster.Network) Step { return DeleteNetwork{n} }))
	p.add("delete unused pools", steps(poolsLater, func(s cluster.Pool) Step { return DeletePool{s} }))
	p.add("create nodes", steps(d.nodes.added, func(n cluster.Node) Step { return CreateNode{n} }))
	p.add("update BMCs", d.updateBMCs())
	p.add("create BMCs", bulk(d.bmcs.added, bmcPlace, func(h string, b []cluster.BMC) Step { return CreateBMCs{h, b} }))
	// A cloud is remembered before the first node is in it, and forgotten
	// after the last is out.
	p.add("remember clouds", steps(d.clouds.added, func(c cluster.Cloud) Step { return RememberCloud{c} }))
	p.add("forget clouds", steps(d.clouds.gone, func(c cluster.Cloud) Step { return ForgetCloud{c} }))
	p.add("enrol nodes", d.enrol())
	return p, nil
}

// add appends a stage, unless it is empty.
func (p *Plan) add(name string, steps []Step) {
	if len(steps) > 0 {
		p.Stages = append(p.Stages, Stage{name, steps})
	}
}

// steps makes a step of each object.
func steps[T any](list []T, f func(T) Step) []Step {
	var out []Step
	for _, x := range list {
		out = append(out, f(x))
	}
	return out
}

// bulk makes one step for all the objects of a hypervisor. list is in key
// order, so those of a hypervisor stand together.
func bulk[T any](list []T, place func(T) string, f func(string, []T) Step) []Step {
	var out []Step
	for len(list) > 0 {
		n := 1
		for n < len(list) && place(list[n]) == place(list[0]) {
			n++
		}
		out = append(out, f(place(list[0]), list[:n:n]))
		list = list[n:]
	}
	return out
}

func bmcPlace(b cluster.BMC) string { return b.Hypervisor }
func tapPlace(t cluster.Tap) string { return t.Hypervisor }

// key joins parts into a key; no part holds a zero byte.
func key(parts ...string) string {
	k := parts[0]
	for _, p := range parts[1:] {
		k += "\x00" + p
	}
	return k
}

func poolKey(p cluster.Pool) string       { return key(p.Hypervisor, p.Name) }
func networkKey(n cluster.Network) string { return key(n.Hypervisor, n.Name) }
func tapKey(t cluster.Tap) string         { return key(t.Hypervisor, t.Name) }
func nodeKey(n cluster.Node) string       { return key(n.Hypervisor, n.Name, n.Provider) }
func bmcKey(b cluster.BMC) string         { return key(b.Hypervisor, b.Node) }
func cloudKey(c cluster.Cloud) string     { return c.Hypervisor }

// A node in Ironic cannot change its UUID: with another it is another node.
func enrolmentKey(e cluster.Enrolment) string { return key(e.Node, e.UUID) }

// differ is have and want side by side, without what is unknown.
type differ struct {
	have, want cluster.State

	pools      matched[cluster.Pool]
	networks   matched[cluster.Network]
	taps       matched[cluster.Tap]
	nodes      matched[cluster.Node]
	bmcs       matched[cluster.BMC]
	clouds     matched[cluster.Cloud]
	enrolments matched[cluster.Enrolment]

	staying   map[string]bool                 // hypervisor and name of nodes that are kept
	taken     map[string]bool                 // hypervisor and uplink of wanted networks
	strangers map[stranger][]cluster.Stranger // by what they occupy
}

// compare matches the objects of have and want and leaves out those for which
// nothing may be planned.
func compare(have, want cluster.State) *differ {
	u := newUnknowns(have, want)
	d := &differ{
		have: have, want: want,
		pools:      match(have.Pools, want.Pools, poolKey),
		networks:   match(have.Networks, want.Networks, networkKey),
		taps:       match(have.Taps, want.Taps, tapKey),
		nodes:      match(have.Nodes, want.Nodes, nodeKey),
		bmcs:       match(have.BMCs, want.BMCs, bmcKey),
		clouds:     match(have.Clouds, want.Clouds, cloudKey),
		enrolments: match(have.Enrolments, want.Enrolments, enrolmentKey),
		staying:    map[string]bool{}, taken: map[string]bool{},
	}
	d.pools.drop(func(p cluster.Pool) bool { return u.hides(p.Hypervisor, cluster.Libvirt) },
		func(p cluster.Pool) bool { return u.any(p.Hypervisor) || u.enrolledOn[p.Hypervisor] })
	d.networks.drop(func(n cluster.Network) bool { return u.host(n.Hypervisor) },
		func(n cluster.Network) bool { return u.any(n.Hypervisor) || u.enrolledOn[n.Hypervisor] })
	d.taps.drop(func(t cluster.Tap) bool { return u.node(t.Hypervisor, t.Node) },
		func(t cluster.Tap) bool { return u.enrolledOn[t.Hypervisor] })
	d.nodes.drop(func(n cluster.Node) bool { return u.hides(n.Hypervisor, n.Provider) },
		func(n cluster.Node) bool { return u.enrolledOn[n.Hypervisor] })
	d.bmcs.drop(func(b cluster.BMC) bool { return u.hides(b.Hypervisor, b.Provider) },
		func(b cluster.BMC) bool { return u.enrolledOn[b.Hypervisor] })
	d.clouds.drop(func(c cluster.Cloud) bool { return u.service || u.host(c.Hypervisor) },
		func(c cluster.Cloud) bool { return u.any(c.Hypervisor) })
	d.enrolments.drop(func(e cluster.Enrolment) bool { return u.service || u.enrolled(e.Node) }, nil)
	for _, n := range d.nodes.both {
		d.staying[key(n.new.Hypervisor, n.new.Name)] = true
	}
	for _, n := range want.Networks {
		if n.Uplink != "" {
			d.taken[key(n.Hypervisor, n.Uplink)] = true
		}
	}
	d.strangers = occupied(have.Strangers)
	return d
}

// drop removes the objects that hidden is true of, and those to be removed that
// needed is true of as well; needed may be nil.
func (m *matched[T]) drop(hidden, needed func(T) bool) {
	m.added = keep(m.added, func(x T) bool { return !hidden(x) })
	m.both = keep(m.both, func(x pair[T]) bool { return !hidden(x.new) && !hidden(x.old) })
	m.gone = keep(m.gone, func(x T) bool { return !hidden(x) && (needed == nil || !needed(x)) })
}

// tapOfStayingNode tells whether a tap that goes belongs to a node that stays.
func (d *differ) tapOfStayingNode(t cluster.Tap) bool { return d.staying[key(t.Hypervisor, t.Node)] }

// carriesStayingTap tells whether a network that goes carries a tap of a node
// that stays. It may go all the same if another network wants its uplink: a NIC
// can be in one bridge only, so the tap is without one for a moment.
func (d *differ) carriesStayingTap(n cluster.Network) bool {
	if n.Uplink != "" && d.taken[key(n.Hypervisor, n.Uplink)] {
		return false
	}
	for _, t := range d.have.Taps {
		if t.Hypervisor == n.Hypervisor && t.Bridge == n.Bridge && d.tapOfStayingNode(t) {
			return true
		}
	}
	return false
}

// holdsStayingVolume tells whether a pool that goes holds a volume of a node that stays.
func (d *differ) holdsStayingVolume(p cluster.Pool) bool {
	for _, n := range d.nodes.both {
		for _, v := range n.old.Volumes {
			if n.old.Hypervisor == p.Hypervisor && v.Pool == p.Name {
				return true
			}
		}
	}
	return false
}

func (d *differ) createPools() []Step {
	out := steps(d.pools.added, func(p cluster.Pool) Step { return CreatePool{Pool: p} })
	for _, p := range d.pools.both {
		if p.new.Active && !p.old.Active {
			out = append(out, CreatePool{Pool: p.new, Reason: "is not active"})
		}
	}
	return out
}

// releaseUplinks takes uplinks out of networks that stay where another network
// is to have them.
func (d *differ) releaseUplinks() []Step {
	var out []Step
	for _, n := range d.networks.both {
		if d.releases(n) {
			out = append(out, UpdateNetwork{n.old, isolated(n.old)})
		}
	}
	return out
}

func (d *differ) releases(n pair[cluster.Network]) bool {
	return n.old.Uplink != "" && n.old.Uplink != n.new.Uplink && d.taken[key(n.old.Hypervisor, n.old.Uplink)]
}

func isolated(n cluster.Network) cluster.Network {
	n.Uplink, n.UplinkPort, n.UplinkPeer, n.Up = "", "", "", true
	return n
}

func (d *differ) updateNetworks() []Step {
	var out []Step
	for _, n := range d.networks.both {
		old := n.old
		if d.releases(n) {
			old = isolated(old)
		}
		if s := (UpdateNetwork{old, n.new}); s.needed() {
			out = append(out, s)
		}
	}
	return out
}

// createTaps makes what is missing, and moves what is in the wrong bridge.
func (d *differ) createTaps() []Step {
	old := map[string]cluster.Tap{}
	list := d.taps.added
	for _, t := range d.taps.both {
		if t.old.Bridge != t.new.Bridge {
			list = append(list, t.new)
			old[tapKey(t.new)] = t.old
		}
	}
	list = match(nil, list, tapKey).added // in key order again
	return bulk(list, tapPlace, func(h string, taps []cluster.Tap) Step {
		s := CreateTaps{Hypervisor: h, Taps: taps}
		for _, t := range taps {
			if o, moved := old[tapKey(t)]; moved {
				s.Old = append(s.Old, o)
			}
		}
		return s
	})
}

func (d *differ) updateNodes() []Step {
	var out []Step
	for _, n := range d.nodes.both {
		if len(nodeFields(n.old, n.new)) > 0 {
			out = append(out, UpdateNode{n.old, n.new})
		}
	}
	return out
}

func (d *differ) updateBMCs() []Step {
	changed := keep(d.bmcs.both, bmcDiffers)
	return bulk(changed, func(b pair[cluster.BMC]) string { return b.new.Hypervisor }, func(h string, list []pair[cluster.BMC]) Step {
		s := UpdateBMCs{Hypervisor: h}
		for _, b := range list {
			s.Old, s.New = append(s.Old, b.old), append(s.New, b.new)
		}
		return s
	})
}

func bmcDiffers(b pair[cluster.BMC]) bool {
	return len(bmcFields(b.old, b.new)) > 0 || b.new.Serving && !b.old.Serving
}

// enrol enrols, updates and completes: a node that is not yet available though
// it is enrolled is enrolled again.
func (d *differ) enrol() []Step {
	var out []Step
	for _, e := range d.enrolments.both {
		switch {
		case len(enrolmentFields(e.old, e.new)) > 0:
			out = append(out, UpdateEnrolment{e.old, e.new})
		case short(e.old.State):
			out = append(out, Enrol{Enrolment: e.new, Reason: unready(e.old)})
		}
	}
	return append(out, steps(d.enrolments.added, func(e cluster.Enrolment) Step { return Enrol{Enrolment: e} })...)
}

// unready says why an enrolled node is not available.
func unready(e cluster.Enrolment) string {
	reason := "is not available: its state is " + e.State
	if e.State == "" {
		reason = "is not available: it has no state"
	}
	if e.LastError != "" {
		reason += " (" + strings.TrimSuffix(strings.Join(strings.Fields(e.LastError), " "), ".") + ")"
	}
	return reason
}

// short tells whether a provision state is short of available: no instance has
// been on the node since it was enrolled or cleaned (Ironic, "Bare Metal State
// Machine"). A state that is not listed is taken for one in use.
func short(state string) bool {
	switch state {
	case "", "enroll", "verifying", "manageable", "adopt failed",
		"inspecting", "inspect wait", "inspect failed",
		"cleaning", "clean wait", "clean hold", "clean failed", "deleting":
		return true
	}
	return false
}
