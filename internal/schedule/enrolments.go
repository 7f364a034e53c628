package schedule

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
)

// placeEnrolments enrols the nodes of the specs that ask for it. Each of their
// hypervisors remembers where, so that destroy needs no file.
func (p *placer) placeEnrolments() {
	if p.file.Ironic == nil {
		return
	}
	specs := map[string]config.Spec{}
	for _, s := range p.file.Specs {
		specs[s.Name] = s
	}
	bmcs := map[string]cluster.BMC{}
	for _, b := range p.want.BMCs {
		bmcs[b.Node] = b
	}
	on := map[string]bool{}
	for _, n := range p.want.Nodes {
		how := specs[n.Spec].Ironic
		if how == nil {
			continue
		}
		t, _ := p.nodeType(n.Type)
		on[n.Hypervisor] = true
		p.want.Enrolments = append(p.want.Enrolments, enrolment(n, bmcs[n.Name], t, *how, *p.file.Ironic))
	}
	for h := range on {
		if id := p.cloud(h); id != "" {
			p.want.Clouds = append(p.want.Clouds, cluster.Cloud{Hypervisor: h, ID: id})
		}
	}
}

// cloud is what a hypervisor with enrolled nodes remembers.
func (p *placer) cloud(hypervisor string) string {
	if p.options.Cloud != "" {
		return p.options.Cloud
	}
	for _, c := range p.found.Clouds {
		if c.Hypervisor == hypervisor {
			return c.ID
		}
	}
	return ""
}

func enrolment(n cluster.Node, b cluster.BMC, t config.NodeType, how config.IronicNodes, service config.Ironic) cluster.Enrolment {
	e := cluster.Enrolment{
		Node: n.Name, UUID: n.UUID, Driver: cmp.Or(t.Driver, "ipmi"),
		DriverInfo: map[string]string{
			"ipmi_address": b.Address, "ipmi_port": strconv.Itoa(b.Port), "ipmi_username": b.Username,
		},
		Password: b.Password, PasswordMark: cluster.PasswordMark(n.UUID, b.Password),
		ResourceClass: how.ResourceClass,
		Properties:    properties(n, how),
		Traits:        slices.Sorted(slices.Values(how.Traits)),
		Interfaces:    maps.Clone(how.Interfaces),
		State:         "available",
	}
	if service.DeployKernel != "" {
		e.DriverInfo["deploy_kernel"] = service.DeployKernel
	}
	if service.DeployRamdisk != "" {
		e.DriverInfo["deploy_ramdisk"] = service.DeployRamdisk
	}
	for _, port := range n.Ports {
		e.Ports = append(e.Ports, cluster.EnrolledPort{MAC: port.MAC, Network: port.Network, PXE: true})
	}
	slices.SortFunc(e.Ports, func(a, b cluster.EnrolledPort) int { return cmp.Compare(a.MAC, b.MAC) })
	return e
}

// properties are a node's properties in Ironic. Capabilities are one string,
// "boot_mode:uefi,iscsi_boot:true" (Ironic, "Flavor and image properties").
func properties(n cluster.Node, how config.IronicNodes) map[string]string {
	capabilities := map[string]string{"boot_mode": n.BootMode}
	maps.Copy(capabilities, how.Capabilities)
	var words []string
	for _, name := range slices.Sorted(maps.Keys(capabilities)) {
		words = append(words, name+":"+capabilities[name])
	}
	const gib = 1 << 30
	disk := int64(0)
	if len(n.Volumes) > 0 {
		disk = n.Volumes[0].Size / gib
	}
	props := map[string]string{
		"cpus": strconv.Itoa(n.VCPUs), "memory_mb": strconv.Itoa(n.MemoryMB), "local_gb": strconv.FormatInt(disk, 10),
		"cpu_arch": "x86_64", "capabilities": strings.Join(words, ","),
	}
	maps.Copy(props, how.Properties)
	return props
}
