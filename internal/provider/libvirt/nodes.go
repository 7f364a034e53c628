package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/digitalocean/go-libvirt"

	"github.com/tenks/tenks/internal/cluster"
)

// asLibvirt tells whether libvirt has answered with an error.
func asLibvirt(err error, e *libvirt.Error) bool { return errors.As(err, e) }

// Create implements [provider.Provider].
func (p *Provider) Create(ctx context.Context, clusterName string, n cluster.Node) error {
	kind, err := p.virtType(ctx)
	if err != nil {
		return nodeError(n.Name, err)
	}
	return p.work.do(ctx, func(l *libvirt.Libvirt) error {
		f, err := lookup(l, clusterName, n.Name, n.UUID)
		if err != nil {
			return err
		}
		if f != nil && (!f.ours || f.dom.Name != n.Name) {
			return stranger(n.Name, f)
		}
		o, err := needPool(l, clusterName, n)
		if err != nil {
			return err
		}
		if f != nil {
			return nodeError(n.Name, converge(l, f, o, n))
		}
		text, err := domainXML(clusterName, n, o.path, kind)
		if err != nil {
			return err
		}
		if _, err := l.DomainDefineXMLFlags(text, 0); err != nil {
			return nodeError(n.Name, err)
		}
		for _, v := range n.Volumes {
			if err := ensureVolume(l, o, v, nil); err != nil {
				return nodeError(n.Name, err)
			}
		}
		return nil
	})
}

// Update implements [provider.Provider]. What others have put into the domain
// stays. The definition is replaced in one call, so a node is never half way.
func (p *Provider) Update(ctx context.Context, clusterName string, _, want cluster.Node) error {
	return p.work.do(ctx, func(l *libvirt.Libvirt) error {
		f, err := lookup(l, clusterName, want.Name, want.UUID)
		switch {
		case err != nil:
			return err
		case f == nil:
			return absent(want.Name)
		case !f.ours, f.dom.Name != want.Name:
			return stranger(want.Name, f)
		}
		o, err := needPool(l, clusterName, want)
		if err != nil {
			return err
		}
		return nodeError(want.Name, converge(l, f, o, want))
	})
}

// converge makes a domain of ours, and its volumes, what want says. It starts
// from what is there, so it completes what was left unfinished.
func converge(l *libvirt.Libvirt, f *found, o ownPool, want cluster.Node) error {
	before := f.xml.String()
	m, err := reshape(f.xml, f.mark, want, o.path)
	if err != nil {
		return err
	}
	if after := f.xml.String(); after != before {
		if _, err := l.DomainDefineXMLFlags(after, 0); err != nil {
			return err
		}
	}
	var running *found
	if f.dom.ID >= 0 {
		running = f
	}
	for _, v := range want.Volumes {
		if err := ensureVolume(l, o, v, running); err != nil {
			return err
		}
	}
	if len(m.Removing) == 0 {
		return nil
	}
	if o.path != "" {
		for _, v := range m.Removing {
			if err := deleteVolume(l, o, v.Name); err != nil {
				return err
			}
		}
	}
	m.Removing = nil
	e, err := m.element()
	if err != nil {
		return err
	}
	e.name = "node" // libvirt adds prefix and namespace
	e.setAttr("xmlns:"+metadataKey, "")
	return l.DomainSetMetadata(f.dom, int32(libvirt.DomainMetadataElement), opt(e.String()), opt(metadataKey), opt(namespace),
		libvirt.DomainAffectConfig)
}

// reshape changes a domain's definition into what want says, and nothing else
// in it. It returns the domain's new mark.
func reshape(domain *element, m mark, want cluster.Node, poolPath string) (mark, error) {
	next := newMark(m.Cluster, want)
	next.NVRAM = m.NVRAM
	for _, v := range slices.Concat(m.Node.Volumes, m.Removing) {
		_, wanted := findVolume(want.Volumes, v.Name)
		_, listed := findVolume(next.Removing, v.Name)
		if !wanted && !listed {
			next.Removing = append(next.Removing, v)
		}
	}
	if vcpus(domain) != want.VCPUs {
		v := domain.child("vcpu")
		v.setAttr("current", "")
		v.setText(strconv.Itoa(want.VCPUs))
		domain.removeAll("vcpus") // says the same, processor by processor
	}
	if memoryMB(domain) != want.MemoryMB {
		for _, name := range []string{"memory", "currentMemory"} {
			e := domain.child(name)
			e.setAttr("unit", "MiB")
			e.setText(strconv.Itoa(want.MemoryMB))
		}
	}
	if bootMode(domain) != want.BootMode {
		if want.BootMode != cluster.BootUEFI {
			next.NVRAM = cmp.Or(domain.at("os", "nvram").text(), autoNVRAM)
		}
		setFirmware(domain, want.BootMode)
	}
	nics, err := reshapePorts(domain, m.Node.Ports, want.Ports)
	if err != nil {
		return next, err
	}
	disks, err := reshapeDisks(domain, next.Removing, want.Volumes, poolPath)
	if err != nil {
		return next, err
	}
	if nics || disks {
		defaultBootOrder(domain)
	}
	old, err := m.element()
	if err != nil {
		return next, err
	}
	now, err := next.element()
	if err != nil || old.String() == now.String() {
		return next, err
	}
	return next, setMark(domain, next)
}

// reshapePorts makes the domain's interfaces those of want. An interface keeps
// its place on the guest's PCI bus if its port has only another MAC or tap.
// Interfaces that were never ports are left alone.
func reshapePorts(domain *element, had, want []cluster.Port) (changed bool, err error) {
	devices := domain.child("devices")
	var ours []*element
	for _, p := range slices.Concat(had, want) {
		if e := findNIC(domain, p); e != nil && !slices.Contains(ours, e) {
			ours = append(ours, e)
		}
	}
	use := make([]*element, len(want)) // the interface of each port
	take := func(i int, match func(*element) bool) {
		if at := slices.IndexFunc(ours, match); use[i] == nil && at >= 0 {
			use[i] = ours[at]
			ours = slices.Delete(ours, at, at+1)
		}
	}
	for i, p := range want {
		take(i, func(e *element) bool { return mac(e) == p.MAC })
	}
	for i, p := range want {
		take(i, func(e *element) bool { return e.at("target").attr("dev") == p.Tap })
	}
	for i := range want {
		take(i, func(*element) bool { return true })
	}
	if len(ours) > 0 {
		devices.remove(ours...)
		changed = true
	}
	for i, p := range want {
		e := use[i]
		if e == nil {
			n := nic(p)
			text, err := n.Marshal()
			if err != nil {
				return changed, err
			}
			if e, err = parseXML(text); err != nil {
				return changed, err
			}
			devices.kids = append(devices.kids, e)
			changed = true
			continue
		}
		if mac(e) != p.MAC {
			e.child("mac").setAttr("address", p.MAC)
		}
		if t := e.child("target"); t.attr("dev") != p.Tap {
			t.setAttr("dev", p.Tap)
			t.setAttr("managed", "no")
		}
	}
	return changed, nil
}

// reshapeDisks takes disks out whose volumes go and adds those that are
// missing. Disks that are not volumes of ours are left alone.
func reshapeDisks(domain *element, gone, want []cluster.Volume, poolPath string) (changed bool, err error) {
	devices := domain.child("devices")
	for _, v := range gone {
		if e := findDisk(domain, poolPath, v.Name); e != nil {
			devices.remove(e)
			changed = true
		}
	}
	for _, v := range want {
		if findDisk(domain, poolPath, v.Name) != nil {
			continue
		}
		d := disk(v, poolPath, freeTarget(domain))
		text, err := d.Marshal()
		if err != nil {
			return changed, err
		}
		e, err := parseXML(text)
		if err != nil {
			return changed, err
		}
		devices.kids = append(devices.kids, e)
		changed = true
	}
	return changed, nil
}

// freeTarget is the first name of a virtio disk that the domain does not use.
func freeTarget(domain *element) string {
	for i := 0; ; i++ {
		t := diskTarget(i)
		if !slices.ContainsFunc(domain.at("devices").all("disk"), func(e *element) bool { return e.at("target").attr("dev") == t }) {
			return t
		}
	}
}

// Delete implements [provider.Provider].
func (p *Provider) Delete(ctx context.Context, clusterName string, n cluster.Node) error {
	return p.work.do(ctx, func(l *libvirt.Libvirt) error {
		f, err := lookup(l, clusterName, n.Name, "")
		if err != nil {
			return err
		}
		volumes := n.Volumes
		if f != nil && !f.ours {
			f = nil // somebody else's: ours is gone
		}
		if f != nil {
			volumes = slices.Concat(volumes, f.mark.Node.Volumes, f.mark.Removing)
			if err := stop(l, f.dom); err != nil {
				return nodeError(n.Name, err)
			}
		}
		if err := deleteVolumes(l, clusterName, volumes); err != nil {
			return nodeError(n.Name, err)
		}
		if f == nil {
			return nil
		}
		return nodeError(n.Name, undefine(l, f))
	})
}

// deleteVolumes deletes those volumes that are in the cluster's pool.
func deleteVolumes(l *libvirt.Libvirt, clusterName string, vs []cluster.Volume) error {
	if len(vs) == 0 {
		return nil
	}
	o, ok, err := openPool(l, clusterName)
	if err != nil || !ok {
		return err
	}
	if !o.active { // libvirt does not look into a pool that is not
		if err := startPool(l, o.StoragePool); err != nil {
			return err
		}
	}
	for _, v := range vs {
		if v.Pool != o.Name {
			continue
		}
		if err := deleteVolume(l, o, v.Name); err != nil {
			return err
		}
	}
	return nil
}

// stop switches a domain off at once; one that is off, or gone, is no error.
func stop(l *libvirt.Libvirt, dom libvirt.Domain) error {
	err := l.DomainDestroyFlags(dom, libvirt.DomainDestroyDefault)
	if is(err, libvirt.ErrOperationInvalid) || libvirt.IsNotFound(err) {
		return nil
	}
	return err
}

// undefine removes a domain that is off, with all that libvirt keeps for it.
func undefine(l *libvirt.Libvirt, f *found) error {
	if f.mark.NVRAM != "" && bootMode(f.xml) != cluster.BootUEFI {
		// libvirt removes the variable store of a domain that boots from
		// UEFI: for a moment this one does so again.
		setFirmware(f.xml, cluster.BootUEFI)
		if f.mark.NVRAM != autoNVRAM {
			f.xml.child("os").child("nvram").setText(f.mark.NVRAM)
		}
		if _, err := l.DomainDefineXMLFlags(f.xml.String(), 0); err != nil {
			return fmt.Errorf("its UEFI variable store %s: %w", f.mark.NVRAM, err)
		}
	}
	flags := libvirt.DomainUndefineManagedSave | libvirt.DomainUndefineSnapshotsMetadata |
		libvirt.DomainUndefineCheckpointsMetadata | libvirt.DomainUndefineNvram
	err := l.DomainUndefineFlags(f.dom, flags)
	if libvirt.IsNotFound(err) {
		return nil
	}
	return err
}
