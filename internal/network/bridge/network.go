package bridge

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// converge makes a network what is wanted. Everything is checked first; then
// the old uplink goes, the bridge comes, and the new uplink joins it.
func (j *job) converge(want cluster.Network) error {
	p := j.links.networks(j.cluster)[want.Name]
	if p == nil {
		p = &parts{}
	}
	u, err := j.check(want, p)
	if err != nil {
		return err
	}
	m := j.wantedMark(want, p, u)
	alias, err := m.alias()
	if err != nil {
		return err
	}
	if err := j.leave(m, p, u); err != nil {
		return err
	}
	index, err := j.makeBridge(want, p.bridge, alias)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", want.Bridge, err)
	}
	switch {
	case u == nil:
		return nil
	case u.Kind == "bridge":
		err = j.joinBridge(m, p, u, index, alias)
	default:
		err = j.joinNIC(u, index)
	}
	if err != nil {
		return fmt.Errorf("bridge %s: join uplink %s: %w", want.Bridge, u.Name, err)
	}
	return nil
}

// check looks for all that is in the way of a network, and returns its uplink.
// An unfinished link with a wanted name joins the network's parts.
func (j *job) check(want cluster.Network, p *parts) (*link, error) {
	errs := []error{validName(want.Bridge)}
	if l := j.links.byName[want.Bridge]; l != nil && l != p.bridge {
		if p.bridge == nil && l.unfinished(j.cluster, "bridge") {
			p.bridge = l
		} else {
			errs = append(errs, taken(want.Bridge, l))
		}
	}
	u, err := j.links.uplink(want, p)
	errs = append(errs, err)
	if u == nil || u.Kind != "bridge" {
		return u, errors.Join(errs...)
	}
	for _, name := range []string{want.UplinkPort, want.UplinkPeer} {
		errs = append(errs, validName(name))
		l := j.links.byName[name]
		switch {
		case l == nil, l.ours(j.cluster) && l.mark.Network == want.Name && l.Kind == "veth":
		case l.unfinished(j.cluster, "veth"):
			p.veths = append(p.veths, l)
		default:
			errs = append(errs, taken(name, l))
		}
	}
	return u, errors.Join(errs...)
}

// wantedMark is what the aliases of the network's links shall say.
func (j *job) wantedMark(want cluster.Network, p *parts, u *link) mark {
	m := mark{Cluster: j.cluster, Network: want.Name, Bridge: want.Bridge, Uplink: want.Uplink,
		UplinkPort: want.UplinkPort, UplinkPeer: want.UplinkPeer}
	if u == nil {
		return m
	}
	same := p.mark.Uplink == want.Uplink // then what is remembered is of this uplink
	if u.Kind != "bridge" {
		m.Was = wasDown
		if u.Up {
			m.Was = wasUp
		}
		if same && p.mark.Was != "" && p.bridge != nil && u.Master == p.bridge.Index {
			m.Was = p.mark.Was
		}
		return m
	}
	if same && p.mark.MAC != "" {
		m.MAC = p.mark.MAC
	} else if !j.hasPorts(u) {
		m.MAC = u.MAC.String()
	}
	return m
}

// hasPorts tells whether a user's bridge has ports but for those of clusters.
func (j *job) hasPorts(u *link) bool {
	return slices.ContainsFunc(j.links.ports(u.Index), func(l *link) bool { return !l.marked })
}

// leave gives back an uplink that is not the wanted one, and removes a veth
// pair that is not as it should be.
func (j *job) leave(m mark, p *parts, u *link) error {
	if p.mark.Was != "" && (m.Was == "" || m.Uplink != p.mark.Uplink) {
		if err := j.release(p); err != nil {
			return err
		}
	}
	if len(p.veths) == 0 {
		return nil
	}
	fits := u != nil && u.Kind == "bridge" && p.paired() && m.Uplink == p.mark.Uplink &&
		m.UplinkPort == p.mark.UplinkPort && m.UplinkPeer == p.mark.UplinkPeer
	if fits {
		return nil
	}
	if err := j.removeLinks(m, p.veths, p); err != nil {
		return fmt.Errorf("remove the old uplink: %w", err)
	}
	p.veths, p.port, p.peer = nil, nil, nil
	return nil
}

// release puts the NIC that was the uplink back as it was. One that somebody
// has taken out of our bridge is theirs again already.
func (j *job) release(p *parts) error {
	nic := j.links.byName[p.mark.Uplink]
	if nic == nil || p.bridge == nil || nic.Master != p.bridge.Index {
		return nil
	}
	r := change(nic.Index, setMaster(0))
	if p.mark.Was == wasDown {
		r = down(nic.Index, setMaster(0))
	}
	if err := j.kernel.do(r); err != nil {
		return fmt.Errorf("give uplink %s back: %w", nic.Name, err)
	}
	return nil
}

// removeLinks deletes links of a network. Unfinished ones get their mark first:
// nothing without one is ever deleted.
func (j *job) removeLinks(m mark, doomed []*link, p *parts) error {
	alias, err := m.alias()
	if err != nil {
		return err
	}
	for _, l := range doomed {
		if !l.marked {
			if err := j.kernel.do(change(l.Index, setAlias(alias))); err != nil {
				return err
			}
		}
	}
	return j.doom(doomed, j.keepMAC(p)...)
}

// keepMAC gives a user's bridge, whose only port is our veth, the address that
// the kernel takes away with that port.
func (j *job) keepMAC(p *parts) []*nl.NetlinkRequest {
	u := j.links.byName[p.mark.Uplink]
	if u == nil || u.Kind != "bridge" || p.mark.MAC == "" || u.MAC.String() != p.mark.MAC {
		return nil
	}
	for _, l := range j.links.ports(u.Index) {
		if !l.ours(j.cluster) || l.mark.Network != p.mark.Network {
			return nil
		}
	}
	return []*nl.NetlinkRequest{change(u.Index, setMAC(u.MAC))}
}

// makeBridge makes the bridge, or completes the one that is there, and returns
// its index. It is up afterwards.
func (j *job) makeBridge(want cluster.Network, b *link, alias string) (int, error) {
	if b == nil {
		index := j.links.freeIndex()
		// With an address of its own it does not take that of a port, and
		// change it as they come and go.
		err := j.kernel.do(
			create(index, setName(want.Bridge), setGroup(j.group), setMAC(highMAC()), bridgeInfo()),
			change(index, with(quiet(), setAlias(alias))...),
		)
		if err != nil {
			return 0, fmt.Errorf("create: %w", err)
		}
		j.deaf(want.Bridge)
		return index, j.kernel.do(up(index))
	}
	var steps []*nl.NetlinkRequest
	if b.Name != want.Bridge {
		steps = append(steps, down(b.Index), change(b.Index, setName(want.Bridge)))
	}
	if !b.marked { // unfinished: who knows how far it got
		steps = append(steps, change(b.Index, bridgeInfo()))
	}
	if b.Alias != alias || b.Group != j.group {
		steps = append(steps, change(b.Index, with(quiet(), setGroup(j.group), setAlias(alias))...))
	}
	if err := j.kernel.doMany(steps); err != nil {
		return 0, err
	}
	if len(steps) == 0 && b.Up {
		return b.Index, nil
	}
	j.deaf(want.Bridge)
	return b.Index, j.kernel.do(up(b.Index))
}

// joinNIC puts a NIC into our bridge and switches it on.
func (j *job) joinNIC(u *link, bridge int) error {
	if u.Master != bridge {
		// Not together with the other: a NIC that the bridge refuses stays as it is.
		if err := j.kernel.do(change(u.Index, setMaster(bridge))); err != nil {
			return full(err)
		}
	}
	if u.Up {
		return nil
	}
	return j.kernel.do(up(u.Index))
}

// joinBridge connects a bridge of the user's to ours by a veth pair.
func (j *job) joinBridge(m mark, p *parts, u *link, bridge int, alias string) error {
	var port, peer int
	if p.port == nil {
		port, peer = j.links.freeIndex(), j.links.freeIndex()
		// A bridge takes the lowest address of its ports. Ours is as high as
		// can be, or, in a bridge without ports, the one that the bridge has.
		theirs := highMAC()
		if a, err := net.ParseMAC(m.MAC); err == nil {
			theirs = a
		}
		pair := vethInfo(peer, setName(m.UplinkPeer), setGroup(j.group), setMAC(theirs), setMTU(u.MTU))
		err := j.kernel.do(
			create(port, setName(m.UplinkPort), setGroup(j.group), setMAC(highMAC()), setMTU(u.MTU), pair),
			change(port, with(quiet(), setAlias(alias))...),
			change(peer, with(quiet(), setAlias(alias))...),
		)
		if err != nil {
			return fmt.Errorf("create %s and %s: %w", m.UplinkPort, m.UplinkPeer, err)
		}
	} else {
		port, peer = p.port.Index, p.peer.Index
		for _, l := range p.veths {
			if l.Alias != alias {
				if err := j.kernel.do(change(l.Index, setAlias(alias))); err != nil {
					return err
				}
			}
		}
		if p.port.Up && p.peer.Up && p.port.Master == bridge && p.peer.Master == u.Index {
			return nil
		}
	}
	return full(j.kernel.do(up(port, setMaster(bridge)), up(peer, setMaster(u.Index))))
}

// highMAC is a random locally administered address that is higher than those
// of real NICs and of taps.
func highMAC() net.HardwareAddr {
	a := net.HardwareAddr{0xfe, 0xff, 0, 0, 0, 0}
	_, _ = rand.Read(a[2:]) // never fails (crypto/rand)
	return a
}

// full explains the kernel's answer of a bridge without a free port.
func full(err error) error {
	if errors.Is(err, unix.EXFULL) {
		return hint.Add(fmt.Errorf("a Linux bridge can have %d ports: %w", portMax, err),
			"use several physical networks, or several hypervisors")
	}
	return err
}

// remove deletes a network.
func (j *job) remove(gone cluster.Network) error {
	p := j.links.networks(j.cluster)[gone.Name]
	if p == nil {
		p = &parts{}
	}
	if l := j.links.byName[gone.Bridge]; l != nil && p.bridge == nil && l.unfinished(j.cluster, "bridge") {
		p.bridge = l
	}
	for _, name := range []string{gone.UplinkPort, gone.UplinkPeer} {
		if l := j.links.byName[name]; l != nil && l.unfinished(j.cluster, "veth") {
			p.veths = append(p.veths, l)
		}
	}
	doomed := p.veths
	if p.bridge != nil {
		if err := j.onlyOurs(p); err != nil {
			return err
		}
		doomed = append(doomed, p.bridge)
	}
	if p.mark.Was != "" {
		if err := j.release(p); err != nil {
			return err
		}
	}
	return j.removeLinks(mark{Cluster: j.cluster, Network: gone.Name, Bridge: gone.Bridge}, doomed, p)
}

// onlyOurs checks that our bridge has no port of somebody else's.
func (j *job) onlyOurs(p *parts) error {
	var errs []error
	for _, l := range j.links.ports(p.bridge.Index) {
		nic := p.mark.Was != "" && l == j.links.byName[p.mark.Uplink]
		if l.ours(j.cluster) || nic {
			continue
		}
		errs = append(errs, hint.Add(fmt.Errorf("link %s (%s) is in bridge %s", l.Name, l.owner(), p.bridge.Name),
			"take it out, then try again: ip link set %s nomaster", l.Name))
	}
	return errors.Join(errs...)
}
