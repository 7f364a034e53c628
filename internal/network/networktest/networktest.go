// Package networktest is the suite that every [network.Networks] passes. It
// runs in network namespaces of its own, which takes root and ip(8); what it
// expects comes from ip(8) and from frames that arrive, not from the code that
// it tests.
package networktest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/network"
)

// Names in the suite.
const (
	dev  = "dev"
	ci   = "ci"
	node = "dev-0"
)

// suite is one test: a fresh namespace, and the networks in it.
type suite struct {
	*testing.T
	ctx  context.Context
	nets network.Networks
}

// Run tests the networks that open returns. open is called once per test, in
// the test's network namespace.
func Run(t *testing.T, open func(t *testing.T) network.Networks) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Nothing", testNothing},
		{"Isolated", testIsolated},
		{"HostStaysOut", testHostStaysOut},
		{"Taps", testTaps},
		{"Frames", testFrames},
		{"NIC", testNIC},
		{"NICThatWasUp", testNICThatWasUp},
		{"NICRefused", testNICRefused},
		{"Bridge", testBridge},
		{"BridgeWithoutPorts", testBridgeWithoutPorts},
		{"Switch", testSwitch},
		{"Repair", testRepair},
		{"Unfinished", testUnfinished},
		{"Strangers", testStrangers},
		{"ForeignPort", testForeignPort},
		{"TwoClusters", testTwoClusters},
		{"PortLimit", testPortLimit},
		{"ManyTaps", testManyTaps},
	} {
		t.Run(c.name, func(t *testing.T) {
			Isolate(t)
			ip(t, "link set lo up")
			c.run(&suite{T: t, ctx: t.Context(), nets: open(t)})
		})
	}
}

// provision is a network as it is wanted.
func provision(uplink string) cluster.Network {
	n := cluster.Network{Name: "provision", Bridge: "tk-prov", Uplink: uplink, Up: true}
	if uplink != "" {
		n.UplinkPort, n.UplinkPeer = "tk-prov-u", "tk-prov-p"
	}
	return n
}

// tapsIn are taps as they are wanted.
func tapsIn(bridge string, n int) []cluster.Tap {
	var taps []cluster.Tap
	for i := range n {
		taps = append(taps, cluster.Tap{Name: fmt.Sprintf("tk%d", i), Bridge: bridge, Node: fmt.Sprintf("dev-%d", i/2), Port: i % 2})
	}
	return taps
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// refuses fails the test unless err has all the words and nothing has changed.
func (s *suite) refuses(was string, err error, words ...string) {
	s.Helper()
	if err == nil {
		s.Errorf("no error; want one about %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			s.Errorf("error %q does not say %q", err, w)
		}
	}
	unchanged(s, was)
}

// has fails the test unless exactly these networks and taps are found.
func (s *suite) has(clusterName string, nets []cluster.Network, taps []cluster.Tap) network.Found {
	s.Helper()
	f, err := s.nets.Observe(s.ctx, clusterName)
	s.must(err)
	if !slices.Equal(f.Networks, nets) {
		s.Errorf("networks of %s:\nhave %+v\nwant %+v", clusterName, f.Networks, nets)
	}
	sorted := slices.SortedFunc(slices.Values(taps), func(a, b cluster.Tap) int { return cmp.Compare(a.Name, b.Name) })
	if !slices.Equal(f.Taps, sorted) {
		s.Errorf("taps of %s:\nhave %+v\nwant %+v", clusterName, f.Taps, sorted)
	}
	return f
}

// owner is what is said of a stranger, "" if it is not one.
func owner(f network.Found, name string) string {
	for _, st := range f.Strangers {
		if st.Kind == cluster.StrangerLink && st.Name == name {
			return st.Owner
		}
	}
	return ""
}

func testNothing(s *suite) {
	ip(s, "link add veth0 type veth peer name veth1")
	f := s.has(dev, nil, nil)
	for _, name := range []string{"lo", "veth0", "veth1"} {
		if o := owner(f, name); o != "not made by Tenks" {
			s.Errorf("owner of %s: %q", name, o)
		}
	}
	was := fingerprint(s)
	s.must(s.nets.Delete(s.ctx, dev, provision("")))
	s.must(s.nets.DeleteTaps(s.ctx, dev, tapsIn("tk-prov", 2)))
	unchanged(s, was)

	done, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.nets.Create(done, dev, provision("")); err == nil {
		s.Error("a context that is done is no reason to stop")
	}
	unchanged(s, was)
}

func testIsolated(s *suite) {
	was := fingerprint(s)
	want := provision("")
	s.must(s.nets.Create(s.ctx, dev, want))
	f := s.has(dev, []cluster.Network{want}, nil)
	if o := owner(f, want.Bridge); o != "" {
		s.Errorf("our own bridge is a stranger: %s", o)
	}
	b := details(s)[want.Bridge]
	if d := b.LinkInfo.Data; b.LinkInfo.Kind != "bridge" || d.STP != 0 || d.Delay != 0 || d.Snooping != 0 || b.AddrGen != "none" {
		s.Errorf("bridge: %+v", b)
	}
	if !strings.HasPrefix(b.Alias, "tenks cluster=dev network=provision") {
		s.Errorf("alias %q", b.Alias)
	}
	made := fingerprint(s)
	s.must(s.nets.Create(s.ctx, dev, want))
	s.must(s.nets.Update(s.ctx, dev, want, want))
	unchanged(s, made)

	s.must(s.nets.Delete(s.ctx, dev, want))
	s.has(dev, nil, nil)
	unchanged(s, was)
}

// testHostStaysOut: the host has no address on the nodes' network, not even
// one that a router there offers.
func testHostStaysOut(s *suite) {
	taps := tapsIn("tk-prov", 1)
	s.must(s.nets.Create(s.ctx, dev, provision("")))
	s.must(s.nets.CreateTaps(s.ctx, dev, taps))
	g := guest(s, taps[0].Name)
	for range 3 {
		if _, err := g.Write(append(make([]byte, vnetHeader), advertisement()...)); err != nil {
			s.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, line := range strings.Split(ip(s, "-o addr"), "\n") {
		if strings.Contains(line, "tk") {
			s.Errorf("an address: %s", line)
		}
	}
	if r := ip(s, "-6 route show default"); r != "" {
		s.Errorf("a route: %s", r)
	}
}

func testTaps(s *suite) {
	want := provision("")
	taps := tapsIn(want.Bridge, 4)
	was := fingerprint(s)
	if err := s.nets.CreateTaps(s.ctx, dev, taps); err == nil || !strings.Contains(err.Error(), want.Bridge) {
		s.Errorf("taps without a bridge: %v", err)
	}
	unchanged(s, was)
	s.must(s.nets.Create(s.ctx, dev, want))
	bare := fingerprint(s)
	s.must(s.nets.CreateTaps(s.ctx, dev, taps))
	s.has(dev, []cluster.Network{want}, taps)
	for _, t := range taps {
		d := details(s)[t.Name]
		if i := d.LinkInfo.Data; !i.Persist || !i.VnetHdr || i.MQ || i.PI || d.Master != want.Bridge || d.AddrGen != "none" || !slices.Contains(d.Flags, "UP") {
			s.Errorf("tap: %+v", d)
		}
		if alias := fmt.Sprintf("tenks cluster=dev node=%s port=%d", t.Node, t.Port); d.Alias != alias {
			s.Errorf("alias %q, want %q", d.Alias, alias)
		}
	}
	made := fingerprint(s)
	s.must(s.nets.CreateTaps(s.ctx, dev, taps))
	unchanged(s, made)

	s.must(s.nets.DeleteTaps(s.ctx, dev, taps[:1]))
	s.has(dev, []cluster.Network{want}, taps[1:])
	guest(s, taps[1].Name) // a tap that a guest has open goes as well
	s.must(s.nets.DeleteTaps(s.ctx, dev, taps))
	s.has(dev, []cluster.Network{want}, nil)
	unchanged(s, bare)
}

func testFrames(s *suite) {
	want := provision("")
	other := cluster.Network{Name: "other", Bridge: "tk-other", Up: true}
	taps := tapsIn(want.Bridge, 2)
	apart := cluster.Tap{Name: "tkx", Bridge: other.Bridge, Node: "dev-9"}
	s.must(s.nets.Create(s.ctx, dev, want))
	s.must(s.nets.Create(s.ctx, dev, other))
	s.must(s.nets.CreateTaps(s.ctx, dev, append(taps, apart)))
	a, b, c := end{guest(s, taps[0].Name), vnetHeader}, end{guest(s, taps[1].Name), vnetHeader}, end{guest(s, apart.Name), vnetHeader}
	passes(s, a, b, "one")
	passes(s, b, a, "two")
	if arrives(s, c, "one", 100*time.Millisecond) {
		s.Error("a frame has come into another network")
	}
	// A tap that is in the wrong bridge is put into the right one, in use.
	apart.Bridge = want.Bridge
	s.must(s.nets.CreateTaps(s.ctx, dev, []cluster.Tap{apart}))
	passes(s, a, c, "three")
	// A node that is switched off and on again finds its tap as it was.
	_ = b.Close()
	s.has(dev, []cluster.Network{other, want}, append(taps, apart))
	passes(s, a, end{guest(s, taps[1].Name), vnetHeader}, "four")
}

func testPortLimit(s *suite) {
	want := provision("")
	s.must(s.nets.Create(s.ctx, dev, want))
	s.must(s.nets.CreateTaps(s.ctx, dev, tapsIn(want.Bridge, 1)))
	was := fingerprint(s)
	s.refuses(was, s.nets.CreateTaps(s.ctx, dev, tapsIn(want.Bridge, 1024)), "1024 ports", "1023", want.Bridge)
}

// testManyTaps: a link costs the kernel some 18 ms to delete; 500 of them must
// not cost 9 s.
func testManyTaps(s *suite) {
	want := provision("")
	was := fingerprint(s)
	s.must(s.nets.Create(s.ctx, dev, want))
	took := map[string]time.Duration{}
	for _, n := range []int{10, 500} {
		taps := tapsIn(want.Bridge, n)
		start := time.Now()
		s.must(s.nets.CreateTaps(s.ctx, dev, taps))
		took["create"] = time.Since(start)
		s.has(dev, []cluster.Network{want}, taps)
		start = time.Now()
		s.must(s.nets.DeleteTaps(s.ctx, dev, taps))
		took["delete"] = time.Since(start)
		s.has(dev, []cluster.Network{want}, nil)
		s.Logf("%d taps: created in %v, deleted in %v", n, took["create"], took["delete"])
	}
	if took["delete"] > 3*time.Second {
		s.Errorf("500 taps deleted in %v", took["delete"])
	}
	s.must(s.nets.Delete(s.ctx, dev, want))
	unchanged(s, was)
}
