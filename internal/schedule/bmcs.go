package schedule

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
)

// ipmiPort is the UDP port of RMCP (IPMI v2.0 §13.1.2).
const ipmiPort = 623

// endpoint is what one BMC on a hypervisor can have and no other.
type endpoint struct {
	address string
	port    int
}

// placeBMCs gives every node a BMC. One that exists keeps its address, if the
// file still allows it; the others get the lowest that are free.
func (p *placer) placeBMCs() {
	found := map[string]cluster.BMC{}
	for _, b := range p.found.BMCs {
		found[b.Node] = b
	}
	a := newAddresses(p.file.BMC, p.found.Strangers)
	p.reserveUnknown(a)

	given := make([]endpoint, len(p.want.Nodes))
	for i, n := range p.want.Nodes {
		if b, ok := found[n.Name]; ok && b.Hypervisor == n.Hypervisor {
			given[i] = a.keep(endpoint{b.Address, b.Port})
		}
	}
	missing := 0
	for i, n := range p.want.Nodes {
		if given[i] != (endpoint{}) {
			continue
		}
		var ok bool
		if given[i], ok = a.next(n.Hypervisor); !ok {
			missing++
		}
	}
	if missing > 0 {
		p.noAddresses(a, missing)
		return
	}

	if len(p.want.Nodes) == 0 {
		return
	}
	password := p.password()
	for i, n := range p.want.Nodes {
		username := p.file.BMC.Username
		if username == "" {
			username = found[n.Name].Username
		}
		p.want.BMCs = append(p.want.BMCs, cluster.BMC{
			Node: n.Name, Hypervisor: n.Hypervisor, Provider: n.Provider, UUID: n.UUID,
			Address: given[i].address, Port: given[i].port,
			Username: username, Password: password, Serving: true,
		})
	}
}

// reserveUnknown keeps the addresses of BMCs that no plan may remove: those of
// unknown nodes, and all where nodes are enrolled in a service that is unknown.
func (p *placer) reserveUnknown(a *addresses) {
	enrolled := map[string]bool{}
	for _, c := range p.found.Clouds {
		enrolled[c.Hypervisor] = true
	}
	reserved := func(b cluster.BMC) bool {
		return slices.ContainsFunc(p.found.Unknown, func(u cluster.Unknown) bool {
			if u.Hypervisor == "" {
				return enrolled[b.Hypervisor]
			}
			return u.Hypervisor == b.Hypervisor && (u.Provider == "" || u.Provider == b.Provider)
		})
	}
	wanted := map[string]bool{}
	for _, n := range p.want.Nodes {
		wanted[n.Name] = true
	}
	for _, b := range p.found.BMCs {
		if !wanted[b.Node] && reserved(b) {
			a.taken[endpoint{b.Address, b.Port}] = true
		}
	}
}

// password returns the password of all BMCs: the file's, the one they have, or
// a new one.
func (p *placer) password() cluster.Secret {
	if p.file.BMC.Password != "" {
		return p.file.BMC.Password
	}
	first := cluster.BMC{}
	for _, b := range p.found.BMCs {
		if b.Password != "" && (first.Password == "" || b.Hypervisor+"\x00"+b.Node < first.Hypervisor+"\x00"+first.Node) {
			first = b
		}
	}
	if first.Password != "" {
		return first.Password
	}
	if p.options.NewSecret == nil {
		p.errs = append(p.errs, fmt.Errorf("BMCs have no password"))
		return ""
	}
	return p.options.NewSecret()
}

func (p *placer) noAddresses(a *addresses, missing int) {
	if a.wildcard != nil {
		w := a.wildcard
		p.fail(fmt.Errorf("%d nodes get no BMC address on hypervisor %s: %s has UDP %s", missing, w.Hypervisor, w.Owner, w.Name),
			"stop it, or let it listen on one address only")
		return
	}
	b := p.file.BMC
	if b.Pool != "" {
		p.fail(fmt.Errorf("BMC address pool %s is too small: %d nodes get no address", b.Pool, missing),
			"choose a larger pool in bmc, or fewer nodes; addresses that end in 0 or 255 and 127.0.0.0/24 are not used")
		return
	}
	p.fail(fmt.Errorf("BMC ports %d to %d of %s are too few: %d nodes get none", b.FirstPort, b.LastPort, b.Address, missing),
		"choose a larger range of ports in bmc, or fewer nodes")
}

// addresses gives out BMC addresses, the lowest first. An address is given
// once in the cluster, whatever the hypervisor.
type addresses struct {
	file     config.BMC
	pool     netip.Prefix
	taken    map[endpoint]bool
	foreign  map[string]map[endpoint]bool // per hypervisor; address "" is every address
	cursor   map[string]endpoint          // per hypervisor: what is looked at next
	wildcard *cluster.Stranger            // has the port of every address
}

func newAddresses(b config.BMC, strangers []cluster.Stranger) *addresses {
	a := &addresses{file: b, taken: map[endpoint]bool{}, foreign: map[string]map[endpoint]bool{}, cursor: map[string]endpoint{}}
	if b.Pool != "" {
		a.pool, _ = netip.ParsePrefix(b.Pool) // package config has checked it; an invalid one contains nothing
		a.pool = a.pool.Masked()
	}
	for _, s := range strangers {
		if s.Kind != cluster.StrangerUDP {
			continue
		}
		e, ok := udpName(s.Name)
		if !ok {
			continue
		}
		if a.foreign[s.Hypervisor] == nil {
			a.foreign[s.Hypervisor] = map[endpoint]bool{}
		}
		a.foreign[s.Hypervisor][e] = true
		if e.address == "" && (b.Pool != "" && e.port == ipmiPort || b.Pool == "" && b.FirstPort == b.LastPort && e.port == b.FirstPort) {
			a.wildcard = &s
		}
	}
	return a
}

// udpName reads the name of a [cluster.StrangerUDP]. Address "" is every address.
func udpName(name string) (endpoint, bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return endpoint{}, false
	}
	var e endpoint
	if _, err := fmt.Sscanf(name[i+1:], "%d", &e.port); err != nil {
		return endpoint{}, false
	}
	switch host := strings.Trim(name[:i], "[]"); host {
	case "", "*", "0.0.0.0", "::":
	default:
		e.address = host
	}
	return e, true
}

// keep returns e, and takes it, if the file allows it and nobody else has it.
func (a *addresses) keep(e endpoint) endpoint {
	if a.taken[e] || !a.allows(e) {
		return endpoint{}
	}
	a.taken[e] = true
	return e
}

func (a *addresses) allows(e endpoint) bool {
	if a.file.Pool == "" {
		return e.address == a.file.Address && e.port >= a.file.FirstPort && e.port <= a.file.LastPort
	}
	ip, err := netip.ParseAddr(e.address)
	return err == nil && e.port == ipmiPort && a.pool.Contains(ip) && usable(ip)
}

// usable tells whether a BMC may have the address: the first and last of every
// 256 look like network and broadcast addresses to many programs, and the
// first 256 loopback addresses belong to the machine itself.
func usable(ip netip.Addr) bool {
	if !ip.Is4() {
		return false
	}
	b := ip.As4()
	return b[3] != 0 && b[3] != 255 && (b[0] != 127 || b[1] != 0 || b[2] != 0)
}

// next takes the lowest endpoint that is free on the hypervisor.
func (a *addresses) next(hypervisor string) (endpoint, bool) {
	if a.file.Pool != "" && a.foreign[hypervisor][endpoint{"", ipmiPort}] {
		return endpoint{}, false
	}
	for {
		e, ok := a.step(hypervisor)
		if !ok {
			return endpoint{}, false
		}
		strangers := a.foreign[hypervisor]
		if a.taken[e] || strangers[e] || strangers[endpoint{"", e.port}] {
			continue
		}
		a.taken[e] = true
		return e, true
	}
}

// step moves the hypervisor's cursor to the next endpoint that the file allows.
func (a *addresses) step(hypervisor string) (endpoint, bool) {
	last, started := a.cursor[hypervisor]
	if a.file.Pool == "" {
		e := endpoint{a.file.Address, a.file.FirstPort}
		if started {
			e.port = last.port + 1
		}
		a.cursor[hypervisor] = e
		return e, e.port <= a.file.LastPort
	}
	ip := a.pool.Addr()
	if started {
		if last.address == "" {
			return endpoint{}, false
		}
		ip = netip.MustParseAddr(last.address).Next()
	}
	for ip.Is4() && a.pool.Contains(ip) {
		if usable(ip) {
			e := endpoint{ip.String(), ipmiPort}
			a.cursor[hypervisor] = e
			return e, true
		}
		ip = ip.Next()
	}
	a.cursor[hypervisor] = endpoint{}
	return endpoint{}, false
}
