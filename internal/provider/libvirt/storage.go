package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// imagesDir is where libvirt keeps images: security drivers and file contexts
// of all distributions know it. A pool is a folder in there.
const imagesDir = "/var/lib/libvirt/images"

// CreatePool implements [provider.Storage].
func (p *Provider) CreatePool(ctx context.Context, clusterName string, cp cluster.Pool) error {
	return p.work.do(ctx, func(l *libvirt.Libvirt) error {
		sp, err := l.StoragePoolLookupByName(cp.Name)
		switch {
		case is(err, libvirt.ErrNoStoragePool):
			if sp, err = definePool(l, cp); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("pool %s: %w", cp.Name, err)
		case formatUUID(sp.UUID) != cp.UUID:
			return hint.Add(fmt.Errorf("pool %s: a storage pool of that name is there already, and not made by Tenks for cluster %q", cp.Name, clusterName),
				"choose another name for the cluster, or see to the pool: virsh pool-info %s", cp.Name)
		}
		return startPool(l, sp)
	})
}

func definePool(l *libvirt.Libvirt, cp cluster.Pool) (libvirt.StoragePool, error) {
	def := libvirtxml.StoragePool{
		Type: "dir", Name: cp.Name, UUID: cp.UUID,
		Target: &libvirtxml.StoragePoolTarget{Path: volumePath(imagesDir, cp.Name)},
	}
	text, err := def.Marshal()
	if err != nil {
		return libvirt.StoragePool{}, err
	}
	sp, err := l.StoragePoolDefineXML(text, 0)
	if err != nil {
		return sp, fmt.Errorf("pool %s: %w", cp.Name, err)
	}
	return sp, nil
}

// startPool makes a pool's folder and starts it, now and with libvirtd.
func startPool(l *libvirt.Libvirt, sp libvirt.StoragePool) error {
	active, err := l.StoragePoolIsActive(sp)
	if err == nil && active == 0 {
		if err = l.StoragePoolBuild(sp, libvirt.StoragePoolBuildNew); err == nil {
			err = l.StoragePoolCreate(sp, libvirt.StoragePoolCreateNormal)
		}
	}
	if err == nil {
		err = l.StoragePoolSetAutostart(sp, 1)
	}
	if err != nil {
		return fmt.Errorf("pool %s: %w", sp.Name, err)
	}
	return nil
}

// DeletePool implements [provider.Storage].
func (p *Provider) DeletePool(ctx context.Context, _ string, cp cluster.Pool) error {
	return p.work.do(ctx, func(l *libvirt.Libvirt) error {
		sweepSelfTests(l) // the last to go takes what killed ones have left
		sp, err := l.StoragePoolLookupByName(cp.Name)
		if is(err, libvirt.ErrNoStoragePool) || err == nil && formatUUID(sp.UUID) != cp.UUID {
			return nil // a stranger's is none of our business
		}
		if err != nil {
			return fmt.Errorf("pool %s: %w", cp.Name, err)
		}
		if err := startPool(l, sp); err != nil { // to see what is in it
			return err
		}
		if err := emptyPool(l, sp); err != nil {
			return err
		}
		for _, step := range []func() error{
			func() error { return l.StoragePoolDestroy(sp) },
			func() error { return l.StoragePoolDelete(sp, libvirt.StoragePoolDeleteNormal) }, // rmdir
			func() error { return l.StoragePoolUndefine(sp) },
		} {
			if err := step(); err != nil {
				return fmt.Errorf("pool %s: %w", cp.Name, err)
			}
		}
		return nil
	})
}

// emptyPool returns an error that names what is in the pool's folder.
func emptyPool(l *libvirt.Libvirt, sp libvirt.StoragePool) error {
	if err := l.StoragePoolRefresh(sp, 0); err != nil {
		return fmt.Errorf("pool %s: %w", sp.Name, err)
	}
	vols, _, err := l.StoragePoolListAllVolumes(sp, 1, 0)
	if err != nil {
		return fmt.Errorf("pool %s: %w", sp.Name, err)
	}
	if len(vols) == 0 {
		return nil
	}
	var names []string
	for _, v := range vols {
		if len(names) == 3 {
			names = append(names, "…")
			break
		}
		names = append(names, v.Name)
	}
	return hint.Add(fmt.Errorf("pool %s: %d files are in it that are not Tenks': %s", sp.Name, len(vols), strings.Join(names, ", ")),
		"move or delete them: virsh vol-list %s", sp.Name)
}

// ownPool is the cluster's pool, found and checked.
type ownPool struct {
	libvirt.StoragePool
	path   string
	active bool
}

// openPool finds the cluster's pool. ok is false if there is none of ours.
func openPool(l *libvirt.Libvirt, clusterName string) (o ownPool, ok bool, err error) {
	name := cluster.PoolName(clusterName)
	sp, err := l.StoragePoolLookupByName(name)
	if is(err, libvirt.ErrNoStoragePool) || err == nil && formatUUID(sp.UUID) != cluster.PoolUUID(clusterName) {
		return ownPool{}, false, nil
	}
	if err != nil {
		return ownPool{}, false, fmt.Errorf("pool %s: %w", name, err)
	}
	text, err := l.StoragePoolGetXMLDesc(sp, 0)
	if err != nil {
		return ownPool{}, false, fmt.Errorf("pool %s: %w", name, err)
	}
	tree, err := parseXML(text)
	if err != nil {
		return ownPool{}, false, fmt.Errorf("pool %s: %w", name, err)
	}
	active, err := l.StoragePoolIsActive(sp)
	if err != nil {
		return ownPool{}, false, fmt.Errorf("pool %s: %w", name, err)
	}
	return ownPool{sp, tree.at("target", "path").text(), active == 1}, true, nil
}

// needPool finds the pool that the volumes of a node need.
func needPool(l *libvirt.Libvirt, clusterName string, n cluster.Node) (ownPool, error) {
	if len(n.Volumes) == 0 {
		o, _, err := openPool(l, clusterName)
		return o, err
	}
	for _, v := range n.Volumes {
		if v.Pool != cluster.PoolName(clusterName) {
			return ownPool{}, fmt.Errorf("node %s: volume %s: pool %q is not the cluster's", n.Name, v.Name, v.Pool)
		}
	}
	o, ok, err := openPool(l, clusterName)
	if err == nil && !ok || err == nil && !o.active {
		err = hint.Add(fmt.Errorf("node %s: storage pool %s is not there or not active", n.Name, cluster.PoolName(clusterName)), "run: tenks apply")
	}
	return o, err
}

// ensureVolume makes a volume, or makes it as big as it must be. dom is the
// domain that it belongs to if that is running.
func ensureVolume(l *libvirt.Libvirt, o ownPool, v cluster.Volume, running *found) error {
	vol, err := l.StorageVolLookupByName(o.StoragePool, v.Name)
	if is(err, libvirt.ErrNoStorageVol) {
		if vol, err = createVolume(l, o, v); err == nil && vol.Name != "" {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	_, capacity, _, err := l.StorageVolGetInfo(vol)
	if err != nil {
		// Its file is gone behind libvirt's back.
		if err = l.StoragePoolRefresh(o.StoragePool, 0); err == nil {
			_, err = createVolume(l, o, v)
		}
	} else if capacity < uint64(v.Size) {
		err = growVolume(l, vol, v, running)
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return nil
}

// createVolume makes a sparse volume. If a file of that name is there that
// libvirt did not know of, it finds it and returns that.
func createVolume(l *libvirt.Libvirt, o ownPool, v cluster.Volume) (libvirt.StorageVol, error) {
	var b strings.Builder
	b.WriteString("<volume><name>")
	_ = xml.EscapeText(&b, []byte(v.Name))
	fmt.Fprintf(&b, "</name><capacity unit='bytes'>%d</capacity><allocation>0</allocation>"+
		"<target><format type='qcow2'/></target></volume>", v.Size)
	vol, err := l.StorageVolCreateXML(o.StoragePool, b.String(), 0)
	if err == nil {
		return vol, nil
	}
	if l.StoragePoolRefresh(o.StoragePool, 0) == nil {
		if there, lookupErr := l.StorageVolLookupByName(o.StoragePool, v.Name); lookupErr == nil {
			return there, nil
		}
	}
	return libvirt.StorageVol{}, err
}

// growVolume makes a volume bigger. A running guest has its file locked, and
// QEMU itself must do it; the guest sees a bigger disk.
func growVolume(l *libvirt.Libvirt, vol libvirt.StorageVol, v cluster.Volume, running *found) error {
	if running != nil {
		path, err := l.StorageVolGetPath(vol)
		if err != nil {
			return err
		}
		err = l.DomainBlockResize(running.dom, path, uint64(v.Size), libvirt.DomainBlockResizeBytes)
		if err == nil || !is(err, libvirt.ErrInvalidArg) && !is(err, libvirt.ErrOperationInvalid) {
			return err
		}
		// The running guest does not have this disk, or is off by now.
	}
	return l.StorageVolResize(vol, uint64(v.Size), 0)
}

// deleteVolume deletes a volume; one that is not there is no error.
func deleteVolume(l *libvirt.Libvirt, o ownPool, name string) error {
	vol, err := l.StorageVolLookupByName(o.StoragePool, name)
	if err == nil {
		err = l.StorageVolDelete(vol, 0)
	}
	if err == nil || is(err, libvirt.ErrNoStorageVol) {
		return nil
	}
	// Its file may be gone behind libvirt's back.
	if l.StoragePoolRefresh(o.StoragePool, 0) == nil {
		if _, again := l.StorageVolLookupByName(o.StoragePool, name); is(again, libvirt.ErrNoStorageVol) {
			return nil
		}
	}
	return fmt.Errorf("volume %s: %w", name, err)
}
