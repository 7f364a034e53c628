package schedule

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
)

// placeLinks wants what the nodes stand on: pools, networks and taps.
func (p *placer) placeLinks() {
	type place struct{ hypervisor, name string }
	pools, networks := map[place]bool{}, map[place]bool{}
	for _, n := range p.want.Nodes {
		if n.Provider != cluster.Libvirt {
			continue
		}
		if len(n.Volumes) > 0 {
			pools[place{n.Hypervisor, cluster.PoolName(p.file.Cluster)}] = true
		}
		for i, port := range n.Ports {
			networks[place{n.Hypervisor, port.Network}] = true
			p.want.Taps = append(p.want.Taps, cluster.Tap{
				Name: port.Tap, Hypervisor: n.Hypervisor, Bridge: p.bridge(port.Network), Node: n.Name, Port: i,
			})
		}
	}
	for at := range pools {
		p.want.Pools = append(p.want.Pools, cluster.Pool{
			Name: at.name, Hypervisor: at.hypervisor, UUID: cluster.PoolUUID(p.file.Cluster), Active: true,
		})
	}
	undeclared := map[string]bool{}
	for at := range networks {
		i := slices.IndexFunc(p.file.PhysicalNetworks, func(pn config.PhysicalNetwork) bool { return pn.Name == at.name })
		if i < 0 {
			undeclared[at.name] = true
			continue
		}
		p.want.Networks = append(p.want.Networks, p.network(at.hypervisor, p.file.PhysicalNetworks[i]))
	}
	for _, name := range slices.Sorted(maps.Keys(undeclared)) {
		p.fail(fmt.Errorf("physical network %q is used by a node type and not declared", name), "add %s to physical_networks", name)
	}
	sortState(&p.want)
	p.checkLinks()
}

func (p *placer) bridge(network string) string {
	return cluster.LinkName("br-" + p.file.Cluster + "-" + network)
}

func (p *placer) network(hypervisor string, pn config.PhysicalNetwork) cluster.Network {
	n := cluster.Network{Name: pn.Name, Hypervisor: hypervisor, Bridge: p.bridge(pn.Name), Uplink: pn.Uplink, Up: true}
	if pn.Uplink != "" {
		n.UplinkPort = cluster.LinkName("up-" + p.file.Cluster + "-" + pn.Name)
		n.UplinkPeer = cluster.LinkName("peer-" + p.file.Cluster + "-" + pn.Name)
	}
	return n
}

// checkLinks sees to it that no two links on a hypervisor have one name: a hash
// of four bytes can meet another, and users choose names freely.
func (p *placer) checkLinks() {
	type link struct{ hypervisor, name string }
	owner := map[link]string{}
	claim := func(hypervisor, name, who string) {
		if name == "" {
			return
		}
		at := link{hypervisor, name}
		if other, taken := owner[at]; taken && other != who {
			p.fail(fmt.Errorf("link name %s would be that of %s and of %s", name, other, who),
				"give one of them another name, or another name_prefix to its spec")
			return
		}
		owner[at] = who
	}
	for _, n := range p.want.Networks {
		who := "physical network " + n.Name
		if n.Uplink != "" {
			owner[link{n.Hypervisor, n.Uplink}] = "the uplink of " + who // two networks may share a bridge as uplink
		}
	}
	for _, n := range p.want.Networks {
		who := "physical network " + n.Name
		claim(n.Hypervisor, n.Bridge, who+" (bridge)")
		claim(n.Hypervisor, n.UplinkPort, who+" (uplink port)")
		claim(n.Hypervisor, n.UplinkPeer, who+" (uplink peer)")
	}
	for _, t := range p.want.Taps {
		claim(t.Hypervisor, t.Name, fmt.Sprintf("port %d of node %s", t.Port, t.Node))
	}
}
