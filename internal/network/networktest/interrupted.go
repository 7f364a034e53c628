package networktest

import (
	"fmt"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// testRepair breaks a network by hand, in every way that a user or a killed
// process can, and expects that it is seen and mended, and that a broken one
// can be deleted without a trace.
func testRepair(s *suite) {
	s.nic("eth1", "far")
	s.userBridge("br0")
	was := fingerprint(s)
	taps := tapsIn("tk-prov", 2)
	for _, c := range []struct{ uplink, broken string }{
		{"", "link set tk-prov down"},
		{"", "link del tk-prov"},
		{"", "link set tk0 nomaster"},
		{"", "link set tk0 down"},
		{"", "link del tk0"},
		{"", "link set group 0 dev tk0"},
		{"", "link set group 0 dev tk-prov"},
		{"eth1", "link set eth1 nomaster"},
		{"eth1", "link set eth1 down"},
		{"eth1", "link set tk-prov down"},
		{"eth1", "link del tk-prov"},
		{"br0", "link set tk-prov-u nomaster"},
		{"br0", "link set tk-prov-p nomaster"},
		{"br0", "link set tk-prov-p down"},
		{"br0", "link set tk-prov-u down"},
		{"br0", "link del tk-prov-u"},
		{"br0", "link del tk-prov"},
	} {
		want := provision(c.uplink)
		nets := []cluster.Network{want}
		s.must(s.nets.Create(s.ctx, dev, want))
		s.must(s.nets.CreateTaps(s.ctx, dev, taps))
		s.has(dev, nets, taps)

		ip(s, c.broken)
		f, err := s.nets.Observe(s.ctx, dev)
		s.must(err)
		fine := len(f.Networks) == 1 && f.Networks[0] == want && len(f.Taps) == 2 && f.Taps[0] == taps[0] && f.Taps[1] == taps[1]
		if harmless := strings.Contains(c.broken, "group"); fine != harmless {
			s.Errorf("%s: found %+v", c.broken, f)
		}
		s.must(s.nets.Update(s.ctx, dev, want, want))
		s.must(s.nets.CreateTaps(s.ctx, dev, taps))
		s.has(dev, nets, taps)

		ip(s, c.broken)
		s.must(s.nets.DeleteTaps(s.ctx, dev, taps))
		s.must(s.nets.Delete(s.ctx, dev, want))
		s.has(dev, nil, nil)
		if c.uplink == "eth1" { // its state is lost with the bridge, or was changed by hand
			ip(s, "link set eth1 down")
		}
		unchanged(s, was)
	}
}

// testUnfinished: a link with a wanted name in the cluster's group, but without
// a mark, is one whose making was interrupted. It is completed, or deleted.
func testUnfinished(s *suite) {
	s.userBridge("br0")
	group := fmt.Sprint(cluster.LinkGroup(dev))
	half := []string{
		"link add tk-prov group " + group + " type bridge",
		"link add tk-prov-u group " + group + " type veth peer name tk-prov-p",
		"link set tk-prov-p group " + group,
		"tuntap add dev tk0 mode tap vnet_hdr",
		"link set tk0 group " + group,
	}
	was := fingerprint(s)
	want := provision("br0")
	taps := tapsIn(want.Bridge, 1)
	for _, c := range half {
		ip(s, c)
	}
	f := s.has(dev, nil, nil)
	for _, name := range []string{"tk-prov", "tk-prov-u", "tk-prov-p", "tk0"} {
		if o := owner(f, name); o != "" {
			s.Errorf("%s is a stranger: %s", name, o)
		}
	}
	s.must(s.nets.Create(s.ctx, dev, want))
	s.must(s.nets.CreateTaps(s.ctx, dev, taps))
	s.has(dev, []cluster.Network{want}, taps)
	b := details(s)[want.Bridge]
	if d := b.LinkInfo.Data; d.STP != 0 || d.Delay != 0 || d.Snooping != 0 || b.AddrGen != "none" {
		s.Errorf("the bridge was not completed: %+v", b)
	}
	passes(s, end{guest(s, "tk0"), vnetHeader}, end{wire(s, "br0-y"), 0}, "out")
	s.must(s.nets.DeleteTaps(s.ctx, dev, taps))
	s.must(s.nets.Delete(s.ctx, dev, want))
	unchanged(s, was)

	for _, c := range half[:3] {
		ip(s, c)
	}
	s.must(s.nets.Delete(s.ctx, dev, want))
	unchanged(s, was)
}

// testStrangers: what has a name that we want, but not our mark, is not touched.
func testStrangers(s *suite) {
	s.userBridge("br0")
	for _, stranger := range []string{
		"link add tk-prov type bridge",
		"link add tk-prov type veth peer name other",
		"link add tk-prov-u type veth peer name other",
		"link add other type veth peer name tk-prov-p",
		// In our group, but of a kind that we do not make by that name.
		"link add tk-prov group " + fmt.Sprint(cluster.LinkGroup(dev)) + " type veth peer name other",
	} {
		ip(s, stranger)
		was := fingerprint(s)
		s.refuses(was, s.nets.Create(s.ctx, dev, provision("br0")), "tk-prov", "not made by Tenks")
		s.must(s.nets.Delete(s.ctx, dev, provision("br0")))
		unchanged(s, was)
		words := strings.Fields(stranger)
		ip(s, "link del "+words[2])
	}
	// An alternative name is a name.
	ip(s, "link property add dev br0-x altname tk-prov")
	if o := owner(s.has(dev, nil, nil), "tk-prov"); o != "not made by Tenks" {
		s.Errorf("owner of an alternative name: %q", o)
	}
	s.refuses(fingerprint(s), s.nets.Create(s.ctx, dev, provision("")), "tk-prov")
	ip(s, "link property del dev br0-x altname tk-prov")

	s.must(s.nets.Create(s.ctx, dev, provision("")))
	ip(s, "tuntap add dev tk1 mode tap")
	ip(s, "link set tk1 master tk-prov")
	was := fingerprint(s)
	s.refuses(was, s.nets.CreateTaps(s.ctx, dev, tapsIn("tk-prov", 3)), "tk1", "not made by Tenks")
	s.must(s.nets.DeleteTaps(s.ctx, dev, tapsIn("tk-prov", 3)))
	unchanged(s, was)
	s.refuses(was, s.nets.CreateTaps(s.ctx, dev, []cluster.Tap{{Name: "tk5", Bridge: "br0", Node: node}}), "br0", "not made by Tenks")
}

// testForeignPort: somebody's link in our bridge keeps it.
func testForeignPort(s *suite) {
	s.nic("eth1", "far1")
	s.nic("eth2", "far2")
	want := provision("eth1")
	s.must(s.nets.Create(s.ctx, dev, want))
	ip(s, "link set eth2 master tk-prov")
	was := fingerprint(s)
	s.refuses(was, s.nets.Delete(s.ctx, dev, want), "eth2", "not made by Tenks", "tk-prov")
	ip(s, "link set eth2 nomaster")
	s.must(s.nets.Delete(s.ctx, dev, want))
	s.has(dev, nil, nil)
}

// testTwoClusters: clusters do not see each other's links but as strangers,
// even if the hashes that are their groups are the same.
func testTwoClusters(s *suite) {
	a, b := sameGroup()
	s.userBridge("br0")
	group := fmt.Sprint(cluster.LinkGroup(a))
	ip(s, "link add bystander group "+group+" type bridge") // of somebody who likes the number
	was := fingerprint(s)
	ofA, ofB := provision("br0"), cluster.Network{Name: "provision", Bridge: "b-prov", Uplink: "br0", UplinkPort: "b-u", UplinkPeer: "b-p", Up: true}
	tapA, tapB := []cluster.Tap{{Name: "a0", Bridge: "tk-prov", Node: "n0"}}, []cluster.Tap{{Name: "b0", Bridge: "b-prov", Node: "n0"}}
	s.must(s.nets.Create(s.ctx, a, ofA))
	s.must(s.nets.CreateTaps(s.ctx, a, tapA))
	alone := fingerprint(s)
	s.must(s.nets.Create(s.ctx, b, ofB))
	s.must(s.nets.CreateTaps(s.ctx, b, tapB))
	f := s.has(a, []cluster.Network{ofA}, tapA)
	s.has(b, []cluster.Network{ofB}, tapB)
	for _, name := range []string{"b-prov", "b-u", "b-p", "b0"} {
		if o := owner(f, name); o != fmt.Sprintf("cluster %q", b) {
			s.Errorf("owner of %s: %q", name, o)
		}
	}
	both := fingerprint(s)
	wrong := ofB
	wrong.Name = "mine"
	s.refuses(both, s.nets.Create(s.ctx, a, wrong), "b-prov", b)
	s.refuses(both, s.nets.CreateTaps(s.ctx, a, []cluster.Tap{{Name: "b0", Bridge: "tk-prov", Node: "n1"}}), "b0", b)
	s.must(s.nets.DeleteTaps(s.ctx, a, tapB))
	unchanged(s, both)

	s.must(s.nets.DeleteTaps(s.ctx, b, tapB))
	s.must(s.nets.Delete(s.ctx, b, ofB))
	unchanged(s, alone)
	s.must(s.nets.DeleteTaps(s.ctx, a, tapA))
	s.must(s.nets.Delete(s.ctx, a, ofA))
	unchanged(s, was)
}

// sameGroup finds two clusters whose links have the same group. Groups have 30
// bits, so some 40,000 names are enough.
func sameGroup() (a, b string) {
	seen := map[uint32]string{}
	for i := 0; ; i++ {
		name := fmt.Sprint("c", i)
		g := cluster.LinkGroup(name)
		if other, ok := seen[g]; ok {
			return other, name
		}
		seen[g] = name
	}
}
