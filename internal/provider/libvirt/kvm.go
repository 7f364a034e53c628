package libvirt

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // for the test guest
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/tenks/tenks/internal/cluster"
)

// selfTestImage is a boot sector; selftest.S is its source. It prints
// selfTestWord on the serial console.
//
//go:embed selftest.bin
var selfTestImage []byte

const (
	selfTestWord   = "TENKS-OK"
	selfTestPrefix = "tenks-selftest-" // of domain and pool, then time and chance
	selfTestTime   = 15 * time.Second  // for the guest; firmware alone takes 4 s where KVM is slow
	selfTestStale  = 5 * time.Minute   // what is older is left over
	selfTestDisk   = 1 << 20           // bytes: SeaBIOS finds no geometry for less than a cylinder
	selfTestMemory = 16                // MiB
)

// verdict is the result of a self-test, as it is kept in StateDir. It holds for
// this boot of the host and this QEMU.
type verdict struct {
	Boot string `json:"boot_id"`
	QEMU uint64 `json:"qemu"`
	Kind string `json:"type"`
}

// virtType decides whether new nodes are "kvm" or "qemu" domains.
func (p *Provider) virtType(ctx context.Context) (string, error) {
	switch p.o.KVM {
	case KVMOn:
		return "kvm", nil
	case KVMOff:
		return "qemu", nil
	}
	p.kvm.Lock() // while the test runs, all others wait for its verdict
	defer p.kvm.Unlock()
	if p.kvm.kind != "" {
		return p.kvm.kind, nil
	}
	var kind string
	err := p.work.do(ctx, func(l *libvirt.Libvirt) (err error) {
		kind, err = p.judgeKVM(ctx, l)
		return err
	})
	if err != nil {
		return "", err
	}
	p.kvm.kind = kind
	return kind, nil
}

// judgeKVM asks libvirt, then the cache, then the processor.
func (p *Provider) judgeKVM(ctx context.Context, l *libvirt.Libvirt) (string, error) {
	caps, err := l.ConnectGetCapabilities()
	if err != nil {
		return "", fmt.Errorf("capabilities: %w", err)
	}
	if !offersKVM(caps) {
		return "qemu", nil
	}
	v := verdict{Boot: bootID()}
	if v.QEMU, err = l.ConnectGetVersion(); err != nil {
		return "", fmt.Errorf("version of QEMU: %w", err)
	}
	if kind := p.cachedVerdict(v); kind != "" {
		return kind, nil
	}
	v.Kind = "kvm"
	if err := p.selfTest(ctx, l, "kvm"); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		var answered libvirt.Error
		if !errors.Is(err, errSelfTest) && !asLibvirt(err, &answered) {
			return "", err
		}
		p.o.Log.Warn("KVM is there but does not work: nodes are emulated", "err", err)
		v.Kind = "qemu"
	}
	p.keepVerdict(v)
	return v.Kind, nil
}

// offersKVM tells whether libvirt's capabilities list KVM for x86-64 guests.
func offersKVM(caps string) bool {
	tree, err := parseXML(caps)
	if err != nil {
		return false
	}
	for _, g := range tree.all("guest") {
		for _, arch := range g.all("arch") {
			for _, d := range arch.all("domain") {
				if arch.attr("name") == "x86_64" && d.attr("type") == "kvm" {
					return true
				}
			}
		}
	}
	return false
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // empty: not kept
	return strings.TrimSpace(string(b))
}

func (p *Provider) verdictFile() string { return filepath.Join(p.o.StateDir, "tenks-kvm.json") }

func (p *Provider) cachedVerdict(want verdict) string {
	if p.o.StateDir == "" || want.Boot == "" {
		return ""
	}
	var v verdict
	b, err := os.ReadFile(p.verdictFile())
	if err != nil || json.Unmarshal(b, &v) != nil || v.Boot != want.Boot || v.QEMU != want.QEMU {
		return ""
	}
	return v.Kind
}

// keepVerdict saves some seconds to those who come after us, and no more.
func (p *Provider) keepVerdict(v verdict) {
	if p.o.StateDir == "" || v.Boot == "" {
		return
	}
	b, err := json.Marshal(v)
	if err == nil {
		tmp := p.verdictFile() + "." + strconv.Itoa(os.Getpid())
		if err = os.WriteFile(tmp, b, 0o644); err == nil {
			err = os.Rename(tmp, p.verdictFile())
		}
	}
	if err != nil {
		p.o.Log.Warn("the verdict on KVM is not kept", "err", err)
	}
}

// errSelfTest: the guest did not say its word.
var errSelfTest = errors.New("self-test failed")

// selfTest runs the test guest as a transient domain of that type, with its disk
// in a pool of its own. Nothing stays.
func (p *Provider) selfTest(ctx context.Context, l *libvirt.Libvirt, kind string) (err error) {
	sweepSelfTests(l)
	chance := make([]byte, 4)
	_, _ = rand.Read(chance) // never fails
	name := selfTestPrefix + strconv.FormatInt(time.Now().Unix(), 10) + "-" + hex.EncodeToString(chance)
	defer func() { err = errors.Join(err, removeSelfTest(l, name)) }()

	path, err := selfTestVolume(l, name)
	if err != nil {
		return err
	}
	text, err := selfTestXML(name, path, kind)
	if err != nil {
		return err
	}
	dom, err := l.DomainCreateXML(text, libvirt.DomainStartPaused|libvirt.DomainStartAutodestroy)
	if err != nil {
		return fmt.Errorf("self-test domain: %w", err)
	}
	c, err := p.work.dial(ctx)
	if err != nil {
		return err
	}
	con, err := openConsole(ctx, c, dom, false)
	if err != nil {
		c.close()
		return fmt.Errorf("self-test domain: %w", err)
	}
	if err := l.DomainResume(dom); err != nil {
		_ = con.Close()
		return fmt.Errorf("self-test domain: %w", err)
	}
	return awaitWord(ctx, con, kind)
}

// awaitWord reads the console until the word comes. It closes con.
func awaitWord(ctx context.Context, con io.ReadCloser, kind string) error {
	ctx, cancel := context.WithTimeout(ctx, selfTestTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = con.Close() })()
	defer func() { _ = con.Close() }()
	var seen []byte
	b := make([]byte, 4096)
	for {
		n, err := con.Read(b)
		if seen = append(seen, b[:n]...); bytes.Contains(seen, []byte(selfTestWord)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: a %s guest did not get to its end within %s", errSelfTest, kind, selfTestTime)
		}
	}
}

// selfTestVolume puts the image where QEMU can read it, whatever user it runs as.
func selfTestVolume(l *libvirt.Libvirt, name string) (string, error) {
	def := libvirtxml.StoragePool{Type: "dir", Name: name, UUID: cluster.UUID(name, "selftest", ""),
		Target: &libvirtxml.StoragePoolTarget{Path: volumePath(imagesDir, name)}}
	text, err := def.Marshal()
	if err != nil {
		return "", err
	}
	sp, err := l.StoragePoolDefineXML(text, 0)
	if err == nil {
		err = l.StoragePoolBuild(sp, libvirt.StoragePoolBuildNew)
	}
	if err == nil {
		err = l.StoragePoolCreate(sp, libvirt.StoragePoolCreateNormal)
	}
	if err != nil {
		return "", fmt.Errorf("self-test pool: %w", err)
	}
	vol, err := l.StorageVolCreateXML(sp, fmt.Sprintf("<volume><name>disk</name><capacity>%d</capacity><allocation>0</allocation>"+
		"<target><format type='raw'/></target></volume>", selfTestDisk), 0)
	if err == nil {
		err = l.StorageVolUpload(vol, bytes.NewReader(selfTestImage), 0, uint64(len(selfTestImage)), 0)
	}
	var path string
	if err == nil {
		path, err = l.StorageVolGetPath(vol)
	}
	if err != nil {
		return "", fmt.Errorf("self-test volume: %w", err)
	}
	return path, nil
}

func selfTestXML(name, path, kind string) (string, error) {
	port := uint(0)
	d := libvirtxml.Domain{
		Type: kind, Name: name, UUID: cluster.UUID(name, "selftest", ""),
		Memory: &libvirtxml.DomainMemory{Value: selfTestMemory, Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: 1},
		OS:     &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Type: "hvm", Arch: "x86_64", Machine: "q35"}},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{},
			APIC: &libvirtxml.DomainFeatureAPIC{}},
		CPU: &libvirtxml.DomainCPU{Mode: cpuMode(kind)},
		Devices: &libvirtxml.DomainDeviceList{
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			Disks: []libvirtxml.DomainDisk{{
				Device: "disk",
				Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
				Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
				Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
				Boot:   &libvirtxml.DomainDeviceBoot{Order: 1},
			}},
			Serials: []libvirtxml.DomainSerial{{
				Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
				Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: &port},
			}},
			Consoles: []libvirtxml.DomainConsole{{
				Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
				Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: &port},
			}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
			Videos:     []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "none"}}},
		},
	}
	return d.Marshal()
}

// removeSelfTest removes a self-test's domain and pool, as far as they are there
// and have the UUID that says that they are ours.
func removeSelfTest(l *libvirt.Libvirt, name string) error {
	u, err := parseUUID(cluster.UUID(name, "selftest", ""))
	if err != nil {
		return err
	}
	if dom, err := l.DomainLookupByUUID(u); err == nil {
		if err := stop(l, dom); err != nil {
			return fmt.Errorf("domain %s: %w", name, err)
		}
	}
	sp, err := l.StoragePoolLookupByUUID(u)
	if is(err, libvirt.ErrNoStoragePool) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pool %s: %w", name, err)
	}
	if vol, err := l.StorageVolLookupByName(sp, "disk"); err == nil {
		if err := l.StorageVolDelete(vol, 0); err != nil {
			return fmt.Errorf("pool %s: %w", name, err)
		}
	}
	_ = l.StoragePoolBuild(sp, libvirt.StoragePoolBuildNew) // so that there is a folder to remove
	_ = l.StoragePoolDestroy(sp)                            // it may not be active
	if err = l.StoragePoolDelete(sp, libvirt.StoragePoolDeleteNormal); err == nil {
		err = l.StoragePoolUndefine(sp)
	}
	if err != nil {
		return fmt.Errorf("pool %s: %w", name, err)
	}
	return nil
}

// sweepSelfTests removes what self-tests left that were killed. Errors do not
// matter: the next one tries again.
func sweepSelfTests(l *libvirt.Libvirt) {
	pools, _, err := l.ConnectListAllStoragePools(1, 0)
	if err != nil {
		return
	}
	for _, sp := range pools {
		rest, ok := strings.CutPrefix(sp.Name, selfTestPrefix)
		since, _, _ := strings.Cut(rest, "-")
		sec, err := strconv.ParseInt(since, 10, 64)
		if ok && err == nil && time.Since(time.Unix(sec, 0)) > selfTestStale &&
			formatUUID(sp.UUID) == cluster.UUID(sp.Name, "selftest", "") {
			_ = removeSelfTest(l, sp.Name)
		}
	}
}
