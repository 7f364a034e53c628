package networktest

import (
	"regexp"
	"slices"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// nic makes a link that is as good as a NIC, and the machine at the end of its
// cable.
func (s *suite) nic(name, far string) {
	s.Helper()
	ip(s, "link add "+name+" type veth peer name "+far)
	ip(s, "link set "+far+" addrgenmode none up")
}

// userBridge makes a bridge as users have it: with an address, a NIC, and an MTU
// that follows that of the NIC.
func (s *suite) userBridge(name string) {
	s.Helper()
	ip(s, "link add "+name+" type bridge forward_delay 0")
	ip(s, "link add "+name+"-x mtu 9000 type veth peer name "+name+"-y mtu 9000")
	ip(s, "link set "+name+"-x addrgenmode none master "+name+" up")
	ip(s, "link set "+name+"-y addrgenmode none up")
	ip(s, "link set "+name+" addrgenmode none up")
	ip(s, "addr add 192.0.2.1/24 dev "+name)
}

func testNIC(s *suite) {
	s.nic("eth1", "far")
	was := fingerprint(s)
	want := provision("eth1")
	taps := tapsIn(want.Bridge, 1)
	s.must(s.nets.Create(s.ctx, dev, want))
	s.must(s.nets.CreateTaps(s.ctx, dev, taps))
	f := s.has(dev, []cluster.Network{want}, taps)
	if o := owner(f, "eth1"); o != "not made by Tenks" {
		s.Errorf("owner of the NIC: %q", o)
	}
	if d := details(s)["eth1"]; d.Alias != "" || d.Master != want.Bridge || d.Promisc == 0 {
		s.Errorf("NIC: %+v", d)
	}
	a, b := end{guest(s, taps[0].Name), vnetHeader}, end{wire(s, "far"), 0}
	passes(s, a, b, "out")
	passes(s, b, a, "in")
	made := fingerprint(s)
	s.must(s.nets.Create(s.ctx, dev, want))
	unchanged(s, made)

	s.must(s.nets.DeleteTaps(s.ctx, dev, taps))
	s.must(s.nets.Delete(s.ctx, dev, want))
	unchanged(s, was)
}

func testNICThatWasUp(s *suite) {
	s.nic("eth1", "far")
	ip(s, "link set eth1 mtu 9000")
	ip(s, "link set eth1 promisc on addrgenmode none up")
	ip(s, "addr add fe80::5/64 dev eth1 nodad scope link") // link-local addresses are nobody's
	was := fingerprint(s)
	want := provision("eth1")
	s.must(s.nets.Create(s.ctx, dev, want))
	s.has(dev, []cluster.Network{want}, nil)

	// By another Create, what the NIC was before is not forgotten.
	ip(s, "link set tk-prov down")
	s.must(s.nets.Update(s.ctx, dev, want, want))
	s.has(dev, []cluster.Network{want}, nil)

	// An uplink that is no longer wanted is given back, the bridge stays.
	isolated := provision("")
	index := details(s)[want.Bridge].Index
	s.must(s.nets.Update(s.ctx, dev, want, isolated))
	s.has(dev, []cluster.Network{isolated}, nil)
	if details(s)[want.Bridge].Index != index {
		s.Error("the bridge is another one")
	}
	s.must(s.nets.Delete(s.ctx, dev, isolated))
	unchanged(s, was)
}

func testNICRefused(s *suite) {
	s.nic("eth1", "far1")
	s.nic("eth2", "far2")
	s.nic("eth3", "far3")
	ip(s, "addr add 192.0.2.9/24 dev eth1")
	ip(s, "link add theirs type bridge")
	ip(s, "link set eth2 master theirs")
	ip(s, "link add idle type bridge")
	ip(s, "tuntap add dev tun0 mode tun")
	was := fingerprint(s)
	for uplink, words := range map[string][]string{
		"eth1":  {"eth1", "192.0.2.9/24"},
		"eth2":  {"eth2", "theirs"},
		"lo":    {"lo", "loopback"},
		"eth7":  {"eth7", "no such link"},
		"idle":  {"idle", "down"},
		"tun0":  {"tun0", "Ethernet"},
		"eth77": {"eth77"},
	} {
		s.refuses(was, s.nets.Create(s.ctx, dev, provision(uplink)), words...)
	}
	// A NIC can be in one network only, whoever's that is.
	taken := provision("eth3")
	s.must(s.nets.Create(s.ctx, ci, taken))
	was = fingerprint(s)
	second := cluster.Network{Name: "second", Bridge: "tk-second", Uplink: "eth3", UplinkPort: "u", UplinkPeer: "p", Up: true}
	s.refuses(was, s.nets.Create(s.ctx, dev, second), "eth3", `cluster "ci"`)
	s.refuses(was, s.nets.Create(s.ctx, ci, second), "eth3", "provision")
	second.Uplink = taken.Bridge
	s.refuses(was, s.nets.Create(s.ctx, dev, second), taken.Bridge, "made by Tenks")
}

func testBridge(s *suite) {
	s.userBridge("br0")
	was := fingerprint(s)
	theirs := details(s)["br0"]
	if theirs.MTU != 9000 {
		s.Fatalf("MTU %d", theirs.MTU)
	}
	want := provision("br0")
	taps := tapsIn(want.Bridge, 1)
	s.must(s.nets.Create(s.ctx, dev, want))
	s.must(s.nets.CreateTaps(s.ctx, dev, taps))
	f := s.has(dev, []cluster.Network{want}, taps)
	if o := owner(f, "br0"); o != "not made by Tenks" {
		s.Errorf("owner of the bridge: %q", o)
	}
	now := details(s)
	if d := now["br0"]; d.MTU != theirs.MTU || d.Address != theirs.Address || d.Alias != "" || d.LinkInfo != theirs.LinkInfo {
		s.Errorf("the user's bridge has changed:\nwas %+v\nis  %+v", theirs, d)
	}
	for _, d := range []detail{now[want.UplinkPort], now[want.UplinkPeer]} {
		if !strings.HasPrefix(d.Alias, "tenks cluster=dev network=provision") || d.AddrGen != "none" || !slices.Contains(d.Flags, "UP") {
			s.Errorf("veth: %+v", d)
		}
	}
	a, b := end{guest(s, taps[0].Name), vnetHeader}, end{wire(s, "br0-y"), 0}
	passes(s, a, b, "out")
	passes(s, b, a, "in")
	made := fingerprint(s)
	s.must(s.nets.Create(s.ctx, dev, want))
	unchanged(s, made)

	s.must(s.nets.DeleteTaps(s.ctx, dev, taps))
	s.must(s.nets.Delete(s.ctx, dev, want))
	unchanged(s, was)
}

// testBridgeWithoutPorts: a bridge loses its MAC address with its last port.
// One that had none before us has its own again.
func testBridgeWithoutPorts(s *suite) {
	ip(s, "link add br0 type bridge")
	ip(s, "link set br0 addrgenmode none up")
	ip(s, "addr add 192.0.2.1/24 dev br0")
	mac := details(s)["br0"].Address
	id := regexp.MustCompile(`(bridge_id|designated_root) 8000\.[0-9a-f:]+`)
	plain := func(s string) string { return id.ReplaceAllString(s, "") } // the bridge has had a port, and says so
	was := plain(fingerprint(s))
	want := provision("br0")
	same := func() {
		s.Helper()
		if got := details(s)["br0"].Address; got != mac {
			s.Errorf("MAC address of the user's bridge: %s, was %s", got, mac)
		}
	}
	second := cluster.Network{Name: "second", Bridge: "tk-second", Uplink: "br0", UplinkPort: "u", UplinkPeer: "p", Up: true}
	s.must(s.nets.Create(s.ctx, dev, want))
	same()
	s.must(s.nets.Create(s.ctx, ci, second))
	same()
	s.must(s.nets.Delete(s.ctx, dev, want))
	same()
	s.must(s.nets.Update(s.ctx, ci, second, cluster.Network{Name: "second", Bridge: "tk-second", Up: true}))
	same()
	s.must(s.nets.Delete(s.ctx, ci, second))
	if is := plain(fingerprint(s)); is != was {
		s.Errorf("not as it was before\nbefore:\n%s\nafter:\n%s", was, is)
	}
}

// testSwitch goes through all kinds of uplink, with a node that stays.
func testSwitch(s *suite) {
	s.nic("eth1", "far1")
	s.nic("eth2", "far2")
	s.userBridge("br0")
	s.userBridge("br1")
	was := fingerprint(s)
	have := provision("")
	taps := tapsIn(have.Bridge, 1)
	s.must(s.nets.Create(s.ctx, dev, have))
	s.must(s.nets.CreateTaps(s.ctx, dev, taps))
	g := end{guest(s, taps[0].Name), vnetHeader}
	index := details(s)[have.Bridge].Index
	for _, c := range []struct{ uplink, far string }{
		{"eth1", "far1"}, {"eth2", "far2"}, {"br0", "br0-y"}, {"br1", "br1-y"}, {"eth1", "far1"}, {"br0", "br0-y"}, {"", ""},
	} {
		want := provision(c.uplink)
		s.must(s.nets.Update(s.ctx, dev, have, want))
		s.has(dev, []cluster.Network{want}, taps)
		if c.far != "" {
			passes(s, g, end{wire(s, c.far), 0}, "to "+c.uplink)
		}
		have = want
	}
	if details(s)[have.Bridge].Index != index {
		s.Error("the bridge is another one")
	}
	s.must(s.nets.DeleteTaps(s.ctx, dev, taps))
	s.must(s.nets.Delete(s.ctx, dev, have))
	unchanged(s, was)
}
