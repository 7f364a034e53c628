package schedule_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/schedule"
)

var hypervisors = []string{"hv1", "hv2", "hv3"}

// file draws a cluster file. A spec keeps its provider, since a node must.
func file(t *rapid.T, name, label string) config.File {
	f := config.File{Cluster: name, Ironic: &config.Ironic{}}
	networks := []string{"prov", "data", "a-network-with-a-long-name", "a-network-with-a-longer-name"}
	for _, n := range networks {
		f.PhysicalNetworks = append(f.PhysicalNetworks, config.PhysicalNetwork{Name: n, Uplink: rapid.SampledFrom([]string{"", "eth-" + n[:2]}).Draw(t, label+"uplink")})
	}
	for _, s := range []struct{ name, provider, prefix string }{
		{"metal", cluster.Libvirt, name + "-"}, {"paper", cluster.Synthetic, name + "-"}, {"long", cluster.Libvirt, name + "-a-rather-long-prefix-"},
	} {
		typ := config.NodeType{
			Name: s.name, Provider: s.provider, VCPUs: 1, MemoryMB: rapid.IntRange(1, 4).Draw(t, label+"memory") << 10,
			Networks: rapid.SliceOfNDistinct(rapid.SampledFrom(networks), 0, 4, rapid.ID).Draw(t, label+"networks"),
		}
		if rapid.Bool().Draw(t, label+"disk") {
			typ.Volumes = []int64{1 << 30}
		}
		f.NodeTypes = append(f.NodeTypes, typ)
		spec := config.Spec{Name: s.name, Type: s.name, Count: rapid.IntRange(0, 12).Draw(t, label+"count"), NamePrefix: s.prefix}
		if rapid.Bool().Draw(t, label+"ironic") {
			spec.Ironic = &config.IronicNodes{ResourceClass: "x"}
		}
		f.Specs = append(f.Specs, spec)
	}
	f.BMC = config.BMC{Pool: "127.64.0.0/24", Username: "admin"}
	if rapid.Bool().Draw(t, label+"shared") {
		f.BMC = config.BMC{Address: "127.0.0.1", FirstPort: 6230, LastPort: 6299, Username: "admin"}
	}
	return f
}

// shuffled is the same state in another order.
func shuffled(t *rapid.T, s cluster.State) cluster.State {
	s.Nodes = rapid.Permutation(s.Nodes).Draw(t, "nodes")
	s.BMCs = rapid.Permutation(s.BMCs).Draw(t, "bmcs")
	s.Taps = rapid.Permutation(s.Taps).Draw(t, "taps")
	s.Strangers = rapid.Permutation(s.Strangers).Draw(t, "strangers")
	return s
}

// The same input gives the same cluster, in whatever order it was found; what is
// there already as it is wanted stays to the letter.
func TestDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := file(t, "dev", "before "), file(t, "dev", "after ")
		have := place(t, before, cluster.State{}, options(hypervisors...))
		first := place(t, after, have, options(hypervisors...))
		if diff := cmp.Diff(first, place(t, after, shuffled(t, have), options(hypervisors...))); diff != "" {
			t.Fatalf("another order, another cluster:\n%s", diff)
		}
		if diff := cmp.Diff(first, place(t, after, shuffled(t, first), options(hypervisors...))); diff != "" {
			t.Fatalf("a second time gives something else:\n%s", diff)
		}
	})
}

// A node that stays keeps all that it is known by, and its BMC its address if
// the file still has it.
func TestNobodyMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := file(t, "dev", "before "), file(t, "dev", "after ")
		have := place(t, before, cluster.State{}, options(hypervisors[:rapid.IntRange(1, 3).Draw(t, "hypervisors")]...))
		want := place(t, after, have, options(hypervisors...))
		now, bmcs := map[string]cluster.Node{}, map[string]cluster.BMC{}
		for _, n := range want.Nodes {
			now[n.Name] = n
		}
		for _, b := range want.BMCs {
			bmcs[b.Node] = b
		}
		stay := map[string]int{}
		for i, n := range have.Nodes {
			is, there := now[n.Name]
			if !there {
				continue
			}
			stay[n.Spec]++
			if is.Spec != n.Spec || is.Hypervisor != n.Hypervisor || is.UUID != n.UUID || is.Serial != n.Serial {
				t.Errorf("%+v is now %+v", n, is)
			}
			for p := range min(len(n.Ports), len(is.Ports)) {
				if n.Ports[p].MAC != is.Ports[p].MAC || n.Ports[p].Tap != is.Ports[p].Tap {
					t.Errorf("port %d of %s was %+v and is %+v", p, n.Name, n.Ports[p], is.Ports[p])
				}
			}
			if before.BMC == after.BMC {
				was, is := have.BMCs[i], bmcs[n.Name]
				if was.Node != n.Name || was.Address != is.Address || was.Port != is.Port || was.Password != is.Password {
					t.Errorf("the BMC of %s was %+v and is %+v", n.Name, was, is)
				}
			}
		}
		for i, s := range after.Specs {
			if keep := min(s.Count, before.Specs[i].Count); stay[s.Name] != keep {
				t.Errorf("spec %s: %d nodes stay, and %d could", s.Name, stay[s.Name], keep)
			}
		}
	})
}

// No two things have one name or one address, and none has that of a stranger:
// here, another cluster on the same hypervisors.
func TestUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dev, ci := file(t, "dev", "dev "), file(t, "ci", "ci ")
		ci.BMC = dev.BMC // they even share the pool
		a := place(t, dev, cluster.State{}, options(hypervisors...))
		b := place(t, ci, cluster.State{Strangers: strangersOf(a)}, options(hypervisors...))
		seen := map[string]string{}
		once := func(kind, name, who string) {
			if other, taken := seen[kind+" "+name]; taken {
				t.Errorf("%s %s is that of %s and of %s", kind, name, other, who)
			}
			seen[kind+" "+name] = who
		}
		link := func(hypervisor, name, who string) {
			if name == "" {
				return
			}
			once("link on "+hypervisor, name, who)
			if len(name) > 15 { // IFNAMSIZ 16 with the terminating zero (linux/if.h)
				t.Errorf("link %s of %s is too long", name, who)
			}
		}
		for _, s := range []cluster.State{a, b} {
			for _, n := range s.Nodes {
				who := "node " + n.Name
				once("node", n.Name, who)
				once("UUID", n.UUID, who)
				once("serial", n.Serial, who)
				for i, p := range n.Ports {
					once("MAC", p.MAC, fmt.Sprintf("%s port %d", who, i))
				}
				for _, v := range n.Volumes {
					once("volume", n.Hypervisor+n.Provider+v.Name, who)
				}
			}
			for _, x := range s.BMCs {
				at := fmt.Sprintf("%s:%d", x.Address, x.Port)
				once("UDP of cluster "+s.Cluster, at, "BMC of "+x.Node)
				once("UDP on "+x.Hypervisor, at, "BMC of "+x.Node)
			}
			for _, n := range s.Networks {
				link(n.Hypervisor, n.Bridge, "bridge of "+n.Name)
				link(n.Hypervisor, n.UplinkPort, "uplink port of "+n.Name)
				link(n.Hypervisor, n.UplinkPeer, "uplink peer of "+n.Name)
			}
			for _, x := range s.Taps {
				link(x.Hypervisor, x.Name, "tap of "+x.Node)
			}
		}
	})
}

func strangersOf(s cluster.State) []cluster.Stranger {
	var out []cluster.Stranger
	add := func(h string, k cluster.StrangerKind, name string) {
		out = append(out, cluster.Stranger{Hypervisor: h, Kind: k, Name: name, Owner: fmt.Sprintf("cluster %q", s.Cluster)})
	}
	for _, n := range s.Nodes {
		add(n.Hypervisor, cluster.StrangerDomain, n.Name)
		for _, p := range n.Ports {
			add(n.Hypervisor, cluster.StrangerMAC, p.MAC)
		}
	}
	for _, b := range s.BMCs {
		add(b.Hypervisor, cluster.StrangerUDP, fmt.Sprintf("%s:%d", b.Address, b.Port))
	}
	return out
}

// Everything that is wanted stands on something that is wanted.
func TestNothingHangsInTheAir(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := file(t, "dev", "")
		s := place(t, f, cluster.State{}, options(hypervisors...))
		has := map[string]bool{}
		for _, p := range s.Pools {
			has["pool "+p.Hypervisor+p.Name] = true
		}
		for _, n := range s.Networks {
			has["bridge "+n.Hypervisor+n.Bridge] = true
		}
		for _, x := range s.Taps {
			has["tap "+x.Hypervisor+x.Name] = true
			if !has["bridge "+x.Hypervisor+x.Bridge] {
				t.Errorf("tap %s is in no bridge", x.Name)
			}
		}
		for _, n := range s.Nodes {
			has["node "+n.Hypervisor+n.Name] = true
			for _, v := range n.Volumes {
				if n.Provider == cluster.Libvirt && !has["pool "+n.Hypervisor+v.Pool] {
					t.Errorf("volume %s is in no pool", v.Name)
				}
			}
			for _, p := range n.Ports {
				if n.Provider == cluster.Libvirt && !has["tap "+n.Hypervisor+p.Tap] {
					t.Errorf("a port of %s has no tap", n.Name)
				}
			}
		}
		if len(s.BMCs) != len(s.Nodes) {
			t.Errorf("%d BMCs for %d nodes", len(s.BMCs), len(s.Nodes))
		}
		for _, b := range s.BMCs {
			if !has["node "+b.Hypervisor+b.Node] || !b.Serving || b.Password == "" {
				t.Errorf("%+v", b)
			}
		}
		for _, e := range s.Enrolments {
			i := slices.IndexFunc(s.BMCs, func(b cluster.BMC) bool { return b.Node == e.Node })
			if i < 0 || e.DriverInfo["ipmi_address"] != s.BMCs[i].Address || e.Password != s.BMCs[i].Password {
				t.Errorf("enrolment of %s does not fit its BMC", e.Node)
			}
		}
	})
}

// However many nodes there are and addresses are taken: either each gets one
// that is free, or there is one error that says how many get none.
func TestAddressesOrOneError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := file(t, "dev", "")
		if f.BMC.Pool != "" {
			f.BMC.Pool = rapid.SampledFrom([]string{"127.64.0.0/28", "127.64.0.240/28", "127.64.3.0/27", "127.0.0.0/23"}).Draw(t, "pool")
		} else {
			f.BMC.LastPort = f.BMC.FirstPort + rapid.IntRange(0, 30).Draw(t, "ports")
		}
		taken := map[string]bool{}
		var found cluster.State
		for range rapid.IntRange(0, 8).Draw(t, "taken") {
			at := fmt.Sprintf("127.64.0.%d:623", rapid.IntRange(1, 15).Draw(t, "at"))
			taken[at] = true
			for _, h := range hypervisors {
				found.Strangers = append(found.Strangers, cluster.Stranger{Hypervisor: h, Kind: cluster.StrangerUDP, Name: at})
			}
		}
		s, err := schedule.Place(f, found, options(hypervisors...))
		if err != nil {
			if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 1 {
				t.Fatalf("more than one error: %v", err)
			}
			return
		}
		for _, b := range s.BMCs {
			if at := fmt.Sprintf("%s:%d", b.Address, b.Port); taken[at] {
				t.Errorf("%s is given, and taken", at)
			}
			taken[fmt.Sprintf("%s:%d", b.Address, b.Port)] = true
		}
	})
}
