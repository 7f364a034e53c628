package plan

import "github.com/tenks/tenks/internal/cluster"

// unknowns answers what may be planned for.
type unknowns struct {
	service bool // the bare metal service did not answer
	// enrolledOn are hypervisors with nodes that are enrolled in a service that
	// did not answer: somebody's instance may be on any of them, so none may go.
	enrolledOn map[string]bool
	some       map[string]bool             // hypervisors of which something is unknown
	hosts      map[string]bool             // hypervisors of which all is unknown
	providers  map[string]bool             // key(hypervisor, provider)
	owners     map[string]map[string]owner // where a node is, by its name and hypervisor
}

// owner is where a node is.
type owner struct{ hypervisor, provider string }

func newUnknowns(have, want cluster.State) *unknowns {
	u := &unknowns{some: map[string]bool{}, hosts: map[string]bool{}, providers: map[string]bool{}, enrolledOn: map[string]bool{}}
	for _, x := range have.Unknown {
		switch {
		case x.Hypervisor == "":
			u.service = true
		case x.Provider == "":
			u.some[x.Hypervisor], u.hosts[x.Hypervisor] = true, true
		default:
			u.some[x.Hypervisor], u.providers[key(x.Hypervisor, x.Provider)] = true, true
		}
	}
	for _, c := range have.Clouds {
		u.enrolledOn[c.Hypervisor] = u.service
	}
	if len(u.some) == 0 {
		return u
	}
	u.owners = map[string]map[string]owner{}
	own := func(node string, o owner) {
		if u.owners[node] == nil {
			u.owners[node] = map[string]owner{}
		}
		if _, known := u.owners[node][o.hypervisor]; !known {
			u.owners[node][o.hypervisor] = o
		}
	}
	for _, n := range have.Nodes {
		own(n.Name, owner{n.Hypervisor, n.Provider})
	}
	for _, b := range have.BMCs {
		own(b.Node, owner{b.Hypervisor, b.Provider})
	}
	for _, n := range want.Nodes {
		own(n.Name, owner{n.Hypervisor, n.Provider})
	}
	return u
}

// any tells whether something of the hypervisor is unknown.
func (u *unknowns) any(hypervisor string) bool { return u.some[hypervisor] }

// host tells whether all of the hypervisor is unknown.
func (u *unknowns) host(hypervisor string) bool { return u.hosts[hypervisor] }

// hides tells whether the provider's objects on the hypervisor are unknown.
func (u *unknowns) hides(hypervisor, provider string) bool {
	return u.hosts[hypervisor] || u.providers[key(hypervisor, provider)]
}

// node tells whether the node on the hypervisor is, or may be, unknown.
func (u *unknowns) node(hypervisor, node string) bool {
	if !u.some[hypervisor] {
		return false
	}
	if o, known := u.owners[node][hypervisor]; known {
		return u.hides(o.hypervisor, o.provider)
	}
	return true
}

// enrolled tells whether the enrolled node is, or may be, an unknown one.
func (u *unknowns) enrolled(node string) bool {
	if len(u.some) == 0 {
		return false
	}
	for _, o := range u.owners[node] {
		if u.hides(o.hypervisor, o.provider) {
			return true
		}
	}
	return len(u.owners[node]) == 0
}
