package libvirt

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/provider"
)

// Observe implements [provider.Provider]. It makes one call for the list of
// domains, one for each domain and one for each volume of the cluster.
func (p *Provider) Observe(ctx context.Context, clusterName string) (provider.Found, error) {
	var out provider.Found
	err := p.query.do(ctx, func(l *libvirt.Libvirt) error {
		out = provider.Found{}
		volumes, err := observePools(l, clusterName, &out)
		if err != nil {
			return err
		}
		doms, _, err := l.ConnectListAllDomains(1, 0)
		if err != nil {
			return fmt.Errorf("list of domains: %w", err)
		}
		for _, dom := range doms {
			f, err := read(l, dom, clusterName)
			if libvirt.IsNotFound(err) {
				continue // gone since
			}
			if err != nil {
				return fmt.Errorf("domain %s: %w", dom.Name, err)
			}
			if f.ours {
				out.Nodes = append(out.Nodes, observedNode(f, volumes))
			}
			out.Strangers = append(out.Strangers, strangers(f)...)
		}
		return nil
	})
	slices.SortFunc(out.Nodes, func(a, b cluster.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, err
}

// poolVolumes are the volumes of the cluster's pool; known is false if it is not active.
type poolVolumes struct {
	path  string
	known bool
	size  map[string]int64
}

// observePools fills in pools, and returns the volumes of ours.
func observePools(l *libvirt.Libvirt, clusterName string, out *provider.Found) (poolVolumes, error) {
	pv := poolVolumes{known: true, size: map[string]int64{}}
	all, _, err := l.ConnectListAllStoragePools(1, 0)
	if err != nil {
		return pv, fmt.Errorf("list of storage pools: %w", err)
	}
	for _, sp := range all {
		if formatUUID(sp.UUID) == cluster.PoolUUID(clusterName) && sp.Name == cluster.PoolName(clusterName) {
			continue
		}
		owner := "not made by Tenks"
		if c, ok := strings.CutPrefix(sp.Name, cluster.PoolName("")); ok && formatUUID(sp.UUID) == cluster.PoolUUID(c) {
			owner = fmt.Sprintf("cluster %q", c)
		}
		out.Strangers = append(out.Strangers, cluster.Stranger{Kind: cluster.StrangerPool, Name: sp.Name, Owner: owner})
	}
	own, ok, err := openPool(l, clusterName)
	if err != nil || !ok {
		return pv, err
	}
	out.Pools = append(out.Pools, cluster.Pool{Name: own.Name, UUID: formatUUID(own.UUID), Active: own.active})
	pv.path, pv.known = own.path, own.active
	if !own.active {
		return pv, nil
	}
	vols, _, err := l.StoragePoolListAllVolumes(own.StoragePool, 1, 0)
	if err != nil {
		return pv, fmt.Errorf("pool %s: %w", own.Name, err)
	}
	for _, v := range vols {
		_, capacity, _, err := l.StorageVolGetInfo(v)
		if err == nil {
			pv.size[v.Name] = int64(capacity)
			continue
		}
		var answered libvirt.Error
		if !asLibvirt(err, &answered) {
			return pv, err // the connection, not the volume
		}
		// Its file is gone: so is the volume.
	}
	return pv, nil
}

// observedNode is a domain of ours as a node: as it is, but for what only its mark knows.
func observedNode(f found, pv poolVolumes) cluster.Node {
	asked := f.mark.Node
	n := cluster.Node{
		Name: f.dom.Name, Provider: cluster.Libvirt, Spec: asked.Spec, Type: asked.Type,
		UUID: formatUUID(f.dom.UUID), Serial: serial(f.xml, asked.Serial),
		VCPUs: vcpus(f.xml), MemoryMB: memoryMB(f.xml), BootMode: bootMode(f.xml),
		Power: cluster.PowerOff,
	}
	if f.dom.ID >= 0 {
		n.Power = cluster.PowerOn // running, or paused: its power is on
	}
	for _, v := range asked.Volumes {
		if !attached(f.xml, pv, v.Name) {
			continue
		}
		if size, there := pv.size[v.Name]; there {
			n.Volumes = append(n.Volumes, cluster.Volume{Name: v.Name, Pool: v.Pool, Size: size})
		} else if !pv.known {
			n.Volumes = append(n.Volumes, v) // unknown is not absent
		}
	}
	for _, v := range f.mark.Removing {
		if size, there := pv.size[v.Name]; there {
			n.Volumes = append(n.Volumes, cluster.Volume{Name: v.Name, Pool: v.Pool, Size: size})
		}
	}
	for _, port := range asked.Ports {
		if e := findNIC(f.xml, port); e != nil {
			n.Ports = append(n.Ports, cluster.Port{MAC: mac(e), Network: port.Network, Tap: e.at("target").attr("dev")})
		}
	}
	return n
}

// strangers are the names and addresses that a domain takes.
func strangers(f found) []cluster.Stranger {
	var s []cluster.Stranger
	if !f.ours {
		s = append(s,
			cluster.Stranger{Kind: cluster.StrangerDomain, Name: f.dom.Name, Owner: f.who},
			cluster.Stranger{Kind: cluster.StrangerUUID, Name: formatUUID(f.dom.UUID), Owner: f.who})
	}
	for _, e := range f.xml.at("devices").all("interface") {
		mine := slices.ContainsFunc(f.mark.Node.Ports, func(p cluster.Port) bool { return findNIC(f.xml, p) == e })
		if mine || mac(e) == "" {
			continue
		}
		owner := f.who
		if f.ours {
			owner = fmt.Sprintf("added to domain %q by hand", f.dom.Name)
		}
		s = append(s, cluster.Stranger{Kind: cluster.StrangerMAC, Name: mac(e), Owner: owner})
	}
	return s
}

// findNIC finds the interface that a port has become: by its MAC address or,
// if somebody changed that, by its tap.
func findNIC(domain *element, p cluster.Port) *element {
	nics := domain.at("devices").all("interface")
	for _, e := range nics {
		if mac(e) == strings.ToLower(p.MAC) {
			return e
		}
	}
	for _, e := range nics {
		if p.Tap != "" && e.at("target").attr("dev") == p.Tap {
			return e
		}
	}
	return nil
}

func mac(nic *element) string { return strings.ToLower(nic.at("mac").attr("address")) }

// attached tells whether a volume of our pool is a disk of the domain. If the
// pool's path is not known, names decide.
func attached(domain *element, pv poolVolumes, name string) bool {
	return findDisk(domain, pv.path, name) != nil
}

func findDisk(domain *element, poolPath, name string) *element {
	for _, e := range domain.at("devices").all("disk") {
		file := e.at("source").attr("file")
		if file != "" && path.Base(file) == name && (poolPath == "" || file == volumePath(poolPath, name)) {
			return e
		}
	}
	return nil
}

func serial(domain *element, asked string) string {
	for _, si := range domain.all("sysinfo") {
		for _, e := range si.at("system").all("entry") {
			if e.attr("name") == "serial" {
				return e.text()
			}
		}
	}
	return asked
}

func vcpus(domain *element) int {
	v := domain.at("vcpu")
	if n, err := strconv.Atoi(v.attr("current")); err == nil {
		return n
	}
	n, _ := strconv.Atoi(v.text()) // libvirt always writes a number
	return n
}

// memoryMB is what the guest gets, in mebibytes.
func memoryMB(domain *element) int {
	for _, name := range []string{"currentMemory", "memory"} {
		e := domain.at(name)
		n, err := strconv.ParseInt(e.text(), 10, 64)
		if err != nil {
			continue
		}
		switch e.attr("unit") { // libvirt writes KiB; our own definitions have MiB
		case "MiB":
			return int(n)
		default:
			return int(n / 1024)
		}
	}
	return 0
}
