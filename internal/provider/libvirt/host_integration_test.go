//go:build integration

package libvirt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/machine"
)

// screen collects what a console shows.
type screen struct {
	c    io.ReadWriteCloser
	out  chan []byte
	seen []byte
}

func watchConsole(t *testing.T, p *Provider, node string) *screen {
	t.Helper()
	c, err := p.Console(t.Context(), testCluster, node, false)
	must(t, err)
	s := &screen{c: c, out: make(chan []byte, 1000)}
	go func() {
		defer close(s.out)
		for {
			b := make([]byte, 4096)
			n, err := c.Read(b)
			if n > 0 {
				s.out <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = c.Close() })
	return s
}

// await returns which of the texts the console shows first, and forgets all up to there.
func (s *screen) await(t *testing.T, texts ...string) string {
	t.Helper()
	limit := time.After(90 * time.Second)
	for {
		first, at := "", -1
		for _, text := range texts {
			if i := bytes.Index(s.seen, []byte(text)); i >= 0 && (at < 0 || i < at) {
				first, at = text, i
			}
		}
		if at >= 0 {
			s.seen = s.seen[at+len(first):]
			return first
		}
		select {
		case b, ok := <-s.out:
			if !ok {
				t.Fatalf("the console ended; it showed:\n%s", s.seen)
			}
			s.seen = append(s.seen, b...)
		case <-limit:
			t.Fatalf("none of %q on the console; it showed:\n%s", texts, s.seen)
		}
	}
}

// What SeaBIOS and the boot ROM of the NIC write on the serial console.
const (
	fromDisk = "Booting from Hard Disk"
	fromROM  = "Booting from ROM"
)

// TestBootOnce looks at what the firmware really does: an override for one boot
// holds for that boot, and not for the next, whoever causes that.
func TestBootOnce(t *testing.T) {
	h, p := host(t)
	makePool(t, p)
	n := testNode(0)
	must(t, p.Create(t.Context(), testCluster, n))
	run(t, p)
	hw := p.Hardware(testCluster, n.Name, n.UUID)
	before := h.Run("virsh", "dumpxml", "--inactive", n.Name)

	// The blank disk comes first by default.
	must(t, hw.Start(t.Context(), machine.Boot{}))
	s := watchConsole(t, p, n.Name)
	if got := s.await(t, fromDisk, fromROM); got != fromDisk {
		t.Fatalf("without an override: %q", got)
	}
	must(t, hw.Stop(t.Context()))

	must(t, hw.Start(t.Context(), machine.Boot{Device: machine.DevicePXE}))
	s = watchConsole(t, p, n.Name)
	if got := s.await(t, fromDisk, fromROM); got != fromROM {
		t.Fatalf("with an override at start: %q", got)
	}
	// The guest reboots: not by us.
	h.Run("virsh", "reset", n.Name)
	if got := s.await(t, fromDisk, fromROM); got != fromDisk {
		t.Fatalf("the boot after the override: %q", got)
	}

	must(t, hw.Reset(t.Context(), machine.Boot{Device: machine.DevicePXE}))
	if got := s.await(t, fromDisk, fromROM); got != fromROM {
		t.Fatalf("with an override at reset: %q", got)
	}
	h.Run("virsh", "reset", n.Name)
	if got := s.await(t, fromDisk, fromROM); got != fromDisk {
		t.Fatalf("the boot after the override at reset: %q", got)
	}

	must(t, hw.Reset(t.Context(), machine.Boot{Device: machine.DevicePXE, Persistent: true}))
	for range 2 {
		if got := s.await(t, fromDisk, fromROM); got != fromROM {
			t.Fatalf("with a persistent override: %q", got)
		}
		h.Run("virsh", "reset", n.Name)
	}
	must(t, hw.Reset(t.Context(), machine.Boot{}))
	s.await(t, fromROM) // of the reset before
	if got := s.await(t, fromDisk, fromROM); got != fromDisk {
		t.Fatalf("after the end of a persistent override: %q", got)
	}
	must(t, hw.Stop(t.Context()))
	if d := cmp.Diff(before, h.Run("virsh", "dumpxml", "--inactive", n.Name)); d != "" {
		t.Errorf("the definition has changed (-before +after):\n%s", d)
	}
	must(t, hw.Start(t.Context(), machine.Boot{}))
	s = watchConsole(t, p, n.Name)
	if got := s.await(t, fromDisk, fromROM); got != fromDisk {
		t.Fatalf("at the next power-on: %q", got)
	}
}

// TestConsole: one user at a time, and a way to get it back.
func TestConsole(t *testing.T) {
	_, p := host(t)
	makePool(t, p)
	n := testNode(0)
	must(t, p.Create(t.Context(), testCluster, n))
	run(t, p)
	hw := p.Hardware(testCluster, n.Name, n.UUID)
	if _, err := p.Console(t.Context(), testCluster, n.Name, false); err == nil || !strings.Contains(err.Error(), "is off") {
		t.Errorf("console of a node that is off: %v", err)
	}
	must(t, hw.Start(t.Context(), machine.Boot{}))
	first := watchConsole(t, p, n.Name)
	first.await(t, fromDisk)
	if _, err := p.Console(t.Context(), testCluster, n.Name, false); err == nil || hint.Of(err) == "" ||
		!strings.Contains(err.Error(), "somebody else") {
		t.Errorf("a second console: %v (hint %q)", err, hint.Of(err))
	}
	must(t, first.c.Close())
	if _, err := first.c.Read(make([]byte, 1)); err == nil {
		t.Error("a closed console can be read")
	}
	// Nobody has it now. A reader that does not read holds up nothing else.
	c, err := p.Console(t.Context(), testCluster, n.Name, false)
	must(t, err)
	must(t, hw.Reset(t.Context(), machine.Boot{}))
	time.Sleep(3 * time.Second) // the guest writes, nobody reads
	must(t, hw.Stop(t.Context()))
	shown, err := io.ReadAll(c)
	if err != nil || !bytes.Contains(shown, []byte("SeaBIOS")) {
		t.Errorf("the console ends with %v and showed %q", err, shown)
	}
}

// TestUEFI boots by UEFI, with the override seen on the console, and looks for
// what is left after the node is gone.
func TestUEFI(t *testing.T) {
	h, p := host(t)
	makePool(t, p)
	n := testNode(0)
	n.BootMode, n.MemoryMB = cluster.BootUEFI, 128
	must(t, p.Create(t.Context(), testCluster, n))
	run(t, p)
	hw := p.Hardware(testCluster, n.Name, n.UUID)
	must(t, hw.Start(t.Context(), machine.Boot{Device: machine.DevicePXE}))
	s := watchConsole(t, p, n.Name)
	if got := s.await(t, n.Ports[0].MAC, "Misc Device"); got != n.Ports[0].MAC {
		t.Errorf("started from disk in spite of the override: %s", s.seen)
	}
	cmdline := h.Run("sh", "-c", "tr '\\0' ' ' </proc/$(cat /run/libvirt/qemu/dev-0.pid)/cmdline")
	if strings.Contains(cmdline, "secboot") || !strings.Contains(cmdline, "OVMF_CODE") {
		t.Errorf("firmware: %s", cmdline)
	}
	nvram := func() []string {
		found, _ := filepath.Glob(h.Dir() + "/libvirt/lib/qemu/nvram/*")
		return found
	}
	if len(nvram()) != 1 {
		t.Errorf("variable stores: %v", nvram())
	}
	must(t, hw.Stop(t.Context()))

	// A node that boots from BIOS now takes its variable store along, too.
	bios := n
	bios.BootMode = cluster.BootBIOS
	must(t, p.Update(t.Context(), testCluster, n, bios))
	must(t, hw.Start(t.Context(), machine.Boot{}))
	s = watchConsole(t, p, n.Name)
	s.await(t, fromDisk)
	must(t, p.Delete(t.Context(), testCluster, bios))
	if left := nvram(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestIdentity looks at what QEMU tells the guest.
func TestIdentity(t *testing.T) {
	h, p := host(t)
	makePool(t, p)
	n := testNode(0)
	must(t, p.Create(t.Context(), testCluster, n))
	run(t, p)
	must(t, p.Hardware(testCluster, n.Name, n.UUID).Start(t.Context(), machine.Boot{}))
	cmdline := h.Run("sh", "-c", "tr '\\0' ' ' </proc/$(cat /run/libvirt/qemu/dev-0.pid)/cmdline")
	for _, want := range []string{"uuid=" + n.UUID, "serial=" + n.Serial, n.Ports[0].MAC, "reboot-timeout=2000",
		`"serial":"dev-0-vol0"`, "-accel tcg"} {
		if !strings.Contains(cmdline, want) {
			t.Errorf("QEMU's command line lacks %q:\n%s", want, cmdline)
		}
	}
}

// foreign is what somebody puts into a domain of ours.
const (
	foreignMeta    = `<app:note xmlns:app="https://example.org/app">keep &amp; love</app:note>`
	foreignDevices = `<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>` +
		`<channel type='unix'><target type='virtio' name='org.example.0'/></channel>` +
		`<interface type='user'><mac address='52:54:00:aa:bb:cc'/><model type='virtio'/></interface>`
)

// TestForeign puts things of others into a domain and lets every update story
// run over it.
func TestForeign(t *testing.T) {
	h, p := host(t)
	makePool(t, p)
	have := testNode(0)
	must(t, p.Create(t.Context(), testCluster, have))
	err := p.work.do(t.Context(), func(l *libvirt.Libvirt) error {
		f, err := lookup(l, testCluster, have.Name, "")
		if err != nil {
			return err
		}
		text := strings.Replace(f.xml.String(), "</metadata>", foreignMeta+"</metadata>", 1)
		text = strings.Replace(text, "</devices>", foreignDevices+"</devices>", 1)
		text = strings.Replace(text, "<metadata>", "<description>mine</description><metadata>", 1)
		text = strings.Replace(text, "</domain>", `<qemu:commandline xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">`+
			`<qemu:env name="EXAMPLE" value="1"/></qemu:commandline></domain>`, 1)
		_, err = l.DomainDefineXMLFlags(text, 0)
		return err
	})
	must(t, err)

	other := testNode(1)
	for i, change := range []func(*cluster.Node){
		func(n *cluster.Node) { n.VCPUs, n.MemoryMB = 2, 96 },
		func(n *cluster.Node) { n.BootMode = cluster.BootUEFI },
		func(n *cluster.Node) { n.Ports = append(n.Ports, other.Ports[0]) },
		func(n *cluster.Node) { n.Ports = n.Ports[1:] },
		func(n *cluster.Node) { n.Volumes = append(n.Volumes, other.Volumes[0]) },
		func(n *cluster.Node) { n.Volumes = n.Volumes[1:] },
		func(n *cluster.Node) { n.Type = "big" },
		func(n *cluster.Node) { n.BootMode = cluster.BootBIOS },
	} {
		want := have
		want.Ports, want.Volumes = slices.Clone(have.Ports), slices.Clone(have.Volumes)
		change(&want)
		must(t, p.Update(t.Context(), testCluster, have, want))
		got := h.Run("virsh", "dumpxml", "--inactive", have.Name)
		for _, kept := range []string{"keep &amp; love", "/dev/urandom", "org.example.0", "52:54:00:aa:bb:cc", "<description>mine<",
			`name='EXAMPLE'`} {
			if !strings.Contains(got, kept) {
				t.Fatalf("update %d has lost %q:\n%s", i, kept, got)
			}
		}
		f, err := p.Observe(t.Context(), testCluster)
		must(t, err)
		want.Power = cluster.PowerOff
		if d := cmp.Diff([]cluster.Node{want}, f.Nodes); d != "" {
			t.Errorf("update %d (-want +got):\n%s", i, d)
		}
		if !slices.ContainsFunc(f.Strangers, func(s cluster.Stranger) bool {
			return s.Kind == cluster.StrangerMAC && s.Name == "52:54:00:aa:bb:cc"
		}) {
			t.Error("the foreign NIC's MAC address is not taken")
		}
		have = want
	}
}

// TestStrangers: what is not made by Tenks is reported, is in the way, and stays.
func TestStrangers(t *testing.T) {
	h, p := host(t)
	const theirs = `<domain type='qemu'><name>dev-0</name><memory unit='MiB'>64</memory>
		<os><type>hvm</type></os><devices><interface type='user'><mac address='52:54:00:01:02:03'/></interface></devices></domain>`
	file := filepath.Join(t.TempDir(), "theirs.xml")
	must(t, os.WriteFile(file, []byte(theirs), 0o644))
	h.Run("virsh", "define", file)
	h.Run("virsh", "pool-define-as", cluster.PoolName(testCluster), "dir", "--target", "/var/lib/libvirt/theirs")

	f, err := p.Observe(t.Context(), testCluster)
	must(t, err)
	for kind, name := range map[cluster.StrangerKind]string{
		cluster.StrangerDomain: "dev-0", cluster.StrangerMAC: "52:54:00:01:02:03", cluster.StrangerPool: cluster.PoolName(testCluster),
	} {
		if !slices.Contains(f.Strangers, cluster.Stranger{Kind: kind, Name: name, Owner: "not made by Tenks"}) {
			t.Errorf("%s %s is not among %v", kind, name, f.Strangers)
		}
	}
	if len(f.Nodes)+len(f.Pools) > 0 {
		t.Errorf("taken for ours: %+v", f)
	}
	cp := cluster.Pool{Name: cluster.PoolName(testCluster), UUID: cluster.PoolUUID(testCluster)}
	if err := p.CreatePool(t.Context(), testCluster, cp); err == nil || hint.Of(err) == "" {
		t.Errorf("somebody else's pool: %v", err)
	}
	must(t, p.DeletePool(t.Context(), testCluster, cp))
	h.Run("virsh", "pool-info", cp.Name)
	if err := p.Create(t.Context(), testCluster, testNode(0)); err == nil || hint.Of(err) == "" {
		t.Errorf("somebody else's domain: %v", err)
	}
	must(t, p.Delete(t.Context(), testCluster, testNode(0)))
	h.Run("virsh", "dominfo", "dev-0")
}

// TestVolumeGone: a file that somebody has deleted is missing, and made again.
func TestVolumeGone(t *testing.T) {
	h, p := host(t)
	makePool(t, p)
	n := testNode(0)
	must(t, p.Create(t.Context(), testCluster, n))
	must(t, os.Remove(filepath.Join(h.Dir(), "libvirt/lib/images", n.Volumes[0].Pool, n.Volumes[0].Name)))
	f, err := p.Observe(t.Context(), testCluster)
	must(t, err)
	if len(f.Nodes) != 1 || len(f.Nodes[0].Volumes) != 0 {
		t.Fatalf("nodes: %+v", f.Nodes)
	}
	must(t, p.Update(t.Context(), testCluster, f.Nodes[0], n))
	f, err = p.Observe(t.Context(), testCluster)
	must(t, err)
	n.Power = cluster.PowerOff
	if d := cmp.Diff([]cluster.Node{n}, f.Nodes); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// A pool that is not active knows no volumes: they are not absent for that.
	h.Run("virsh", "pool-destroy", n.Volumes[0].Pool)
	f, err = p.Observe(t.Context(), testCluster)
	must(t, err)
	if len(f.Pools) != 1 || f.Pools[0].Active || len(f.Nodes) != 1 || len(f.Nodes[0].Volumes) != 1 {
		t.Errorf("with an inactive pool: %+v", f)
	}
	must(t, p.Delete(t.Context(), testCluster, n))
	must(t, p.DeletePool(t.Context(), testCluster, f.Pools[0]))
	if left, _ := filepath.Glob(h.Dir() + "/libvirt/lib/images/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRestart: libvirtd goes away and comes back; guests run on.
func TestRestart(t *testing.T) {
	h, p := host(t)
	makePool(t, p)
	n := testNode(0)
	must(t, p.Create(t.Context(), testCluster, n))
	run(t, p)
	hw := p.Hardware(testCluster, n.Name, n.UUID)
	must(t, hw.Start(t.Context(), machine.Boot{}))
	h.StopLibvirtd()
	awaitOn(t, hw, func(_ bool, err error) bool { return err != nil })
	_, err := p.Observe(t.Context(), testCluster)
	if err == nil || !strings.Contains(hint.Of(err), "tenks doctor") || !strings.Contains(err.Error(), h.LibvirtSocket()) {
		t.Errorf("without libvirtd: %v (hint %q)", err, hint.Of(err))
	}
	h.StartLibvirtd()
	awaitOn(t, hw, func(on bool, err error) bool { return err == nil && on })
	f, err := p.Observe(t.Context(), testCluster)
	must(t, err)
	if len(f.Nodes) != 1 || f.Nodes[0].Power != cluster.PowerOn {
		t.Errorf("after the restart: %+v", f.Nodes)
	}
	must(t, hw.Stop(t.Context()))

	// In the middle of things: operations go on by themselves.
	done := make(chan error)
	go func() {
		for i := 1; i < 10; i++ {
			if err := p.Create(t.Context(), testCluster, testNode(i)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	time.Sleep(50 * time.Millisecond)
	h.Run("sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
	time.Sleep(100 * time.Millisecond)
	h.StartLibvirtd()
	err = <-done
	if err != nil && hint.Of(err) == "" { // what met no libvirtd at all says so
		t.Error(err)
	}
	for i := 1; i < 10; i++ {
		must(t, p.Create(t.Context(), testCluster, testNode(i)))
	}
	f, err = p.Observe(t.Context(), testCluster)
	must(t, err)
	if len(f.Nodes) != 10 {
		t.Errorf("%d nodes", len(f.Nodes))
	}
	for _, n := range f.Nodes {
		if len(n.Volumes) != 1 {
			t.Errorf("node %s: volumes %v", n.Name, n.Volumes)
		}
	}
}

func awaitOn(t *testing.T, hw machine.Hardware, ok func(bool, error) bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		on, err := hw.On()
		if ok(on, err) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("power is still %v, %v", on, err)
		}
	}
}

// TestHang: a libvirtd that answers nothing holds nobody up for ever.
func TestHang(t *testing.T) {
	h, _ := host(t)
	p := New(Options{Socket: h.LibvirtSocket(), Silence: time.Second})
	defer func() { _ = p.Close() }()
	makePool(t, p)
	run(t, p)
	h.SignalLibvirtd(syscall.SIGSTOP)
	defer h.SignalLibvirtd(syscall.SIGCONT)

	for range 2 { // on an open connection, and on a new one
		start := time.Now()
		_, err := p.Observe(t.Context(), testCluster)
		if took := time.Since(start); err == nil || hint.Of(err) == "" || took > 5*time.Second {
			t.Errorf("after %s: %v (hint %q)", took, err, hint.Of(err))
		}
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("step time over"))
	defer cancel()
	start := time.Now()
	err := p.Create(ctx, testCluster, testNode(0))
	if took := time.Since(start); err == nil || !strings.Contains(err.Error(), "step time over") || took > 900*time.Millisecond {
		t.Errorf("after %s: %v", took, err)
	}
	awaitOn(t, p.Hardware(testCluster, "dev-0", testNode(0).UUID), func(_ bool, err error) bool {
		return err != nil && strings.Contains(err.Error(), "no answer")
	})
	h.SignalLibvirtd(syscall.SIGCONT)
	must(t, p.Create(t.Context(), testCluster, testNode(0)))
	awaitOn(t, p.Hardware(testCluster, "dev-0", testNode(0).UUID), func(on bool, err error) bool { return err == nil && !on })
}

// TestEvents: changes made by others are seen at once.
func TestEvents(t *testing.T) {
	h, p := host(t)
	makePool(t, p)
	n := testNode(0)
	must(t, p.Create(t.Context(), testCluster, n))
	run(t, p)
	hw := p.Hardware(testCluster, n.Name, n.UUID)
	h.Run("virsh", "start", n.Name)
	awaitOn(t, hw, func(on bool, err error) bool { return err == nil && on })
	h.Run("virsh", "suspend", n.Name)
	if on, err := hw.On(); err != nil || !on {
		t.Errorf("a paused node is on: %v, %v", on, err)
	}
	h.Run("sh", "-c", "kill -9 $(cat /run/libvirt/qemu/dev-0.pid)")
	awaitOn(t, hw, func(on bool, err error) bool { return err == nil && !on })
	// A failing start leaves the node as it was.
	h.Run("ip", "link", "del", n.Ports[0].Tap)
	for _, b := range []machine.Boot{{}, {Device: machine.DevicePXE}} {
		if err := hw.Start(t.Context(), b); err == nil || !strings.Contains(err.Error(), n.Name) {
			t.Errorf("start without a tap: %v", err)
		}
		if on, err := hw.On(); err != nil || on {
			t.Errorf("after a failed start: %v, %v", on, err)
		}
		h.Run("virsh", "dominfo", n.Name)
	}
}

// TestSelfTest runs the guest of the KVM self-test in emulation, where it works.
func TestSelfTest(t *testing.T) {
	h, p := host(t)
	must(t, p.work.do(t.Context(), func(l *libvirt.Libvirt) error { return p.selfTest(t.Context(), l, "qemu") }))
	err := p.work.do(t.Context(), func(l *libvirt.Libvirt) error { return p.selfTest(t.Context(), l, "kvm") })
	if err == nil {
		t.Error("KVM, which is hidden, works")
	}
	kind, err := p.virtType(t.Context())
	if err != nil || kind != "qemu" {
		t.Errorf("verdict %q, %v", kind, err)
	}
	if got := strings.TrimSpace(h.Run("virsh", "list", "--all", "--name")); got != "" {
		t.Errorf("domains left: %s", got)
	}
	if got := strings.TrimSpace(h.Run("virsh", "pool-list", "--all", "--name")); got != "" {
		t.Errorf("pools left: %s", got)
	}
	if left, _ := filepath.Glob(h.Dir() + "/libvirt/lib/images/*"); len(left) > 0 {
		t.Errorf("files left: %v", left)
	}
}
