package config

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// resolve fills a File from the values of a file, with the defaults that depend
// on other values. What is missing or wrong is zero: then the File is not used.
func resolve(path string, root *value) File {
	f := File{Path: path, Cluster: root.get("cluster").text}
	for _, e := range root.get("physical_networks").keys {
		f.PhysicalNetworks = append(f.PhysicalNetworks, PhysicalNetwork{Name: e.name, Uplink: e.value.get("uplink").text})
	}
	for _, e := range root.get("node_types").keys {
		f.NodeTypes = append(f.NodeTypes, nodeType(e))
	}
	for _, v := range root.get("specs").items {
		f.Specs = append(f.Specs, spec(f.Cluster, v))
	}
	f.BMC = bmc(f.Cluster, root.get("bmc"))

	v := root.get("ironic")
	enrolled := v.given
	for _, s := range f.Specs {
		enrolled = enrolled || s.Ironic != nil
	}
	if enrolled {
		f.Ironic = &Ironic{
			Cloud:         v.get("cloud").text,
			DeployKernel:  v.get("deploy_kernel").text,
			DeployRamdisk: v.get("deploy_ramdisk").text,
		}
	}
	return f
}

func nodeType(e entry) NodeType {
	t := NodeType{
		Name:     e.name,
		Provider: e.value.get("provider").text,
		VCPUs:    int(e.value.get("vcpus").number),
		MemoryMB: int(e.value.get("memory").number / mib),
		BootMode: e.value.get("boot_mode").text,
		Driver:   e.value.get("driver").text,
	}
	for _, v := range e.value.get("volumes").items {
		t.Volumes = append(t.Volumes, v.get("size").number)
	}
	for _, v := range e.value.get("physical_networks").items {
		t.Networks = append(t.Networks, v.text)
	}
	return t
}

func spec(clusterName string, v *value) Spec {
	s := Spec{
		Type:       v.get("type").text,
		Count:      int(v.get("count").number),
		Name:       v.get("type").text,
		NamePrefix: clusterName + "-",
	}
	if name := v.get("name"); name.given {
		s.Name = name.text
	}
	if prefix := v.get("name_prefix"); prefix.given {
		s.NamePrefix = prefix.text
	}
	if ironic := v.get("ironic"); ironic.given {
		s.Ironic = ironicNodes(ironic)
	}
	return s
}

func ironicNodes(v *value) *IronicNodes {
	n := &IronicNodes{
		ResourceClass: v.get("resource_class").text,
		Properties:    texts(v.get("properties")),
		Capabilities:  texts(v.get("capabilities")),
	}
	for _, t := range v.get("traits").items {
		n.Traits = append(n.Traits, t.text)
	}
	for _, name := range interfaces {
		if given := v.get(name + "_interface"); given.given {
			if n.Interfaces == nil {
				n.Interfaces = map[string]string{}
			}
			n.Interfaces[name] = given.text
		}
	}
	return n
}

// texts returns a mapping of texts; nil if it is empty.
func texts(v *value) map[string]string {
	if len(v.keys) == 0 {
		return nil
	}
	m := make(map[string]string, len(v.keys))
	for _, e := range v.keys {
		m[e.name] = e.value.text
	}
	return m
}

func bmc(clusterName string, v *value) BMC {
	b := BMC{
		Pool:     v.get("addresses").text,
		Address:  v.get("address").text,
		Username: v.get("username").text,
		Password: cluster.Secret(v.get("password").text),
	}
	if b.Username == "" {
		b.Username = defaultUsername // there is no section bmc
	}
	if a, err := netip.ParseAddr(b.Address); err == nil {
		b.Address = a.String() // one spelling of it
	}
	if first, last, ok := strings.Cut(v.get("ports").text, "-"); ok {
		b.FirstPort, _ = strconv.Atoi(first) // checked by kind and by checker.ports
		b.LastPort, _ = strconv.Atoi(last)
	}
	if b.Pool == "" && b.Address == "" {
		b.Pool = DefaultPool(clusterName)
	}
	return b
}

// DefaultPool is the pool of BMC addresses of a cluster whose file names none:
// 127.H.0.0/16, where H, in 100 to 227, is derived from the cluster's name. Two
// clusters on one hypervisor rarely have the same; the file can name another.
func DefaultPool(clusterName string) string {
	sum := sha256.Sum256([]byte("bmc pool\x00" + clusterName))
	return fmt.Sprintf("127.%d.0.0/16", 100+int(sum[0])%128)
}

// Capacity is how many nodes can have a BMC: the addresses in the pool without
// its first and last (but for pools of one or two), or the ports.
func (b BMC) Capacity() int {
	if b.Pool == "" {
		return b.LastPort - b.FirstPort + 1
	}
	p, err := netip.ParsePrefix(b.Pool)
	if err != nil || !p.Addr().Is4() {
		return 0
	}
	n := 1 << (32 - p.Bits())
	if n > 2 {
		n -= 2
	}
	return n
}
