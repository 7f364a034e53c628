// Package cluster has the nouns of Tenks: what a cluster is made of. A State
// describes a cluster either as it was found or as it is wanted; both are the
// same type, so that they can be compared.
//
// The package is pure: it opens nothing, waits for nothing and imports nothing
// of Tenks. Package schedule makes the wanted State, package observe the found
// one, package plan compares the two.
package cluster

// State is a cluster as it was found, or as it is wanted. Every list is sorted
// by its objects' keys (hypervisor, then name) when Tenks has made it.
type State struct {
	Cluster    string      `json:"cluster"`
	Unknown    []Unknown   `json:"unknown,omitempty"` // found only
	Pools      []Pool      `json:"pools,omitempty"`
	Networks   []Network   `json:"networks,omitempty"`
	Taps       []Tap       `json:"taps,omitempty"`
	Nodes      []Node      `json:"nodes,omitempty"`
	BMCs       []BMC       `json:"bmcs,omitempty"`
	Clouds     []Cloud     `json:"clouds,omitempty"`
	Enrolments []Enrolment `json:"enrolments,omitempty"`
	Strangers  []Stranger  `json:"strangers,omitempty"` // found only
}

// Unknown is a part of the world that did not answer. Its objects are neither
// there nor absent, and nothing is planned for them.
type Unknown struct {
	Hypervisor string `json:"hypervisor,omitempty"` // empty: the bare metal service
	Provider   string `json:"provider,omitempty"`   // empty: all of the hypervisor
	Cause      string `json:"cause"`
}

// String says what is unknown, and why: "hypervisor local, libvirt: no answer".
func (u Unknown) String() string {
	what := "Ironic"
	if u.Hypervisor != "" {
		what = "hypervisor " + u.Hypervisor
	}
	if u.Provider != "" {
		what += ", " + u.Provider
	}
	return what + ": " + u.Cause
}

// Stranger is an object that is not the cluster's but has a name or an address
// that the cluster might want.
type Stranger struct {
	Hypervisor string       `json:"hypervisor,omitempty"` // empty: in the bare metal service
	Kind       StrangerKind `json:"kind"`
	Name       string       `json:"name"`
	Owner      string       `json:"owner"` // in words: `cluster "ci"`, "not made by Tenks", "process 812 (ipmi_sim)"
}

// StrangerKind says which name space a [Stranger] occupies a name of.
type StrangerKind string

// The kinds of names that a stranger can occupy.
const (
	StrangerDomain StrangerKind = "domain"      // libvirt domain, by name
	StrangerUUID   StrangerKind = "domain UUID" // libvirt domain, by UUID
	StrangerPool   StrangerKind = "pool"        // libvirt storage pool, by name
	StrangerLink   StrangerKind = "link"        // network device, by name
	StrangerMAC    StrangerKind = "MAC"         // MAC address of somebody else's machine or Ironic port
	StrangerUDP    StrangerKind = "UDP address" // "127.64.0.1:623"; "0.0.0.0:623" takes the port of every address
	StrangerNode   StrangerKind = "Ironic node" // by name
)

// Pool is a libvirt storage pool of the cluster's own, a directory. Its UUID is
// derived from the cluster: that is how it is known to be ours.
type Pool struct {
	Name       string `json:"name"`
	Hypervisor string `json:"hypervisor"`
	UUID       string `json:"uuid"`
	Active     bool   `json:"active"` // wanted: true
}

// Network is a physical network on one hypervisor: a bridge of ours.
type Network struct {
	Name       string `json:"name"` // of the physical network
	Hypervisor string `json:"hypervisor"`
	Bridge     string `json:"bridge"`           // link name, at most 15 characters
	Uplink     string `json:"uplink,omitempty"` // a NIC or a bridge of the user's; empty: isolated
	// UplinkPort is the end of the veth pair in our bridge if Uplink is a
	// bridge; the name is wanted even if Uplink turns out to be a NIC.
	UplinkPort string `json:"uplink_port,omitempty"`
	// UplinkPeer is the end of that pair in the user's bridge.
	UplinkPeer string `json:"uplink_peer,omitempty"`
	Up         bool   `json:"up"` // wanted: true; found: all its links are there, joined and up
}

// Tap is the hypervisor's end of a node's port. It is persistent: it exists in
// its bridge while the node is off.
type Tap struct {
	Name       string `json:"name"` // link name, at most 15 characters
	Hypervisor string `json:"hypervisor"`
	Bridge     string `json:"bridge"` // found: "" if it is in none
	Node       string `json:"node"`
	Port       int    `json:"port"` // index of the port in the node
}

// Boot modes of a node.
const (
	BootBIOS = "bios"
	BootUEFI = "uefi"
)

// Names of the providers.
const (
	Libvirt   = "libvirt"
	Synthetic = "synthetic"
)

// Node is a machine.
type Node struct {
	Name       string   `json:"name"`
	Hypervisor string   `json:"hypervisor"`
	Provider   string   `json:"provider"` // Libvirt, Synthetic
	Spec       string   `json:"spec"`     // the spec of the file that the node belongs to
	Type       string   `json:"type"`
	UUID       string   `json:"uuid"` // also the SMBIOS UUID, and the node's UUID in Ironic
	Serial     string   `json:"serial"`
	VCPUs      int      `json:"vcpus"`
	MemoryMB   int      `json:"memory_mb"` // mebibytes, the unit of Ironic's memory_mb property
	BootMode   string   `json:"boot_mode"` // BootBIOS, BootUEFI
	Volumes    []Volume `json:"volumes,omitempty"`
	Ports      []Port   `json:"ports,omitempty"` // in NIC order
	Power      Power    `json:"power,omitempty"` // found only
}

// Power is what is known of a node's power.
type Power string

// Power states. The zero value says that nothing is known.
const (
	PowerUnknown Power = ""
	PowerOn      Power = "on"
	PowerOff     Power = "off"
)

// Volume is a disk of a node: a blank qcow2 image in the cluster's pool.
type Volume struct {
	Name string `json:"name"`
	Pool string `json:"pool,omitempty"` // empty for synthetic nodes
	Size int64  `json:"size"`           // bytes
}

// Port is a network interface of a node.
type Port struct {
	MAC     string `json:"mac"`           // lower case, with colons
	Network string `json:"network"`       // name of the physical network
	Tap     string `json:"tap,omitempty"` // name of the tap; empty for synthetic nodes
}

// BMC is the baseboard management controller of a node.
type BMC struct {
	Node       string `json:"node"`
	Hypervisor string `json:"hypervisor"`
	Provider   string `json:"provider"`
	UUID       string `json:"uuid"`    // of the node
	Address    string `json:"address"` // IP address that it listens on
	Port       int    `json:"port"`    // UDP port of IPMI
	Username   string `json:"username"`
	Password   Secret `json:"password"`
	Serving    bool   `json:"serving"` // wanted: true; found: the BMC process runs and listens there
}

// Cloud is the memory, kept on a hypervisor, of where the cluster's nodes are
// enrolled: destroy finds the bare metal service by it, without the file.
type Cloud struct {
	Hypervisor string `json:"hypervisor"`
	ID         string `json:"id"` // see enrol.Enroller
}

// Enrolment is a node in Ironic.
type Enrolment struct {
	Node          string            `json:"node"` // name of the node, here and in Ironic
	UUID          string            `json:"uuid"` // of the node, here and in Ironic
	Driver        string            `json:"driver"`
	DriverInfo    map[string]string `json:"driver_info,omitempty"` // without the password
	Password      Secret            `json:"password,omitempty"`    // of the BMC; wanted only
	PasswordMark  string            `json:"password_mark"`         // see PasswordMark
	ResourceClass string            `json:"resource_class"`
	Properties    map[string]string `json:"properties,omitempty"` // with "capabilities" as Ironic writes them
	Traits        []string          `json:"traits,omitempty"`     // sorted
	Interfaces    map[string]string `json:"interfaces,omitempty"` // "deploy": "direct"; only those asked for
	Ports         []EnrolledPort    `json:"ports,omitempty"`      // sorted by MAC
	State         string            `json:"state"`                // provision state; wanted: "available"
	LastError     string            `json:"last_error,omitempty"` // found only
}

// EnrolledPort is a port of a node in Ironic.
type EnrolledPort struct {
	MAC     string `json:"mac"`
	Network string `json:"physical_network"`
	PXE     bool   `json:"pxe_enabled"`
}
