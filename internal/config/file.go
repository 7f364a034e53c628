package config

import "github.com/tenks/tenks/internal/cluster"

// File is a cluster file: what was asked for, checked, with all defaults filled in.
type File struct {
	Path             string
	Cluster          string
	PhysicalNetworks []PhysicalNetwork // in the order of the file
	NodeTypes        []NodeType        // in the order of the file
	Specs            []Spec
	BMC              BMC
	Ironic           *Ironic // nil: no spec is enrolled
}

// PhysicalNetwork is an entry of physical_networks.
type PhysicalNetwork struct {
	Name   string
	Uplink string // an existing NIC or bridge on each hypervisor; empty: isolated
}

// NodeType is an entry of node_types.
type NodeType struct {
	Name     string
	Provider string // cluster.Libvirt, cluster.Synthetic
	VCPUs    int
	MemoryMB int     // mebibytes
	Volumes  []int64 // sizes in bytes
	Networks []string
	BootMode string // cluster.BootBIOS, cluster.BootUEFI
	Driver   string // Ironic hardware type; "ipmi"
}

// Spec is an entry of specs: some nodes of one type.
type Spec struct {
	Name       string // unique in the file; default: the type
	Type       string
	Count      int
	NamePrefix string       // default: "<cluster>-"; the node's number follows
	Ironic     *IronicNodes // nil: not enrolled
}

// IronicNodes is how the nodes of a spec are enrolled.
type IronicNodes struct {
	ResourceClass string
	Traits        []string
	Properties    map[string]string
	Capabilities  map[string]string
	Interfaces    map[string]string // "deploy": "ramdisk"
}

// BMC is how BMCs are reached. Either Pool is set, or Address and the ports.
type BMC struct {
	Pool      string // CIDR inside 127.0.0.0/8: an address per node, port 623
	Address   string // one address for all nodes
	FirstPort int    // first and last UDP port, inclusive
	LastPort  int
	Username  string
	Password  cluster.Secret // empty: a random one
}

// Ironic is the bare metal service and what all enrolments share.
type Ironic struct {
	Cloud         string // name in clouds.yaml; empty: OS_CLOUD, or the other OS_* variables
	DeployKernel  string
	DeployRamdisk string
}
