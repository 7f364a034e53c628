// Package host looks at a machine as a hypervisor and prepares it to be one:
// [Doctor] finds what is missing or wrong and how to mend it, and changes
// nothing; [Setup] installs, configures and starts what is missing, on Debian
// and its descendants, and says what it did.
//
// The package knows no cluster and does not speak to libvirt: whether libvirt
// answers, and whether KVM works, is asked by functions that the caller brings.
package host

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Options say what to look at. StateDir, LibvirtSocket and User must be set.
type Options struct {
	// StateDir is Tenks' folder; it need not exist.
	StateDir string
	// LibvirtSocket is the path of libvirt's socket.
	LibvirtSocket string
	// User is the system user that BMC processes run as.
	User string
	// Libvirt asks libvirt something; its error is why libvirt does not
	// answer. nil: libvirt is not looked at.
	Libvirt func(context.Context) error
	// VirtType tells what nodes are, "kvm" or "qemu" (emulated). nil: not asked.
	VirtType func(context.Context) (string, error)
}

// Severity is how bad a finding is.
type Severity string

// Severities.
const (
	OK      Severity = "ok"
	Warning Severity = "warning" // nodes can be made, but something will be slow or missing
	Problem Severity = "problem" // nodes cannot be made
)

// Finding is one thing that was looked at.
type Finding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`           // "package qemu-utils is missing"
	Why      string   `json:"why,omitempty"`  // what it is needed for, or what is wrong
	Cure     string   `json:"cure,omitempty"` // a command to type; empty if there is none
}

// setupCure is the command for what [Setup] can do.
const setupCure = "sudo tenks host setup"

// group is libvirt's group: its members may use libvirt's socket.
const group = "libvirt"

// imagesDir is where libvirt keeps images.
const imagesDir = "/var/lib/libvirt/images"

// Time limits.
const (
	pingTime = 10 * time.Second // for libvirt to answer
	virtTime = 60 * time.Second // for the verdict on KVM, which boots a guest
)

// system is the machine as this package sees it. Tests bring one of their own.
type system struct {
	root     bool // whether we are root
	read     func(path string) ([]byte, error)
	exists   func(path string) bool
	glob     func(pattern string) []string
	program  func(name string) bool            // whether it is in the PATH, or where daemons are
	openable func(path string) error           // for reading and writing
	mode     func(path string) (mode, error)   // of a file
	user     func(name string) (account, bool) // whether there is that user
	free     func(dir string) (uint64, error)  // bytes, on the file system that dir is or will be on
	hostname func() (string, error)
	nofile   func() (uint64, error)                  // hard limit of open files
	reap     func() (time.Duration, error)           // how long an orphan stays a zombie
	write    func(path string, text string) error    // replaces a file, with the mode that it has, or 0644
	install  func(path, text string) (func(), error) // makes an executable for a while; what is there stays
	sleep    func(context.Context, time.Duration)
	stop     func(pid int) error // SIGTERM
	// run runs a program and returns what it prints.
	run func(ctx context.Context, name string, args ...string) (string, error)
}

// mode is who may open a file.
type mode struct {
	gid  int
	perm uint32 // rwxrwxrwx
}

// account is a user.
type account struct {
	groups []string // names
	gids   []int
}

// systemd tells whether the machine was booted with systemd (sd_booted(3)).
func (s *system) systemd() bool { return s.exists("/run/systemd/system") }

// distribution is what os-release(5) says.
func (s *system) distribution() (name string, debian bool) {
	text, err := s.read("/etc/os-release")
	if err != nil {
		return "an unknown distribution", false
	}
	v := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		v[key] = value
	}
	for _, id := range strings.Fields(v["ID"] + " " + v["ID_LIKE"]) {
		debian = debian || id == "debian" || id == "ubuntu"
	}
	if name = v["PRETTY_NAME"]; name == "" {
		name = v["ID"]
	}
	return name, debian
}

// part is something that must be installed.
type part struct {
	name    string // in words
	need    string // what for
	pkg     string // Debian's and Ubuntu's package
	libvirt bool   // not needed here if libvirt is somebody else's, in a container say
	extra   bool   // without it, nodes work all the same
	there   func(*system) bool
}

// parts is everything that a hypervisor has installed.
var parts = [...]part{
	{"libvirt daemon (libvirtd)", "it runs nodes", "libvirt-daemon-system", true, false,
		func(s *system) bool { return s.program("libvirtd") || s.program("virtqemud") }},
	{"QEMU for x86-64 (qemu-system-x86_64)", "nodes are QEMU machines", "qemu-system-x86", true, false,
		func(s *system) bool { return s.program("qemu-system-x86_64") || s.exists("/usr/libexec/qemu-kvm") }},
	{"QEMU's image tool (qemu-img)", "it makes volumes", "qemu-utils", true, false,
		func(s *system) bool { return s.program("qemu-img") }},
	{"UEFI firmware with its descriptor (OVMF)", "UEFI nodes boot it", "ovmf", true, false, (*system).uefi},
	{"BIOS firmware (SeaBIOS)", "BIOS nodes boot it", "seabios", true, false,
		func(s *system) bool { return len(s.glob("/usr/share/{seabios,qemu,qemu-kvm}/bios-256k.bin")) > 0 }},
	{"network boot ROMs (iPXE)", "nodes boot from the network with them", "ipxe-qemu", true, false,
		func(s *system) bool {
			return len(s.glob("/usr/{share,lib}/{ipxe,ipxe/qemu,qemu,qemu-kvm}/*virtio*.rom")) > 0
		}},
	{"iproute2 (ip)", "with it you see what Tenks makes", "iproute2", false, true,
		func(s *system) bool { return s.program("ip") }},
	{"ipmitool", "with it you talk to BMCs", "ipmitool", false, true,
		func(s *system) bool { return s.program("ipmitool") }},
}

// uefi tells whether there is a descriptor of an x86-64 UEFI firmware that
// libvirt can choose by itself (QEMU's docs/interop/firmware.json), and the
// image that it names.
func (s *system) uefi() bool {
	for _, f := range s.glob("/{usr/share,etc}/qemu/firmware/*.json") {
		text, err := s.read(f)
		if err == nil && s.describesUEFI(text) {
			return true
		}
	}
	return false
}

// missing are the parts that are not installed. own tells whether libvirt is,
// or will be, this machine's own.
func (s *system) missing(own bool) []part {
	var list []part
	for _, p := range parts {
		if (own || !p.libvirt) && !p.there(s) {
			list = append(list, p)
		}
	}
	return list
}

// ownLibvirt tells whether libvirt is this machine's own: it is not if it
// answers and its daemon is not installed here.
func (s *system) ownLibvirt(ping error) bool {
	return ping != nil || s.program("libvirtd") || s.program("virtqemud")
}

// ping asks libvirt.
func ping(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	return o.Libvirt(ctx)
}

// defaultSocket tells whether a path is that of the system's libvirt.
func defaultSocket(path string) bool {
	return strings.TrimPrefix(filepath.Clean(path), "/var") == "/run/libvirt/libvirt-sock"
}

// config returns what a file of libvirt's sets: key, and value without quotes.
func config(text []byte) map[string]string {
	set := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); ok && !strings.HasPrefix(key, "#") {
			set[key] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return set
}
