package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// stranger is what a stranger occupies.
type stranger struct {
	kind cluster.StrangerKind
	name string
}

// occupied sorts the strangers by what they occupy. UDP ports of every address
// are under "*:port".
func occupied(list []cluster.Stranger) map[stranger][]cluster.Stranger {
	m := map[stranger][]cluster.Stranger{}
	for _, s := range list {
		name := s.Name
		switch s.Kind {
		case cluster.StrangerMAC, cluster.StrangerUUID:
			name = strings.ToLower(name)
		case cluster.StrangerUDP:
			name = udpName(name)
		}
		at := stranger{s.Kind, name}
		m[at] = append(m[at], s)
	}
	return m
}

// udpName is the one name of a UDP address; the port of every address is "*:port".
func udpName(name string) string {
	host, port := name, ""
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		host, port = name[:i], name[i+1:]
	}
	host = strings.Trim(host, "[]")
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "*"
	}
	return host + ":" + port
}

// on returns the stranger that occupies the name on a hypervisor. Empty stands
// for any: MAC addresses are taken wherever they are.
func (d *differ) on(hypervisor string, kind cluster.StrangerKind, name string) (cluster.Stranger, bool) {
	for _, s := range d.strangers[stranger{kind, name}] {
		if hypervisor == "" || s.Hypervisor == hypervisor {
			return s, true
		}
	}
	return cluster.Stranger{}, false
}

// collector gathers conflicts; the same words are said once.
type collector struct {
	errs []error
	said map[string]bool
}

func (c *collector) add(err error, format string, args ...any) {
	if c.said[err.Error()] {
		return
	}
	if c.said == nil {
		c.said = map[string]bool{}
	}
	c.said[err.Error()] = true
	c.errs = append(c.errs, hint.Add(err, format, args...))
}

// conflicts returns what keeps the plan from being made.
func (d *differ) conflicts() error {
	var c collector
	d.poolConflicts(&c)
	d.linkConflicts(&c)
	d.nodeConflicts(&c)
	d.bmcConflicts(&c)
	d.enrolmentConflicts(&c)
	return errors.Join(c.errs...)
}

// away is the advice for a name that a stranger has: what to do on our side, or
// how to remove the stranger. What belongs to another cluster is not to be
// removed piece by piece.
func away(s cluster.Stranger, ours, what, remove string) string {
	if other, ok := strings.CutPrefix(s.Owner, "cluster "); ok {
		return fmt.Sprintf("%s, or remove that cluster if nobody needs it: tenks destroy %s", ours, strings.Trim(other, `"`))
	}
	return fmt.Sprintf("%s, or remove the %s if nobody needs it: %s", ours, what, remove)
}

const anotherPrefix = "give the spec another name_prefix"

func (d *differ) poolConflicts(c *collector) {
	for _, p := range d.pools.added {
		if s, taken := d.on(p.Hypervisor, cluster.StrangerPool, p.Name); taken {
			c.add(fmt.Errorf("hypervisor %s: storage pool %s is there already: %s", p.Hypervisor, p.Name, s.Owner),
				"%s", away(s, "give the cluster another name", "pool", fmt.Sprintf("virsh pool-destroy %s; virsh pool-undefine %s", p.Name, p.Name)))
		}
	}
}

func (d *differ) linkConflicts(c *collector) {
	check := func(hypervisor, link, who, rename string) {
		if s, taken := d.on(hypervisor, cluster.StrangerLink, link); taken && link != "" {
			c.add(fmt.Errorf("hypervisor %s: link %s, wanted for %s, is there already: %s", hypervisor, link, who, s.Owner),
				"%s", away(s, rename, "link", "ip link delete "+link))
		}
	}
	uplink := func(n cluster.Network) {
		who := "the uplink of physical network " + n.Name
		check(n.Hypervisor, n.UplinkPort, who, "give the network another name")
		check(n.Hypervisor, n.UplinkPeer, who, "give the network another name")
	}
	for _, n := range d.networks.added {
		check(n.Hypervisor, n.Bridge, "physical network "+n.Name, "give the network another name")
		uplink(n)
	}
	for _, n := range d.networks.both {
		if n.old.Uplink == "" && n.new.Uplink != "" {
			uplink(n.new)
		}
	}
	d.heldUplinks(c)
	for _, t := range d.taps.added {
		check(t.Hypervisor, t.Name, fmt.Sprintf("port %d of node %s", t.Port, t.Node), anotherPrefix)
	}
}

// heldUplinks finds uplinks that are wanted elsewhere, while their network
// cannot go since something unknown may stand on it.
func (d *differ) heldUplinks(c *collector) {
	free := map[string]bool{} // networks that stay, which can release theirs, or go
	for _, n := range slices.Concat(d.want.Networks, d.networks.gone) {
		free[networkKey(n)] = true
	}
	for _, n := range d.have.Networks {
		if !free[networkKey(n)] && n.Uplink != "" && d.taken[key(n.Hypervisor, n.Uplink)] {
			c.add(fmt.Errorf("hypervisor %s: uplink %s is in physical network %s, which has to stay while something is unknown", n.Hypervisor, n.Uplink, n.Name),
				"see to it that what is unknown answers, then try again")
		}
	}
}

func (d *differ) nodeConflicts(c *collector) {
	found := byKey(d.have.Nodes, func(n cluster.Node) string { return n.Name })
	for _, n := range d.nodes.added {
		if old, there := found[n.Name]; there {
			d.movedNode(c, old, n)
			continue
		}
		if n.Provider == cluster.Libvirt {
			if s, taken := d.on(n.Hypervisor, cluster.StrangerDomain, n.Name); taken {
				c.add(fmt.Errorf("hypervisor %s: domain %s is there already: %s", n.Hypervisor, n.Name, s.Owner),
					"%s", away(s, anotherPrefix, "domain", "virsh undefine --nvram "+n.Name))
			}
			if s, taken := d.on(n.Hypervisor, cluster.StrangerUUID, strings.ToLower(n.UUID)); taken {
				c.add(fmt.Errorf("hypervisor %s: UUID %s of node %s belongs to a domain that is there already: %s", n.Hypervisor, n.UUID, n.Name, s.Owner),
					"%s", away(s, anotherPrefix, "domain", "virsh undefine --nvram "+n.UUID))
			}
		}
		d.macConflicts(c, n, nil)
	}
	for _, n := range d.nodes.both {
		d.macConflicts(c, n.new, n.old.Ports)
	}
	d.shrinking(c)
}

func (d *differ) movedNode(c *collector, old, n cluster.Node) {
	if old.Provider != n.Provider {
		c.add(fmt.Errorf("node %s cannot change its provider from %s to %s", n.Name, old.Provider, n.Provider),
			"let the spec's count be 0 and apply, then change the provider; or give the spec another name")
		return
	}
	c.add(fmt.Errorf("node %s cannot move from hypervisor %s to %s", n.Name, old.Hypervisor, n.Hypervisor),
		"let the spec's count be 0 and apply, then move it")
}

// macConflicts checks the ports that the node does not have yet.
func (d *differ) macConflicts(c *collector, n cluster.Node, old []cluster.Port) {
	for _, p := range n.Ports {
		has := false
		for _, o := range old {
			has = has || o.MAC == p.MAC
		}
		if s, taken := d.on("", cluster.StrangerMAC, strings.ToLower(p.MAC)); taken && !has {
			c.add(macError(n.Name, p.MAC, s), "remove that machine or port, or give the spec another name_prefix")
		}
	}
}

func macError(node, mac string, s cluster.Stranger) error {
	return fmt.Errorf("MAC address %s of node %s is in use: %s", mac, node, s.Owner)
}

// shrinking finds disks that would have to become smaller. Nodes of one type
// are named together: there may be thousands.
func (d *differ) shrinking(c *collector) {
	type shrink struct {
		typ       string
		was, want int64
	}
	nodes := map[shrink][]string{}
	var order []shrink
	for _, n := range d.nodes.both {
		sizes := map[string]int64{}
		for _, v := range n.old.Volumes {
			sizes[v.Name] = v.Size
		}
		for _, v := range n.new.Volumes {
			if was := sizes[v.Name]; v.Size < was {
				s := shrink{n.new.Type, was, v.Size}
				if nodes[s] == nil {
					order = append(order, s)
				}
				nodes[s] = append(nodes[s], v.Name)
			}
		}
	}
	for _, s := range order {
		c.add(fmt.Errorf("node type %s: volumes of %s cannot shrink to %s: %s", s.typ, size(s.was), size(s.want), some(nodes[s])),
			"ask for at least %s; or let the spec's count be 0 and apply, which deletes the nodes with their disks", size(s.was))
	}
}

// some names a few of a list: "dev-0, dev-1, dev-2 and 7 more".
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func (d *differ) bmcConflicts(c *collector) {
	type every struct {
		hypervisor string
		by         cluster.Stranger
	}
	nodes := map[every][]string{}
	var order []every // strangers that have a port of every address are told once
	check := func(b cluster.BMC) {
		port := strconv.Itoa(b.Port)
		if s, taken := d.on(b.Hypervisor, cluster.StrangerUDP, udpName(b.Address+":"+port)); taken {
			c.add(fmt.Errorf("hypervisor %s: UDP address %s:%s of the BMC of %s is in use: %s has %s", b.Hypervisor, b.Address, port, b.Node, s.Owner, s.Name),
				"stop it, or choose other addresses in bmc")
			return
		}
		if s, taken := d.on(b.Hypervisor, cluster.StrangerUDP, "*:"+port); taken {
			e := every{b.Hypervisor, s}
			if nodes[e] == nil {
				order = append(order, e)
			}
			nodes[e] = append(nodes[e], b.Node)
		}
	}
	defer func() {
		for _, e := range order {
			c.add(fmt.Errorf("hypervisor %s: %s has UDP %s, and so the port of every address: none is left for the BMC of %s", e.hypervisor, e.by.Owner, e.by.Name, some(nodes[e])),
				"stop it, or let it listen on one address only, or choose other ports in bmc")
		}
	}()
	for _, b := range d.bmcs.added {
		check(b)
	}
	for _, b := range d.bmcs.both {
		if b.old.Address != b.new.Address || b.old.Port != b.new.Port || !b.old.Serving {
			check(b.new)
		}
	}
}

func (d *differ) enrolmentConflicts(c *collector) {
	for _, e := range d.enrolments.gone {
		if !short(e.State) && e.State != "available" {
			c.add(fmt.Errorf("node %s is in use in Ironic (state %s) and cannot be unenrolled", e.Node, e.State),
				"remove what runs on it first: openstack server delete, or: openstack baremetal node undeploy %s", e.Node)
		}
	}
	for _, e := range d.enrolments.added {
		if s, taken := d.on("", cluster.StrangerNode, e.Node); taken {
			c.add(fmt.Errorf("node %s is in Ironic already: %s", e.Node, s.Owner),
				"%s", away(s, anotherPrefix, "node", "openstack baremetal node delete "+e.Node))
		}
		d.portConflicts(c, e, nil)
	}
	for _, e := range d.enrolments.both {
		d.portConflicts(c, e.new, e.old.Ports)
	}
	for _, p := range d.clouds.both {
		if p.old.ID != p.new.ID {
			c.add(fmt.Errorf("hypervisor %s: the cluster's nodes are enrolled in %s, and would now be enrolled in %s", p.new.Hypervisor, p.old.ID, p.new.ID),
				"use the same service as before, or unenrol the nodes first: remove ironic from their specs and apply")
		}
	}
}

// portConflicts checks the MAC addresses that are new to Ironic.
func (d *differ) portConflicts(c *collector, e cluster.Enrolment, old []cluster.EnrolledPort) {
	for _, p := range e.Ports {
		has := false
		for _, o := range old {
			has = has || o.MAC == p.MAC
		}
		if has {
			continue
		}
		for _, s := range d.strangers[stranger{cluster.StrangerMAC, strings.ToLower(p.MAC)}] {
			if s.Hypervisor == "" { // an Ironic port
				c.add(macError(e.Node, p.MAC, s), "remove that machine or port, or give the spec another name_prefix")
			}
		}
	}
}
