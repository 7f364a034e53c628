package host

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Doctor looks at this machine and returns what it found, in a fixed order. It
// changes nothing: what it has to try out, it does in a namespace of its own.
// It takes some seconds, more if names or libvirt are slow to answer.
func Doctor(ctx context.Context, o Options) []Finding { return doctor(ctx, o, here()) }

// check looks at one thing.
type check func(context.Context, Options, *system) []Finding

func doctor(ctx context.Context, o Options, s *system) []Finding {
	checks := []check{
		checkRoot, checkLibvirt, checkKVM, checkUser, checkBridges, checkTun, checkFirewall,
		checkName, checkReaping, checkFiles, checkPIDs, checkMemory, checkSpace, checkSystemd,
	}
	found := make([][]Finding, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() { found[i] = c(ctx, o, s) })
	}
	all.Wait()
	return slices.Concat(found...)
}

func ok(format string, args ...any) []Finding {
	return []Finding{{Severity: OK, What: fmt.Sprintf(format, args...)}}
}

func checkRoot(_ context.Context, _ Options, s *system) []Finding {
	if s.root {
		return ok("this is root")
	}
	return []Finding{{Warning, "this is not root", "networks, and most of what doctor looks at, need root", "sudo tenks doctor"}}
}

// checkLibvirt looks at what is installed, and whether libvirt answers.
func checkLibvirt(ctx context.Context, o Options, s *system) []Finding {
	var list []Finding
	var err error
	if o.Libvirt != nil {
		err = ping(ctx, o)
	}
	own := s.ownLibvirt(err) || o.Libvirt == nil
	_, debian := s.distribution()
	for _, p := range s.missing(own) {
		f := Finding{Severity: Problem, What: p.name + " is not installed", Why: p.need}
		if p.extra {
			f.Severity = Warning
		}
		if debian {
			f.Cure = "sudo apt-get install --no-install-recommends " + p.pkg
		}
		list = append(list, f)
	}
	if len(list) == 0 {
		list = ok("all programs and firmware are installed")
	}
	switch {
	case o.Libvirt == nil:
	case err == nil && own:
		list = append(list, ok("libvirt answers at %s", o.LibvirtSocket)...)
	case err == nil:
		list = append(list, ok("libvirt answers at %s, and is not of this machine", o.LibvirtSocket)...)
	default:
		f := Finding{Problem, "libvirt does not answer at " + o.LibvirtSocket, err.Error(), setupCure}
		if !defaultSocket(o.LibvirtSocket) {
			f.Why += "; this is not the system's own libvirt"
			f.Cure = "tenks doctor --libvirt-socket /run/libvirt/libvirt-sock"
		} else if !debian && s.systemd() {
			f.Cure = "sudo systemctl enable --now " + s.libvirtUnit()
		}
		list = append(list, f)
	}
	return list
}

// libvirtUnit is the unit that starts libvirt.
func (s *system) libvirtUnit() string {
	if !s.program("libvirtd") && s.program("virtqemud") {
		return "virtqemud.socket"
	}
	return "libvirtd.service"
}

func checkKVM(ctx context.Context, o Options, s *system) []Finding {
	if o.VirtType == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, virtTime)
	defer cancel()
	kind, err := o.VirtType(ctx)
	switch {
	case err != nil:
		return []Finding{{Warning, "whether KVM works is not known", err.Error(), ""}}
	case kind == "kvm":
		return ok("KVM works")
	}
	f := Finding{Severity: Warning, What: "nodes are emulated, without KVM"}
	cpu, _ := s.read("/proc/cpuinfo") // what cannot be read has no flags
	flags := strings.Fields(string(cpu))
	switch {
	case s.exists("/dev/kvm"):
		f.Why = "/dev/kvm is there, but a test guest does not run with it"
		f.Cure = "dmesg | grep -i kvm"
	case slices.Contains(flags, "vmx"):
		f.Why, f.Cure = "there is no /dev/kvm", "sudo modprobe kvm_intel"
	case slices.Contains(flags, "svm"):
		f.Why, f.Cure = "there is no /dev/kvm", "sudo modprobe kvm_amd"
	default:
		f.Why = "the processor does not offer it; switch on VT-x or AMD-V in the firmware's setup, or nested virtualisation for this virtual machine"
	}
	return []Finding{f}
}

// checkUser looks whether there is an unprivileged user for BMC processes, and
// whether that one gets through to libvirt.
func checkUser(_ context.Context, o Options, s *system) []Finding {
	a, there := s.user(o.User)
	if !there {
		return []Finding{{Warning, "there is no user " + o.User, "without it, BMC processes run as root", setupCure}}
	}
	if why := s.keptOut(o, a); why != "" {
		f := Finding{Problem, fmt.Sprintf("user %s, who runs BMC processes, cannot use libvirt", o.User), why, setupCure}
		if text, err := s.read(libvirtdConf); err == nil && settled(text) && slices.Contains(a.groups, group) {
			f.Cure = "sudoedit " + libvirtdConf // setup leaves alone what somebody has settled
		}
		return []Finding{f}
	}
	return ok("user %s runs BMC processes", o.User)
}

// keptOut is why a user cannot use libvirt, or "" if nothing is in the way or
// libvirt is not there at all.
func (s *system) keptOut(o Options, a account) string {
	if s.program("libvirtd") && defaultSocket(o.LibvirtSocket) && !slices.Contains(a.groups, group) {
		return "the user is not in the group " + group
	}
	if m, err := s.mode(o.LibvirtSocket); err == nil {
		if m.perm&0o006 != 0o006 && (m.perm&0o060 != 0o060 || !slices.Contains(a.gids, m.gid)) {
			return o.LibvirtSocket + " may not be opened by the user"
		}
	}
	if defaultSocket(o.LibvirtSocket) && s.asksPolkit() && !s.exists("/run/dbus/system_bus_socket") {
		return "libvirtd asks polkit, and there is no D-Bus to ask it by"
	}
	return ""
}

// libvirtdConf is libvirtd's configuration.
const libvirtdConf = "/etc/libvirt/libvirtd.conf"

// asksPolkit tells whether libvirtd leaves it to polkit who may use it. That is
// so unless its configuration says something else.
func (s *system) asksPolkit() bool {
	text, err := s.read(libvirtdConf)
	if err != nil {
		return false
	}
	auth := config(text)["auth_unix_rw"]
	return auth == "" || auth == "polkit"
}

// checkBridges makes a bridge, a veth pair and a tap where nobody sees them.
func checkBridges(ctx context.Context, _ Options, s *system) []Finding {
	if !s.root || !s.program("ip") || !s.program("unshare") {
		return nil // found by others
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var list []Finding
	for _, l := range []struct{ what, module, command string }{
		{"bridges", "bridge", "ip link add name tkprobe type bridge"},
		{"veth pairs", "veth", "ip link add name tkv type veth peer name tkw"},
	} {
		if _, err := s.run(ctx, "unshare", "--net", "sh", "-c", l.command); err != nil {
			list = append(list, Finding{Problem, "the kernel cannot make " + l.what, "physical networks are made of them: " + err.Error(), "sudo modprobe " + l.module})
		}
	}
	if len(list) == 0 {
		return ok("the kernel makes bridges and veth pairs")
	}
	return list
}

func checkTun(_ context.Context, _ Options, s *system) []Finding {
	const dev = "/dev/net/tun"
	f := Finding{Problem, dev + " cannot be used", "the ports of nodes are taps", "sudo modprobe tun"}
	if !s.exists(dev) {
		f.What = "there is no " + dev
		if _, err := s.read("/proc/misc"); err == nil && s.tunInKernel() {
			f.Cure = "sudo mkdir -p /dev/net && sudo mknod -m 666 " + dev + " c 10 200"
		}
		return []Finding{f}
	}
	if !s.root {
		return ok("%s is there", dev)
	}
	if err := s.openable(dev); err != nil {
		f.Why += ": " + err.Error()
		return []Finding{f}
	}
	return ok("%s works", dev)
}

// tunInKernel tells whether the driver is there and only its device file is not.
func (s *system) tunInKernel() bool {
	text, _ := s.read("/proc/misc")
	return slices.Contains(strings.Fields(string(text)), "tun")
}

// checkFirewall: with br_netfilter, frames between nodes go through the rules
// for what the host forwards, which Docker for one sets to drop.
func checkFirewall(_ context.Context, _ Options, s *system) []Finding {
	var on []string
	for _, proto := range []string{"arp", "ip", "ip6"} {
		text, err := s.read("/proc/sys/net/bridge/bridge-nf-call-" + proto + "tables")
		if err == nil && strings.TrimSpace(string(text)) != "0" {
			on = append(on, "net.bridge.bridge-nf-call-"+proto+"tables=0")
		}
	}
	if len(on) == 0 {
		return ok("this machine's firewall does not see the nodes' frames")
	}
	return []Finding{{Warning, "this machine's firewall sees the nodes' frames", "br_netfilter is on: what the host would not forward, nodes do not get", "sudo sysctl -w " + strings.Join(on, " ")}}
}

// slowName is when a lookup of the own name is taken to be slow.
const slowName = time.Second

// checkName: libvirt looks its host's name up at each start of a node; without
// an answer that takes as long as DNS waits.
func checkName(ctx context.Context, _ Options, s *system) []Finding {
	name, err := s.hostname()
	if err != nil {
		return []Finding{{Warning, "this machine's name is not known", err.Error(), "hostnamectl"}}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	start := time.Now()
	_, err = s.run(ctx, "getent", "ahosts", name)
	took := time.Since(start)
	f := Finding{Severity: Warning, Cure: fmt.Sprintf("echo '127.0.1.1 %s' | sudo tee -a /etc/hosts", name)}
	switch {
	case took > slowName:
		f.What = fmt.Sprintf("looking up this machine's own name takes %.1f s", took.Seconds())
		f.Why = "libvirt does so whenever a node starts"
	case err != nil:
		f.What = fmt.Sprintf("this machine's own name, %s, is not known to it", name)
		f.Why = "libvirt looks it up whenever a node starts, and waits for DNS if that does not answer"
	default:
		return ok("this machine knows its own name")
	}
	return []Finding{f}
}

// slowReap is when PID 1 is taken to be slow. libvirt waits for it whenever a
// QEMU ends, and many times over when one could not start.
const slowReap = 500 * time.Millisecond

func checkReaping(_ context.Context, _ Options, s *system) []Finding {
	if _, here := s.daemon("/run/libvirtd.pid"); !here && s.exists("/run/libvirtd.pid") && !s.systemd() {
		return ok("libvirtd has a PID 1 of its own")
	}
	took, err := s.reap()
	switch {
	case err != nil:
		return []Finding{{Warning, "how fast PID 1 clears away ended processes is not known", err.Error(), ""}}
	case took < slowReap:
		return ok("PID 1 clears away ended processes at once")
	}
	return []Finding{{Warning, fmt.Sprintf("PID 1 takes %.1f s to clear away an ended process", took.Seconds()),
		"libvirt waits for that when a node stops; it does not if libvirtd, while no node runs, is stopped and started so that it has a PID 1 of its own",
		"sudo setsid -f unshare --pid --fork --mount-proc sh -c 'virtlogd -d; libvirtd -d; sleep infinity; :'"}}
}

// checkFiles: a BMC process has a socket for each BMC.
func checkFiles(_ context.Context, _ Options, s *system) []Finding {
	const few, spare = 4096, 100
	n, err := s.nofile()
	switch {
	case err != nil:
		return []Finding{{Warning, "the limit of open files is not known", err.Error(), ""}}
	case n >= few:
		return ok("a process may open %d files", n)
	}
	return []Finding{{Warning, fmt.Sprintf("a process may open only %d files", n),
		fmt.Sprintf("a cluster's BMCs need one each: there can be some %d", max(0, int(n)-spare)), "sudo prlimit --pid $$ --nofile=65536:65536"}}
}

// checkPIDs: an emulated machine has about five threads.
func checkPIDs(_ context.Context, _ Options, s *system) []Finding {
	const few, each = 32768, 5
	text, err := s.read("/proc/sys/kernel/pid_max")
	n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil || bad != nil:
		return []Finding{{Warning, "the limit of processes is not known", fmt.Sprint(err), ""}}
	case n >= few:
		return ok("the kernel can number %d processes and threads", n)
	}
	return []Finding{{Warning, fmt.Sprintf("the kernel can number only %d processes and threads", n),
		fmt.Sprintf("a running node has some %d threads: there can be some %d", each, n/each), "sudo sysctl -w kernel.pid_max=4194304"}}
}

// Sizes in bytes.
const (
	mib = 1 << 20
	gib = 1 << 30
)

// checkMemory trusts the kernel and not libvirt, whose figure is of one NUMA
// node on some machines.
func checkMemory(_ context.Context, _ Options, s *system) []Finding {
	text, err := s.read("/proc/meminfo")
	if err != nil {
		return []Finding{{Warning, "how much memory there is is not known", err.Error(), ""}}
	}
	kib := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 {
			kib[strings.TrimSuffix(f[0], ":")], _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	f := Finding{What: fmt.Sprintf("%s of %s of memory are available", size(kib["MemAvailable"]<<10), size(kib["MemTotal"]<<10)),
		Cure: "ps -e -o rss,args --sort=-rss | head"}
	switch have := kib["MemAvailable"] << 10; {
	case have < gib:
		f.Severity, f.Why = Problem, "a node that deploys needs 2 to 4 GiB"
	case have < 4*gib:
		f.Severity, f.Why = Warning, "a node that deploys needs 2 to 4 GiB"
	default:
		return ok("%s", f.What)
	}
	return []Finding{f}
}

func checkSpace(_ context.Context, o Options, s *system) []Finding {
	var list []Finding
	for _, d := range []struct {
		path, what    string
		little, least uint64 // bytes
	}{
		{o.StateDir, "for Tenks' own files", 500 * mib, 50 * mib},
		{imagesDir, "for the volumes of nodes", 10 * gib, gib},
	} {
		n, err := s.free(d.path)
		f := Finding{Severity: OK, What: fmt.Sprintf("%s are free in %s", size(n), d.path)}
		switch {
		case err != nil:
			f = Finding{Warning, "how much is free in " + d.path + " is not known", err.Error(), ""}
		case n < d.little:
			f.Severity, f.Why = Warning, "that is little "+d.what
			if n < d.least {
				f.Severity = Problem
			}
			f.Cure = "sudo du -xh / | sort -h | tail -n 20"
		}
		list = append(list, f)
	}
	return list
}

// size writes a number of bytes.
func size(n uint64) string {
	if n >= gib {
		return fmt.Sprintf("%.1f GiB", float64(n)/gib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

func checkSystemd(_ context.Context, _ Options, s *system) []Finding {
	if s.systemd() {
		return ok("systemd looks after BMC processes")
	}
	return []Finding{{OK, "there is no systemd", "BMCs are not started at boot; after a reboot run tenks apply", ""}}
}
