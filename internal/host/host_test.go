package host

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/hint"
)

// box is a machine that a test describes. Programs change it as they would the
// real one, and are remembered.
type box struct {
	user     bool // not root
	files    map[string]string
	programs map[string]bool
	accounts map[string]account
	modes    map[string]mode
	slow     time.Duration // the own name's lookup; adds to the real time
	zombies  time.Duration // an orphan stays that long
	space    uint64        // bytes
	nofile   uint64
	fails    map[string]int    // by program: how often it fails first
	libvirt  bool              // it answers
	ran      []string          // commands that change something
	left     map[string]string // files that were there for a while
}

const (
	debianRelease = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"
	ubuntuRelease = "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nID=ubuntu\nID_LIKE=debian\n"
	mintRelease   = "PRETTY_NAME=\"Linux Mint 22\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"
	fedoraRelease = "NAME=\"Fedora Linux\"\nID=fedora\nPRETTY_NAME=\"Fedora Linux 40 (Server Edition)\"\n"
	descriptor    = `{"interface-types":["uefi"],"mapping":{"executable":{"filename":"/fw/code.fd"}},"targets":[{"architecture":"x86_64"}]}`
)

// fresh is a Debian on which nothing was installed yet.
func fresh() *box {
	return &box{
		files: map[string]string{
			"/etc/os-release": debianRelease, "/dev/net/tun": "", "/proc/misc": "200 tun\n",
			"/proc/meminfo":               "MemTotal:       16000000 kB\nMemAvailable:   12000000 kB\n",
			"/proc/sys/kernel/pid_max":    "4194304\n",
			"/run/dbus/system_bus_socket": "",
			"/run/systemd/system":         "",
		},
		programs: map[string]bool{"ip": true, "unshare": true, "setsid": true, "apt-get": true},
		accounts: map[string]account{}, modes: map[string]mode{}, fails: map[string]int{}, left: map[string]string{},
		space: 100 << 30, nofile: 20000,
	}
}

// container is a Debian without systemd, D-Bus and polkit.
func container() *box {
	b := fresh()
	delete(b.files, "/run/systemd/system")
	delete(b.files, "/run/dbus/system_bus_socket")
	return b
}

// installed has everything that packages bring.
func (b *box) installed() *box {
	for _, p := range parts {
		b.unpack(p.pkg)
	}
	return b
}

// unpack is what a package brings, as far as it matters here.
func (b *box) unpack(pkg string) {
	switch pkg {
	case "libvirt-daemon-system":
		b.programs["libvirtd"], b.programs["virtlogd"] = true, true
		b.files["/etc/libvirt/libvirtd.conf"] = "# auth_unix_rw = \"polkit\"\n#unix_sock_group = \"libvirt\"\n"
		b.files["group libvirt"] = ""
	case "qemu-system-x86":
		b.programs["qemu-system-x86_64"] = true
	case "qemu-utils":
		b.programs["qemu-img"] = true
	case "ovmf":
		b.files["/usr/share/qemu/firmware/60-edk2-x86_64.json"], b.files["/fw/code.fd"] = descriptor, ""
	case "seabios":
		b.files["/usr/share/seabios/bios-256k.bin"] = ""
	case "ipxe-qemu":
		b.files["/usr/lib/ipxe/qemu/efi-virtio.rom"] = ""
	default:
		b.programs[pkg] = true // iproute2's is there already
	}
}

// running has libvirt running as packages and Setup start it.
func (b *box) running() *box {
	b.libvirt = true
	b.modes["/run/libvirt/libvirt-sock"] = mode{gid: 107, perm: 0o770}
	b.files["/run/libvirtd.pid"], b.files["/proc/71/stat"] = "71\n", "71 (libvirtd) S 1"
	b.files["/run/virtlogd.pid"], b.files["/proc/70/stat"] = "70\n", "70 (virtlogd) S 1"
	b.files["enabled libvirtd.service"] = ""
	return b
}

func (b *box) with(change func(*box)) *box { change(b); return b }

var member = account{groups: []string{"tenks", "libvirt"}, gids: []int{999, 107}}

func (b *box) member() *box { b.accounts["tenks"] = member; return b }

func (b *box) exists(p string) bool { _, ok := b.files[p]; return ok }

func (b *box) run(_ context.Context, name string, args ...string) (string, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	switch { // what changes nothing
	case name == "getent" && args[0] == "group":
		if b.exists("group " + args[1]) {
			return "", nil
		}
		return "", errors.New("exit status 2")
	case name == "getent":
		time.Sleep(b.slow)
		return "", nil
	case name == "unshare":
		if b.exists("no " + strings.Fields(last)[len(strings.Fields(last))-1]) {
			return "", errors.New("Unknown device type")
		}
		return "", nil
	case strings.HasPrefix(line, "systemctl is-enabled"):
		if b.exists("enabled " + last) {
			return "enabled\n", nil
		}
		return "disabled\n", errors.New("exit status 1")
	}
	b.ran = append(b.ran, line)
	if b.fails[name] > 0 {
		b.fails[name]--
		return "", errors.New("exit status 100")
	}
	switch {
	case name == "apt-get" && slices.Contains(args, "install"):
		for _, p := range parts {
			if slices.Contains(args, p.pkg) {
				b.unpack(p.pkg)
			}
		}
		if b.exists("/run/systemd/system") && slices.Contains(args, "libvirt-daemon-system") {
			b.running() // its maintainer script does
		}
	case name == "useradd" || name == "usermod":
		b.accounts[last] = member
	case strings.HasPrefix(line, "systemctl enable"):
		b.files["enabled "+last] = ""
	case strings.HasPrefix(line, "systemctl start"), name == "libvirtd":
		b.running()
	case name == "sh" && strings.Contains(line, "libvirtd -d"):
		b.running()
		b.files["/proc/71/stat"] = "71 (something else) S 1" // it is process 71 elsewhere
	}
	return "", nil
}

func (b *box) system() *system {
	return &system{
		root: !b.user,
		read: func(p string) ([]byte, error) {
			if !b.exists(p) {
				return nil, fs.ErrNotExist
			}
			return []byte(b.files[p]), nil
		},
		exists: b.exists,
		glob: func(pattern string) []string {
			for _, set := range []string{"{seabios,qemu,qemu-kvm}", "{share,lib}", "{ipxe,ipxe/qemu,qemu,qemu-kvm}", "{usr/share,etc}"} {
				pattern = strings.ReplaceAll(pattern, set, "@")
			}
			return slices.DeleteFunc(slices.Sorted(maps.Keys(b.files)), func(f string) bool {
				dir, base := path.Split(pattern)
				ok, _ := path.Match(base, path.Base(f))
				return !ok || strings.HasPrefix(dir, "/usr/") != strings.HasPrefix(f, "/usr/") && !strings.HasPrefix(dir, "/@")
			})
		},
		program:  func(n string) bool { return b.programs[n] },
		openable: func(string) error { return nil },
		mode: func(p string) (mode, error) {
			if m, ok := b.modes[p]; ok {
				return m, nil
			}
			return mode{}, fs.ErrNotExist
		},
		user:     func(n string) (account, bool) { a, ok := b.accounts[n]; return a, ok },
		free:     func(string) (uint64, error) { return b.space, nil },
		hostname: func() (string, error) { return "box", nil },
		nofile:   func() (uint64, error) { return b.nofile, nil },
		reap:     func() (time.Duration, error) { return b.zombies, nil },
		write:    func(p, text string) error { b.files[p] = text; b.ran = append(b.ran, "write "+p); return nil },
		install: func(p, text string) (func(), error) {
			b.files[p], b.left[p] = text, text
			return func() { delete(b.files, p) }, nil
		},
		sleep: func(context.Context, time.Duration) {},
		stop: func(pid int) error {
			b.ran = append(b.ran, "stop")
			b.libvirt = false
			delete(b.files, "/proc/71/stat")
			return nil
		},
		run: b.run,
	}
}

func (b *box) options() Options {
	return Options{
		StateDir: "/var/lib/tenks", LibvirtSocket: "/run/libvirt/libvirt-sock", User: "tenks",
		Libvirt: func(context.Context) error {
			if b.libvirt {
				return nil
			}
			return errors.New("no such file or directory")
		},
		VirtType: func(context.Context) (string, error) { return "kvm", nil },
	}
}

const (
	apt     = "apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold "
	all     = apt + "install --no-install-recommends libvirt-daemon-system qemu-system-x86 qemu-utils ovmf seabios ipxe-qemu ipmitool"
	update  = apt + "update"
	useradd = "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --comment Tenks BMC processes --groups libvirt tenks"
	conf    = "write /etc/libvirt/libvirtd.conf"
)

// TestSetup: situation, commands. Afterwards Setup has nothing to do, and
// doctor finds nothing to mend.
func TestSetup(t *testing.T) {
	for name, c := range map[string]struct {
		box  *box
		want []string
	}{
		"fresh, systemd":    {fresh(), []string{all, useradd}},
		"fresh, no systemd": {container(), []string{all, useradd, conf, "virtlogd -d", "libvirtd -d"}},
		"Ubuntu":            {fresh().with(func(b *box) { b.files["/etc/os-release"] = ubuntuRelease }), []string{all, useradd}},
		"a child of Ubuntu": {fresh().with(func(b *box) { b.files["/etc/os-release"] = mintRelease }), []string{all, useradd}},
		"old package lists": {fresh().with(func(b *box) { b.fails["apt-get"] = 1 }), []string{all, update, all, useradd}},
		"one thing missing": {fresh().installed().running().member().with(func(b *box) { delete(b.programs, "qemu-img") }), []string{apt + "install --no-install-recommends qemu-utils"}},
		"firmware gone":     {fresh().installed().running().member().with(func(b *box) { delete(b.files, "/fw/code.fd") }), []string{apt + "install --no-install-recommends ovmf"}},
		"slow PID 1": {container().with(func(b *box) { b.zombies = 1300 * time.Millisecond }), []string{all, useradd, conf,
			"sh -c setsid -f unshare --pid --fork --mount-proc sh -c 'virtlogd -d; libvirtd -d; sleep infinity; :' </dev/null >/dev/null 2>&1"}},
		"not running":        {fresh().installed().member(), []string{"systemctl enable libvirtd.service", "systemctl start virtlogd.socket libvirtd.service"}},
		"not enabled":        {fresh().installed().running().member().with(func(b *box) { delete(b.files, "enabled libvirtd.service") }), []string{"systemctl enable libvirtd.service"}},
		"user missing":       {fresh().installed().running(), []string{useradd}},
		"user not in group":  {fresh().installed().running().with(func(b *box) { b.accounts["tenks"] = account{groups: []string{"tenks"}} }), []string{"usermod --append --groups libvirt tenks"}},
		"polkit is missing":  {container().installed().running().member(), []string{conf, "stop", "libvirtd -d"}},
		"virtlogd runs":      {container().installed().running().member().with(func(b *box) { b.libvirt = false; delete(b.files, "/proc/71/stat") }), []string{conf, "libvirtd -d"}},
		"zombies do not run": {container().installed().running().member().with(func(b *box) { b.libvirt = false; b.files["/proc/71/stat"] = "71 (libvirtd) Z 1" }), []string{conf, "libvirtd -d"}},
		"PID was used again": {container().installed().running().member().with(func(b *box) { b.libvirt = false; b.files["/proc/71/stat"] = "71 (bash) S 1" }), []string{conf, "libvirtd -d"}},
		"libvirt elsewhere":  {fresh().with(func(b *box) { b.libvirt = true; b.programs["ipmitool"] = true }), []string{strings.Replace(useradd, "--groups libvirt ", "", 1)}},
		"all is there":       {fresh().installed().running().member(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.box
			before := maps.Clone(b.files)
			libvirt, programs := b.libvirt, maps.Clone(b.programs)
			// First without doing it.
			var would []string
			changed, err := newSetup(SetupOptions{Options: b.options(), DryRun: true, Say: func(l string) { would = append(would, l) }}, b.system()).all(t.Context())
			if err != nil || changed != (c.want != nil) || len(b.ran) > 0 || !maps.Equal(before, b.files) || libvirt != b.libvirt || !maps.Equal(programs, b.programs) {
				t.Fatalf("dry run: changed %v, error %v, ran %q", changed, err, b.ran)
			}
			if changed != (len(would) > 0) {
				t.Errorf("dry run says %q", would)
			}
			var said []string
			o := SetupOptions{Options: b.options(), Say: func(l string) { said = append(said, l) }}
			if changed, err = newSetup(o, b.system()).all(t.Context()); err != nil || changed != (c.want != nil) {
				t.Fatalf("changed %v, error %v (hint %q)", changed, err, hint.Of(err))
			}
			if diff := cmp.Diff(c.want, b.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if len(said) < len(c.want)-1 || len(said) > len(c.want) { // the second try to install is not a new thing
				t.Errorf("said %q", said)
			}
			b.ran = nil
			if changed, err = newSetup(o, b.system()).all(t.Context()); changed || err != nil || b.ran != nil {
				t.Errorf("the second time: changed %v, error %v, ran %q", changed, err, b.ran)
			}
			for _, f := range doctor(t.Context(), b.options(), b.system()) {
				if f.Severity != OK {
					t.Errorf("doctor still finds %+v", f)
				}
			}
		})
	}
}

// TestPolicy: without systemd, packages start nothing while they are installed.
func TestPolicy(t *testing.T) {
	for _, b := range []*box{fresh(), container()} {
		systemd := b.exists("/run/systemd/system")
		if _, err := newSetup(SetupOptions{Options: b.options()}, b.system()).all(t.Context()); err != nil {
			t.Fatal(err)
		}
		if there := b.left["/usr/sbin/policy-rc.d"] != ""; there == systemd {
			t.Errorf("systemd %v: policy %v", systemd, there)
		}
		if b.exists("/usr/sbin/policy-rc.d") {
			t.Error("the policy was left behind")
		}
	}
}

func TestSetupRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		box   *box
		words []string // in the error and its hint
		ran   []string
	}{
		"not root":             {fresh().with(func(b *box) { b.user = true }), []string{"root", "sudo tenks host setup"}, nil},
		"another distribution": {fresh().with(func(b *box) { b.files["/etc/os-release"] = fedoraRelease }), []string{"Fedora Linux 40", "qemu-system-x86_64", "libvirtd", "UEFI", "iPXE", "package manager"}, nil},
		"no network":           {fresh().with(func(b *box) { b.fails["apt-get"] = 9 }), []string{"package lists", "mirror"}, []string{all, update}},
		"hangs": {container().installed().running().member().with(func(b *box) {
			b.libvirt = false
			b.files["/etc/libvirt/libvirtd.conf"] = "auth_unix_rw = 'none'\n"
		}), []string{"process 71", "kill 71"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newSetup(SetupOptions{Options: c.box.options()}, c.box.system()).all(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error()+"\n"+hint.Of(err), w) {
					t.Errorf("%q (hint %q) does not say %q", err, hint.Of(err), w)
				}
			}
			if diff := cmp.Diff(c.ran, c.box.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
	// A libvirt that is not the system's own is not started.
	b := fresh().installed().member()
	o := b.options()
	o.LibvirtSocket = "/srv/libvirt.sock"
	if _, err := newSetup(SetupOptions{Options: o}, b.system()).all(t.Context()); err == nil || b.ran != nil {
		t.Errorf("error %v, ran %q", err, b.ran)
	}
}

// TestDoctor: what is wrong, how bad it is, and what to type.
func TestDoctor(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*box, *Options)
		want   []Finding // without Why
	}{
		"nothing":      {func(*box, *Options) {}, nil},
		"not root":     {func(b *box, _ *Options) { b.user = true }, []Finding{{Warning, "this is not root", "", "sudo tenks doctor"}}},
		"program gone": {func(b *box, _ *Options) { delete(b.programs, "qemu-img") }, []Finding{{Problem, "QEMU's image tool (qemu-img) is not installed", "", "sudo apt-get install --no-install-recommends qemu-utils"}}},
		"client gone":  {func(b *box, _ *Options) { delete(b.programs, "ipmitool") }, []Finding{{Warning, "ipmitool is not installed", "", "sudo apt-get install --no-install-recommends ipmitool"}}},
		"firmware gone": {func(b *box, _ *Options) { delete(b.files, "/usr/share/qemu/firmware/60-edk2-x86_64.json") },
			[]Finding{{Problem, "UEFI firmware with its descriptor (OVMF) is not installed", "", "sudo apt-get install --no-install-recommends ovmf"}}},
		"firmware for another processor": {func(b *box, _ *Options) {
			b.files["/usr/share/qemu/firmware/60-edk2-x86_64.json"] = strings.Replace(descriptor, "x86_64", "aarch64", 1)
		}, []Finding{{Problem, "UEFI firmware with its descriptor (OVMF) is not installed", "", "sudo apt-get install --no-install-recommends ovmf"}}},
		"libvirt down": {func(b *box, _ *Options) { b.libvirt = false }, []Finding{{Problem, "libvirt does not answer at /run/libvirt/libvirt-sock", "", "sudo tenks host setup"}}},
		"no KVM":       {func(_ *box, o *Options) { o.VirtType = virt("qemu", nil) }, []Finding{{Warning, "nodes are emulated, without KVM", "", ""}}},
		"KVM module": {func(b *box, o *Options) {
			o.VirtType, b.files["/proc/cpuinfo"] = virt("qemu", nil), "flags : fpu svm sse\n"
		}, []Finding{{Warning, "nodes are emulated, without KVM", "", "sudo modprobe kvm_amd"}}},
		"KVM broken": {func(b *box, o *Options) { o.VirtType, b.files["/dev/kvm"] = virt("qemu", nil), "" }, []Finding{{Warning, "nodes are emulated, without KVM", "", "dmesg | grep -i kvm"}}},
		"KVM unknown": {func(_ *box, o *Options) { o.VirtType = virt("", errors.New("no answer")) },
			[]Finding{{Warning, "whether KVM works is not known", "", ""}}},
		"user gone": {func(b *box, _ *Options) { delete(b.accounts, "tenks") }, []Finding{{Warning, "there is no user tenks", "", "sudo tenks host setup"}}},
		"kept out":  {func(b *box, _ *Options) { b.modes["/run/libvirt/libvirt-sock"] = mode{0, 0o700} }, []Finding{{Problem, "user tenks, who runs BMC processes, cannot use libvirt", "", "sudo tenks host setup"}}},
		"kept out on purpose": {func(b *box, _ *Options) {
			b.modes["/run/libvirt/libvirt-sock"], b.files["/etc/libvirt/libvirtd.conf"] = mode{0, 0o700}, "unix_sock_rw_perms = \"0700\"\n"
		}, []Finding{{Problem, "user tenks, who runs BMC processes, cannot use libvirt", "", "sudoedit /etc/libvirt/libvirtd.conf"}}},
		"no polkit":   {func(b *box, _ *Options) { delete(b.files, "/run/dbus/system_bus_socket") }, []Finding{{Problem, "user tenks, who runs BMC processes, cannot use libvirt", "", "sudo tenks host setup"}}},
		"no bridges":  {func(b *box, _ *Options) { b.files["no bridge"] = "" }, []Finding{{Problem, "the kernel cannot make bridges", "", "sudo modprobe bridge"}}},
		"no tun":      {func(b *box, _ *Options) { delete(b.files, "/dev/net/tun"); b.files["/proc/misc"] = "" }, []Finding{{Problem, "there is no /dev/net/tun", "", "sudo modprobe tun"}}},
		"no tun file": {func(b *box, _ *Options) { delete(b.files, "/dev/net/tun") }, []Finding{{Problem, "there is no /dev/net/tun", "", "sudo mkdir -p /dev/net && sudo mknod -m 666 /dev/net/tun c 10 200"}}},
		"firewall": {func(b *box, _ *Options) {
			b.files["/proc/sys/net/bridge/bridge-nf-call-iptables"] = "1\n"
			b.files["/proc/sys/net/bridge/bridge-nf-call-ip6tables"] = "0\n"
		}, []Finding{{Warning, "this machine's firewall sees the nodes' frames", "", "sudo sysctl -w net.bridge.bridge-nf-call-iptables=0"}}},
		"slow name": {func(b *box, _ *Options) { b.slow = 1100 * time.Millisecond }, []Finding{{Warning, "looking up this machine's own name takes 1.1 s", "", "echo '127.0.1.1 box' | sudo tee -a /etc/hosts"}}},
		"slow reaping": {func(b *box, _ *Options) { b.zombies = 1700 * time.Millisecond },
			[]Finding{{Warning, "PID 1 takes 1.7 s to clear away an ended process", "", "sudo setsid -f unshare --pid --fork --mount-proc sh -c 'virtlogd -d; libvirtd -d; sleep infinity; :'"}}},
		"few files": {func(b *box, _ *Options) { b.nofile = 1024 }, []Finding{{Warning, "a process may open only 1024 files", "", "sudo prlimit --pid $$ --nofile=65536:65536"}}},
		"few PIDs":  {func(b *box, _ *Options) { b.files["/proc/sys/kernel/pid_max"] = "4096\n" }, []Finding{{Warning, "the kernel can number only 4096 processes and threads", "", "sudo sysctl -w kernel.pid_max=4194304"}}},
		"little memory": {func(b *box, _ *Options) {
			b.files["/proc/meminfo"] = "MemTotal: 8388608 kB\nMemAvailable: 2097152 kB\n"
		},
			[]Finding{{Warning, "2.0 GiB of 8.0 GiB of memory are available", "", "ps -e -o rss,args --sort=-rss | head"}}},
		"no memory": {func(b *box, _ *Options) { b.files["/proc/meminfo"] = "MemTotal: 8388608 kB\nMemAvailable: 524288 kB\n" },
			[]Finding{{Problem, "512 MiB of 8.0 GiB of memory are available", "", "ps -e -o rss,args --sort=-rss | head"}}},
		"little space": {func(b *box, _ *Options) { b.space = 5 << 30 }, []Finding{{Warning, "5.0 GiB are free in /var/lib/libvirt/images", "", "sudo du -xh / | sort -h | tail -n 20"}}},
		"no space": {func(b *box, _ *Options) { b.space = 10 << 20 }, []Finding{
			{Problem, "10 MiB are free in /var/lib/tenks", "", "sudo du -xh / | sort -h | tail -n 20"},
			{Problem, "10 MiB are free in /var/lib/libvirt/images", "", "sudo du -xh / | sort -h | tail -n 20"}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := fresh().installed().running().member()
			o := b.options()
			c.change(b, &o)
			var bad []Finding
			for _, f := range doctor(t.Context(), o, b.system()) {
				if f.Severity == OK {
					continue
				}
				if f.Why == "" {
					t.Errorf("%q: no reason", f.What)
				}
				f.Why = ""
				bad = append(bad, f)
			}
			if diff := cmp.Diff(c.want, bad); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if b.ran != nil {
				t.Errorf("doctor ran %q", b.ran)
			}
		})
	}
}

func virt(kind string, err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return kind, err }
}

func TestConfig(t *testing.T) {
	got := config([]byte("# comment = 1\n#unix_sock_group = \"libvirt\"\n\nauth_unix_rw = \"none\"\n  max_clients=5000 \nbroken\n"))
	if diff := cmp.Diff(map[string]string{"auth_unix_rw": "none", "max_clients": "5000"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestGlob(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"a-1", "b-1", "c-1"} {
		if err := replace(dir+"/"+f, ""); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{dir + "/a-1", dir + "/c-1"}, glob(dir+"/{a,c}-*")); diff != "" {
		t.Error(diff)
	}
}
