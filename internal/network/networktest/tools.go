package networktest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Isolate moves the calling test into a network namespace of its own, which is
// gone when the test is over. The test must not be parallel and must not do its
// work in other goroutines: the namespace is the thread's. Programs that the
// test starts run in it too.
func Isolate(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a network namespace needs root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	// IPv6 addresses are ready at once, or not at all.
	for _, conf := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/accept_dad", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// ip runs ip(8) with the words of its arguments and returns what it prints.
func ip(t testing.TB, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// passing is what comes and goes by itself: timers, carriers and what follows
// from them. The qdisc of a link that has been up once is not "noop" any more,
// and nothing makes it so again; nor does a bridge that has once had a port
// forget how large a segment can be.
var passing = regexp.MustCompile(` qdisc \S+| tso_max_size \d+|_timer +[0-9.]+| state \S+|NO-CARRIER,|,(LOWER_UP|M-DOWN)| linkdown|(?m:^multicast ff00::.*\n)`)

// fingerprint is all that can be seen of links, addresses and routes.
func fingerprint(t testing.TB) string {
	t.Helper()
	s := ip(t, "-d -o link") + ip(t, "-o addr") + ip(t, "-4 route show table all") + ip(t, "-6 route show table all")
	return passing.ReplaceAllString(s, "")
}

// unchanged fails the test unless the fingerprint is, or soon becomes, what it
// was.
func unchanged(t testing.TB, was string) {
	t.Helper()
	is := fingerprint(t)
	for range 20 {
		if is == was {
			return
		}
		time.Sleep(50 * time.Millisecond)
		is = fingerprint(t)
	}
	before, after := strings.Split(was, "\n"), strings.Split(is, "\n")
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("was before: %s", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("is now: %s", l)
		}
	}
	if !t.Failed() {
		t.Error("the order of links has changed")
	}
}

// detail is what "ip -d -j link" says of a link.
type detail struct {
	Name     string   `json:"ifname"`
	Index    int      `json:"ifindex"`
	Flags    []string `json:"flags"`
	MTU      int      `json:"mtu"`
	Master   string   `json:"master"`
	Alias    string   `json:"ifalias"`
	Address  string   `json:"address"`
	AddrGen  string   `json:"inet6_addr_gen_mode"`
	Promisc  int      `json:"promiscuity"`
	LinkInfo struct {
		Kind string `json:"info_kind"`
		Data struct {
			STP      int  `json:"stp_state"`
			Delay    int  `json:"forward_delay"`
			Snooping int  `json:"mcast_snooping"`
			Persist  bool `json:"persist"`
			VnetHdr  bool `json:"vnet_hdr"`
			MQ       bool `json:"multi_queue"`
			PI       bool `json:"pi"`
		} `json:"info_data"`
	} `json:"linkinfo"`
}

// details returns all links by name.
func details(t testing.TB) map[string]detail {
	t.Helper()
	var list []detail
	if err := json.Unmarshal([]byte(ip(t, "-d -j link")), &list); err != nil {
		t.Fatalf("ip -d -j link: %v", err)
	}
	all := map[string]detail{}
	for _, d := range list {
		all[d.Name] = d
	}
	return all
}

// vnetHeader is the length of the header before each frame of a tap with
// IFF_VNET_HDR (struct virtio_net_hdr, linux/virtio_net.h).
const vnetHeader = 10

// guest opens a persistent tap as libvirt and QEMU do, and is the machine
// behind it. A tap that is not there is not made: it would not be in a bridge.
func guest(t testing.TB, tap string) *os.File {
	t.Helper()
	if details(t)[tap].Name == "" {
		t.Fatalf("tap %s is not there", tap)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ifr, err := unix.NewIfreq(tap)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		t.Fatalf("open tap %s: %v", tap, err)
	}
	f := os.NewFile(uintptr(fd), tap)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// wire opens a link for raw frames, and is the machine at its end (packet(7)).
func wire(t testing.TB, name string) *os.File {
	t.Helper()
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { _ = f.Close() })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: details(t)[name].Index}); err != nil {
		t.Fatalf("link %s: %v", name, err)
	}
	return f
}

// broadcast is a frame to everybody with the EtherType for local experiments
// (IEEE 802 §9.2.3) and a payload that names it.
func broadcast(payload string) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0, 0, 0, 0, 1, 0x88, 0xb5}
	b = append(b, payload...)
	return append(b, make([]byte, 60-len(b))...) // the least that Ethernet has
}

// end is a place where frames go in and come out.
type end struct {
	*os.File
	header int // bytes before a frame
}

// passes fails the test unless a frame that goes in at one end soon comes out
// at the other.
func passes(t testing.TB, from, to end, payload string) {
	t.Helper()
	limit := time.Now().Add(3 * time.Second)
	for time.Now().Before(limit) { // a carrier that has just come may need another try
		if _, err := from.Write(append(make([]byte, from.header), broadcast(payload)...)); err != nil {
			t.Fatalf("send on %s: %v", from.Name(), err)
		}
		if arrives(t, to, payload, 200*time.Millisecond) {
			return
		}
	}
	t.Errorf("no frame from %s to %s", from.Name(), to.Name())
}

// arrives tells whether a frame with that payload comes out within a time.
func arrives(t testing.TB, at end, payload string, within time.Duration) bool {
	t.Helper()
	buf := make([]byte, 4096)
	for limit := time.Now().Add(within); ; {
		left := time.Until(limit)
		if left <= 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(at.Fd()), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("wait at %s: %v", at.Name(), err)
		}
		if n == 0 {
			return false
		}
		n, err = unix.Read(int(at.Fd()), buf)
		if err != nil {
			t.Fatalf("receive on %s: %v", at.Name(), err)
		}
		if n > at.header && bytes.Contains(buf[at.header:n], []byte(payload)) {
			return true
		}
	}
}

// advertisement is what a router sends to tell hosts to make themselves an
// address in fd99::/64 (RFC 4861 §4.2, RFC 4862 §5.5.3).
func advertisement() []byte {
	router := net.ParseIP("fe80::1")
	all := net.ParseIP("ff02::1")
	icmp := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // lifetime 1,800 s
	icmp = append(icmp, 3, 4, 64, 0xc0)                                     // prefix, on link, autonomous
	icmp = append(icmp, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0)     // valid, preferred 3,600 s
	icmp = append(icmp, net.ParseIP("fd99::")...)

	pseudo := append(append(append([]byte{}, router...), all...), 0, 0, 0, byte(len(icmp)), 0, 0, 0, 58)
	sum := uint32(0)
	for b := append(pseudo, icmp...); len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))

	b := []byte{0x33, 0x33, 0, 0, 0, 1, 0x52, 0, 0, 0, 0, 1, 0x86, 0xdd}
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(icmp)), 58, 255)
	return append(append(append(b, router...), all...), icmp...)
}
