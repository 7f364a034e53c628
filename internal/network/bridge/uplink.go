package bridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// portMax is the most ports a Linux bridge can have: BR_MAX_PORTS is 1<<10, and
// port number 0 is not used (net/bridge/br_private.h).
const portMax = 1<<10 - 1

// uplink returns the link that a network wants as its uplink, or nil if it
// wants none. A link that cannot be one is an error.
func (s *links) uplink(want cluster.Network, p *parts) (*link, error) {
	if want.Uplink == "" {
		return nil, nil
	}
	u := s.byName[want.Uplink]
	switch {
	case u == nil:
		return nil, hint.Add(fmt.Errorf("uplink %s: there is no such link", want.Uplink), "use one of: %s", s.candidates())
	case u.Loopback:
		return nil, hint.Add(fmt.Errorf("uplink %s: it is the loopback device", u.Name), "use one of: %s", s.candidates())
	case u.marked:
		return nil, hint.Add(fmt.Errorf("uplink %s: it was made by Tenks, for cluster %q", u.Name, u.mark.Cluster), "use one of: %s", s.candidates())
	case u.Kind == "openvswitch":
		return nil, hint.Add(fmt.Errorf("uplink %s: it is an Open vSwitch bridge, and the network is a Linux bridge", u.Name), "use one of: %s", s.candidates())
	case u.Kind == "bridge":
		return u, s.checkBridge(u, p)
	}
	return u, s.checkNIC(u, p)
}

// candidates are the links that could be an uplink at all.
func (s *links) candidates() string {
	var names []string
	for _, l := range s.all {
		if !l.marked && !l.Loopback && l.Ethernet && l.Kind != "openvswitch" && (l.Master == 0 || l.Kind == "bridge") {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return "none (there is no other link here)"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (s *links) checkBridge(u *link, p *parts) error {
	if !u.Up {
		return hint.Add(fmt.Errorf("uplink %s: the bridge is down", u.Name), "run: ip link set %s up", u.Name)
	}
	if p.peer != nil && p.peer.Master == u.Index {
		return nil
	}
	if len(s.ports(u.Index)) >= portMax {
		return hint.Add(fmt.Errorf("uplink %s: it has %d ports, and a Linux bridge can have no more", u.Name, portMax), "use another bridge as uplink")
	}
	return nil
}

func (s *links) checkNIC(u *link, p *parts) error {
	if !u.Ethernet {
		return hint.Add(fmt.Errorf("uplink %s: it is no Ethernet device, and cannot be in a bridge", u.Name), "use one of: %s", s.candidates())
	}
	if p.bridge != nil && u.Master == p.bridge.Index {
		return nil
	}
	if u.Master != 0 {
		err := fmt.Errorf("uplink %s: it is already a port of %s", u.Name, s.masterName(u))
		if m := s.byIndex[u.Master]; m != nil && m.marked {
			return hint.Add(fmt.Errorf("%w, which is physical network %s of cluster %q", err, m.mark.Network, m.mark.Cluster),
				"use another NIC, or make a bridge of your own with %s in it and use that as uplink of both", u.Name)
		}
		return hint.Add(err, "use %s itself as uplink if it is a bridge, or take the NIC out: ip link set %s nomaster", s.masterName(u), u.Name)
	}
	addresses, err := addressesOf(u)
	if err != nil {
		return fmt.Errorf("uplink %s: %w", u.Name, err)
	}
	if len(addresses) > 0 {
		return hint.Add(fmt.Errorf("uplink %s: it has the address %s, which would stop working in a bridge", u.Name, strings.Join(addresses, ", ")),
			"make a bridge that has %s as a port and holds the address, and use that bridge as uplink; or use another NIC", u.Name)
	}
	return nil
}

// addressesOf returns a link's addresses but for link-local ones, which are of
// no use to anybody once the link is in a bridge.
func addressesOf(l *link) ([]string, error) {
	list, err := netlink.AddrList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index, Name: l.Name}}, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var found []string
	for _, a := range list {
		if !a.IP.IsLinkLocalUnicast() {
			found = append(found, a.IPNet.String())
		}
	}
	return found, nil
}
