//go:build integration

package bridge_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/network"
	"github.com/tenks/tenks/internal/network/bridge"
	"github.com/tenks/tenks/internal/network/networktest"
)

func TestNetworks(t *testing.T) {
	networktest.Run(t, func(*testing.T) network.Networks { return bridge.New(nil) })
}

var (
	killNetwork = cluster.Network{Name: "provision", Bridge: "tk-prov", Uplink: "br0", UplinkPort: "tk-u", UplinkPeer: "tk-p", Up: true}
	killTaps    = []cluster.Tap{
		{Name: "tk0", Bridge: "tk-prov", Node: "n0"}, {Name: "tk1", Bridge: "tk-prov", Node: "n0", Port: 1},
		{Name: "tk2", Bridge: "tk-prov", Node: "n1"}, {Name: "tk3", Bridge: "tk-prov", Node: "n1", Port: 1},
	}
)

// TestVictim is no test: TestKill starts it and kills it.
func TestVictim(t *testing.T) {
	n := bridge.New(nil)
	var errs []error
	switch os.Getenv("TENKS_TEST_VICTIM") {
	case "":
		t.Skip("is started by TestKill")
	case "create":
		fmt.Println("go") // the time runs
		errs = append(errs, n.Create(t.Context(), "dev", killNetwork), n.CreateTaps(t.Context(), "dev", killTaps))
	case "delete":
		fmt.Println("go")
		errs = append(errs, n.DeleteTaps(t.Context(), "dev", killTaps), n.Delete(t.Context(), "dev", killNetwork))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// TestKill kills a process that makes or deletes a network, at any moment, and
// expects that each link is marked, that all can be completed, and all deleted.
func TestKill(t *testing.T) {
	networktest.Isolate(t)
	ip(t, "link", "add", "br0", "type", "bridge")
	ip(t, "link", "set", "br0", "up")
	n := bridge.New(nil)
	states := map[string]int{}
	for i := range 80 {
		if i%2 == 0 {
			kill(t, "create", 4*time.Millisecond)
		} else {
			create(t, n)
			kill(t, "delete", 50*time.Millisecond)
		}
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		state := ""
		for _, l := range links {
			a := l.Attrs()
			if !strings.HasPrefix(a.Name, "tk") {
				continue
			}
			if !strings.HasPrefix(a.Alias, "tenks cluster=dev ") {
				t.Errorf("link %s is left without a mark: %q", a.Name, a.Alias)
			}
			state += fmt.Sprintf("%s up=%v master=%v; ", a.Name, a.Flags&net.FlagUp != 0, a.MasterIndex != 0)
		}
		states[state]++
		if i%4 < 2 {
			create(t, n)
		}
		if err := n.DeleteTaps(t.Context(), "dev", killTaps); err != nil {
			t.Fatal(err)
		}
		if err := n.Delete(t.Context(), "dev", killNetwork); err != nil {
			t.Fatal(err)
		}
		f, err := n.Observe(t.Context(), "dev")
		if err != nil || len(f.Networks)+len(f.Taps) > 0 || slices.ContainsFunc(f.Strangers, func(s cluster.Stranger) bool { return strings.HasPrefix(s.Name, "tk") }) {
			t.Fatalf("not deleted: %+v, %v", f, err)
		}
	}
	t.Logf("%d different states", len(states))
	if len(states) < 5 {
		t.Errorf("the kills came always at the same moments: %v", states)
	}
}

func create(t *testing.T, n *bridge.Networks) {
	t.Helper()
	if err := n.Create(t.Context(), "dev", killNetwork); err != nil {
		t.Fatal(err)
	}
	if err := n.CreateTaps(t.Context(), "dev", killTaps); err != nil {
		t.Fatal(err)
	}
	f, err := n.Observe(t.Context(), "dev")
	if err != nil || len(f.Networks) != 1 || f.Networks[0] != killNetwork || fmt.Sprint(f.Taps) != fmt.Sprint(killTaps) {
		t.Fatalf("not complete: %+v, %v", f, err)
	}
}

// kill starts the victim in this namespace and kills it some time later.
func kill(t *testing.T, what string, within time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	cmd.Env = append(os.Environ(), "TENKS_TEST_VICTIM="+what)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Error(err)
	}
	time.Sleep(rand.N(within))
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// BenchmarkCreate makes a bridge and 50 taps in it, as Tenks does and as the
// library's plain calls do, and says how they compare.
func BenchmarkCreate(b *testing.B) {
	networktest.Isolate(b)
	n := bridge.New(nil)
	want := cluster.Network{Name: "provision", Bridge: "tk-prov", Up: true}
	var taps []cluster.Tap
	for i := range 50 {
		taps = append(taps, cluster.Tap{Name: fmt.Sprintf("tk%d", i), Bridge: want.Bridge, Node: fmt.Sprintf("n%d", i)})
	}
	var ours, plain time.Duration
	for b.Loop() {
		start := time.Now()
		check(b, n.Create(b.Context(), "dev", want))
		check(b, n.CreateTaps(b.Context(), "dev", taps))
		ours += time.Since(start)
		b.StopTimer()
		check(b, n.DeleteTaps(b.Context(), "dev", taps))
		check(b, n.Delete(b.Context(), "dev", want))
		start = time.Now()
		plainCalls(b, taps)
		plain += time.Since(start)
		ip(b, "link", "set", want.Bridge, "group", "77")
		for _, t := range taps {
			l, err := netlink.LinkByName(t.Name)
			check(b, err)
			check(b, netlink.LinkSetGroup(l, 77))
		}
		ip(b, "link", "del", "group", "77")
		b.StartTimer()
	}
	b.ReportMetric(float64(len(taps)*b.N)/ours.Seconds(), "taps/s")
	b.ReportMetric(float64(len(taps)*b.N)/plain.Seconds(), "plain-taps/s")
	b.ReportMetric(ours.Seconds()/plain.Seconds(), "x-plain")
}

// plainCalls makes the same by the library, with all that is set on each link.
func plainCalls(b *testing.B, taps []cluster.Tap) {
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: taps[0].Bridge, Group: 7}}
	check(b, netlink.LinkAdd(br))
	check(b, netlink.LinkSetAlias(br, "x"))
	check(b, netlink.LinkSetUp(br))
	for _, t := range taps {
		l := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: t.Name}, Mode: netlink.TUNTAP_MODE_TAP,
			Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
		check(b, netlink.LinkAdd(l))
		check(b, netlink.LinkSetAlias(l, "x"))
		check(b, netlink.LinkSetGroup(l, 7))
		check(b, netlink.LinkSetIP6AddrGenMode(l, 1))
		check(b, netlink.LinkSetMaster(l, br))
		check(b, netlink.LinkSetUp(l))
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkObserve lists a host with 1,000 links of ours.
func BenchmarkObserve(b *testing.B) {
	networktest.Isolate(b)
	n := bridge.New(nil)
	check(b, n.Create(b.Context(), "dev", cluster.Network{Name: "provision", Bridge: "tk-prov", Up: true}))
	var taps []cluster.Tap
	for i := range 1000 {
		taps = append(taps, cluster.Tap{Name: fmt.Sprintf("tk%d", i), Bridge: "tk-prov", Node: fmt.Sprintf("n%d", i)})
	}
	check(b, n.CreateTaps(b.Context(), "dev", taps))
	for b.Loop() {
		f, err := n.Observe(b.Context(), "dev")
		check(b, err)
		if len(f.Taps) != len(taps) {
			b.Fatalf("%d taps", len(f.Taps))
		}
	}
}
