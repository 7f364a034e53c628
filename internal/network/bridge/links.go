package bridge

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/tenks/tenks/internal/cluster"
)

// link is a link as it was found.
type link struct {
	Index    int
	Name     string
	AltNames []string
	Kind     string // "bridge", "veth", "tuntap", "device" …
	Master   int    // index of the bridge it is in; 0: none
	Peer     int    // index of a veth's other end
	Up       bool
	Loopback bool
	Ethernet bool
	Group    uint32
	Alias    string
	MAC      net.HardwareAddr // nil: all zeroes
	MTU      int

	mark   mark
	marked bool // Alias is a mark, of whatever cluster
}

// links is all links there are at one moment, in the kernel's order.
type links struct {
	all     []*link
	byIndex map[int]*link
	byName  map[string]*link // alternative names too
}

// readLinks asks the kernel for all links.
func readLinks() (*links, error) {
	var dump []netlink.Link
	var err error
	for range 10 { // the kernel says if a list has changed while it was written
		dump, err = netlink.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	s := &links{byIndex: make(map[int]*link, len(dump)), byName: make(map[string]*link, len(dump))}
	for _, d := range dump {
		s.add(d)
	}
	return s, nil
}

func (s *links) add(d netlink.Link) {
	a := d.Attrs()
	l := &link{
		Index: a.Index, Name: a.Name, AltNames: a.AltNames, Kind: d.Type(), Master: a.MasterIndex, Peer: a.ParentIndex,
		Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0, Ethernet: a.EncapType == "ether",
		Group: a.Group, Alias: a.Alias, MAC: a.HardwareAddr, MTU: a.MTU,
	}
	l.mark, l.marked = parseMark(a.Alias)
	s.all = append(s.all, l)
	s.byIndex[l.Index] = l
	s.byName[l.Name] = l
	for _, alt := range l.AltNames {
		s.byName[alt] = l
	}
}

// ours tells whether a link carries the cluster's mark.
func (l *link) ours(clusterName string) bool {
	return l.marked && l.mark.Cluster == clusterName
}

// unfinished tells whether a link is in the cluster's group but has no mark.
// With a name that we want and the right kind, it is one of ours whose making
// was interrupted; without that, nobody knows, and it is left alone.
func (l *link) unfinished(clusterName, kind string) bool {
	return l.Alias == "" && l.Group == cluster.LinkGroup(clusterName) && l.Kind == kind
}

// owner says in words whose link it is.
func (l *link) owner() string {
	if l.marked {
		return fmt.Sprintf("cluster %q", l.mark.Cluster)
	}
	return "not made by Tenks"
}

// masterName is the name of the bridge that a link is in, or "".
func (s *links) masterName(l *link) string {
	if m := s.byIndex[l.Master]; m != nil {
		return m.Name
	}
	return ""
}

// ports returns the links that are in a bridge.
func (s *links) ports(bridge int) []*link {
	var p []*link
	for _, l := range s.all {
		if l.Master == bridge {
			p = append(p, l)
		}
	}
	return p
}

// parts are the links of one network of ours, as far as they are there.
type parts struct {
	mark   mark  // what one of them says; zero if there is none
	bridge *link // may be nil
	port   *link // the veth pair's end in our bridge, by name; may be nil
	peer   *link // its other end; may be nil
	veths  []*link
}

// networks returns the cluster's networks by name.
func (s *links) networks(clusterName string) map[string]*parts {
	all := map[string]*parts{}
	for _, l := range s.all {
		if !l.ours(clusterName) || l.mark.Network == "" {
			continue
		}
		p := all[l.mark.Network]
		if p == nil {
			p = &parts{mark: l.mark}
			all[l.mark.Network] = p
		}
		switch l.Kind {
		case "bridge":
			p.bridge, p.mark = l, l.mark
		case "veth":
			p.veths = append(p.veths, l)
		}
	}
	for _, p := range all {
		for _, l := range p.veths {
			switch l.Name {
			case p.mark.UplinkPort:
				p.port = l
			case p.mark.UplinkPeer:
				p.peer = l
			}
		}
	}
	return all
}

// paired tells whether the network's veth pair is complete.
func (p *parts) paired() bool {
	return p.port != nil && p.peer != nil && p.port.Peer == p.peer.Index && len(p.veths) == 2
}

// up tells whether all of a network is there, joined and up.
func (s *links) up(p *parts) bool {
	b := p.bridge
	if b == nil || !b.Up || b.Name != p.mark.Bridge {
		return false
	}
	u := s.byName[p.mark.Uplink]
	switch {
	case p.mark.Uplink == "":
		return len(p.veths) == 0
	case u == nil || !u.Up:
		return false
	case p.mark.Was != "":
		return u.Master == b.Index && len(p.veths) == 0
	}
	return p.paired() && p.port.Master == b.Index && p.port.Up && p.peer.Master == u.Index && p.peer.Up
}

// found puts the links of a cluster into the words of the contract.
func (s *links) found(clusterName string) (nets []cluster.Network, taps []cluster.Tap, strangers []cluster.Stranger) {
	for name, p := range s.networks(clusterName) {
		n := cluster.Network{Name: name, Bridge: p.mark.Bridge, Uplink: p.mark.Uplink,
			UplinkPort: p.mark.UplinkPort, UplinkPeer: p.mark.UplinkPeer, Up: s.up(p)}
		if p.bridge != nil {
			n.Bridge = p.bridge.Name
		}
		nets = append(nets, n)
	}
	for _, l := range s.all {
		switch {
		case l.ours(clusterName) && l.mark.Node != "":
			t := cluster.Tap{Name: l.Name, Node: l.mark.Node, Port: l.mark.Port}
			if l.Up { // one that is down is not where it belongs
				t.Bridge = s.masterName(l)
			}
			taps = append(taps, t)
		case l.ours(clusterName):
		case l.unfinished(clusterName, "bridge"), l.unfinished(clusterName, "veth"), l.unfinished(clusterName, "tuntap"):
		default:
			for _, name := range append([]string{l.Name}, l.AltNames...) {
				strangers = append(strangers, cluster.Stranger{Kind: cluster.StrangerLink, Name: name, Owner: l.owner()})
			}
		}
	}
	slices.SortFunc(nets, func(a, b cluster.Network) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(taps, func(a, b cluster.Tap) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(strangers, func(a, b cluster.Stranger) int { return cmp.Compare(a.Name, b.Name) })
	return nets, taps, strangers
}

// freeIndex returns a number that no link has. The kernel gives numbers out
// from 1 upwards, so nobody gets this one by chance before we do.
func (s *links) freeIndex() int {
	for {
		if i := 1<<29 | rand.IntN(1<<29); s.byIndex[i] == nil {
			return i
		}
	}
}

// freeGroup returns a group that is empty and can be no cluster's: their bit 30
// is set (see [cluster.LinkGroup]).
func (s *links) freeGroup() uint32 {
	for {
		g := 1<<29 | rand.Uint32N(1<<29)
		if !slices.ContainsFunc(s.all, func(l *link) bool { return l.Group == g }) {
			return g
		}
	}
}

// validName tells whether a link can have that name (dev_valid_name in the
// kernel, and no pattern for it to fill in).
func validName(s string) error {
	if s == "" || len(s) > cluster.LinkNameMax || s == "." || s == ".." || strings.ContainsAny(s, "/:% \t\n\v\f\r") {
		return fmt.Errorf("%q cannot be the name of a link", s)
	}
	return nil
}
