package libvirt

import (
	"fmt"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/tenks/tenks/internal/cluster"
)

// rebootTimeoutMS: a BIOS that found nothing to boot from starts again after
// this time, as servers do; SeaBIOS would halt.
const rebootTimeoutMS = 2000

// cdTarget is the drive that every node has from the start, and empty: libvirt
// cannot add one to a running domain.
const cdTarget = "sda"

// domainXML is the definition of a new node. poolPath is where the pool keeps
// its volumes; kind is "kvm" or "qemu".
//
// The machine is a q35 in either boot mode, so that a node can change its boot
// mode and keep its PCI addresses. It boots from its disks, then its NICs, then
// the CD: a blank disk falls through to the network, an installed one boots.
func domainXML(clusterName string, n cluster.Node, poolPath, kind string) (string, error) {
	m, err := newMark(clusterName, n).element()
	if err != nil {
		return "", err
	}
	d := libvirtxml.Domain{
		Type:          kind,
		Name:          n.Name,
		UUID:          n.UUID,
		Metadata:      &libvirtxml.DomainMetadata{XML: m.String()},
		Memory:        &libvirtxml.DomainMemory{Value: uint(n.MemoryMB), Unit: "MiB"},
		CurrentMemory: &libvirtxml.DomainCurrentMemory{Value: uint(n.MemoryMB), Unit: "MiB"},
		VCPU:          &libvirtxml.DomainVCPU{Value: uint(n.VCPUs)},
		OS: &libvirtxml.DomainOS{
			Type:   &libvirtxml.DomainOSType{Type: "hvm", Arch: "x86_64", Machine: "q35"},
			SMBios: &libvirtxml.DomainSMBios{Mode: "sysinfo"},
		},
		SysInfo: []libvirtxml.DomainSysInfo{{SMBIOS: &libvirtxml.DomainSysInfoSMBIOS{
			System: &libvirtxml.DomainSysInfoSystem{Entry: []libvirtxml.DomainSysInfoEntry{
				{Name: "manufacturer", Value: "Tenks"},
				{Name: "serial", Value: n.Serial},
				{Name: "uuid", Value: n.UUID},
			}},
		}}},
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		CPU:        &libvirtxml.DomainCPU{Mode: cpuMode(kind)},
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "restart",
		Devices:    devices(n, poolPath),
	}
	text, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("node %s: %w", n.Name, err)
	}
	tree, err := parseXML(text)
	if err != nil {
		return "", err
	}
	setFirmware(tree, n.BootMode)
	defaultBootOrder(tree)
	return tree.String(), nil
}

// cpuMode: all that the processor, or its emulation, can do. QEMU's own default
// is too old for distributions that ask for x86-64-v2.
func cpuMode(kind string) string {
	if kind == "kvm" {
		return "host-passthrough"
	}
	return "maximum"
}

// devices of a new node.
func devices(n cluster.Node, poolPath string) *libvirtxml.DomainDeviceList {
	port := uint(0)
	l := &libvirtxml.DomainDeviceList{
		// No USB, no graphics, no balloon: nothing that costs and no server needs.
		Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
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
	}
	for i, v := range n.Volumes {
		l.Disks = append(l.Disks, disk(v, poolPath, diskTarget(i)))
	}
	l.Disks = append(l.Disks, libvirtxml.DomainDisk{
		Device:   "cdrom",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Target:   &libvirtxml.DomainDiskTarget{Dev: cdTarget, Bus: "sata"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
	})
	for _, p := range n.Ports {
		l.Interfaces = append(l.Interfaces, nic(p))
	}
	return l
}

// diskTarget is the name of the i-th virtio disk. libvirt wants one for every
// disk; guests make their own.
func diskTarget(i int) string {
	s := ""
	for i++; i > 0; i = (i - 1) / 26 {
		s = string(rune('a'+(i-1)%26)) + s
	}
	return "vd" + s
}

// diskSerialMax is the most characters of a virtio disk's serial number that a
// guest gets to see (VIRTIO v1.2 §5.2.6.1, VIRTIO_BLK_T_GET_ID: 20 bytes).
const diskSerialMax = 20

func disk(v cluster.Volume, poolPath, target string) libvirtxml.DomainDisk {
	serial := v.Name
	if len(serial) > diskSerialMax {
		serial = serial[len(serial)-diskSerialMax:] // volumes of a node differ at the end
	}
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap"},
		// A path and not pool and volume: the AppArmor helper of libvirt does
		// not look pools up, and the guest would not be allowed to open it.
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: volumePath(poolPath, v.Name)}},
		Target: &libvirtxml.DomainDiskTarget{Dev: target, Bus: "virtio"},
		Serial: serial,
	}
}

func volumePath(poolPath, name string) string { return strings.TrimSuffix(poolPath, "/") + "/" + name }

// nic uses the tap as it is: libvirt neither makes nor removes it.
func nic(p cluster.Port) libvirtxml.DomainInterface {
	return libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: p.MAC},
		Source: &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
		Target: &libvirtxml.DomainInterfaceTarget{Dev: p.Tap, Managed: "no"},
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
	}
}

// setFirmware makes a domain boot from BIOS or UEFI. Secure Boot is switched
// off in words: left to itself, libvirt chooses a firmware that has it on.
func setFirmware(domain *element, bootMode string) {
	os := domain.child("os")
	os.setAttr("firmware", "")
	for _, name := range []string{"firmware", "loader", "nvram", "bios"} {
		os.removeAll(name)
	}
	if bootMode == cluster.BootUEFI {
		os.setAttr("firmware", "efi")
		f := os.child("firmware").child("feature")
		f.setAttr("enabled", "no")
		f.setAttr("name", "secure-boot")
		return
	}
	bios := os.child("bios")
	bios.setAttr("useserial", "yes") // its messages are on the serial console too
	bios.setAttr("rebootTimeout", strconv.Itoa(rebootTimeoutMS))
}

// bootMode of a domain.
func bootMode(domain *element) string {
	os := domain.at("os")
	if os.attr("firmware") == "efi" || os.at("loader").attr("type") == "pflash" {
		return cluster.BootUEFI
	}
	return cluster.BootBIOS
}
