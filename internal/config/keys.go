package config

import "regexp"

// Limits that this version of Tenks knows of.
const (
	// maxNodes is the most libvirt nodes in a cluster.
	maxNodes = 16_000
	// maxNodeName is the longest name of a node: a DNS label (RFC 1035 §2.3.4).
	maxNodeName = 63
	// maxTraits is the most traits of a node in Ironic.
	maxTraits = 50
	// sectorSize is the unit of a disk's size; QEMU rounds up to it.
	sectorSize = 512
)

// defaultUsername is the user of BMCs if the file names none.
const defaultUsername = "admin"

const (
	kib int64 = 1 << 10
	mib int64 = 1 << 20
	tib int64 = 1 << 40
)

// The kinds of texts.
var (
	clusterNameKind = &kind{
		form: formText, what: "a cluster name", pattern: full(`[a-z0-9][a-z0-9-]{0,39}`),
		rule: "use at most 40 small letters, digits and hyphens, and no hyphen at the beginning",
	}
	plainNameKind = &kind{
		form: formText, what: "a name", pattern: full(`[A-Za-z0-9._-]{1,64}`), // 64: Ironic's physical_network
		rule: "use at most 64 letters, digits, dots, hyphens and underscores",
	}
	// A name of digits alone would be a domain's ID to virsh.
	namePrefixKind = &kind{
		form: formText, what: "a prefix for node names", pattern: full(`(?:[a-z]|[0-9]+[a-z-])[a-z0-9-]*`),
		rule: "use small letters, digits and hyphens, with a letter or a digit at the beginning and not digits alone",
	}
	// What the kernel takes for a link's name (dev_valid_name).
	linkNameKind = &kind{
		form: formText, what: "the name of a link", pattern: full(`[!--0-9;-~][!-.0-9;-~]{0,14}`),
		rule: `name a NIC or a bridge of the hypervisor, as "ip link" shows it: at most 15 characters, no slash, colon or blank`,
	}
	resourceClassKind = &kind{
		form: formText, what: "a resource class", pattern: full(`[A-Za-z0-9][A-Za-z0-9._-]{0,79}`),
		rule: "use at most 80 letters, digits, dots, hyphens and underscores, with a letter or a digit at the beginning",
	}
	traitKind = &kind{
		form: formText, what: "a trait", pattern: full(`[A-Z][A-Z0-9_]{0,254}`),
		rule: "write CUSTOM_ and capital letters, digits and underscores, or a standard trait such as HW_CPU_X86_VMX",
	}
	capabilityKind = &kind{
		form: formScalar, what: "a capability", pattern: full(`[^:,\s](?:[^:,]*[^:,\s])?`),
		rule: "leave out colons and commas: Ironic separates capabilities by them",
	}
	propertyNameKind = &kind{
		form: formText, what: "the name of a property", pattern: full(`\S+`),
		rule: "leave out blanks",
	}
	interfaceNameKind = &kind{
		form: formText, what: "the name of an interface", pattern: full(`[A-Za-z0-9._-]+`),
		rule: "use letters, digits, dots, hyphens and underscores, as in redfish-virtual-media",
	}
	imageKind = &kind{
		form: formText, what: "the place of an image", pattern: full(`\S+`),
		rule: "write an http, https or file URL, or the UUID of an image",
	}
	cloudNameKind = &kind{
		form: formText, what: "the name of a cloud", pattern: full(`\S(?:.*\S)?`),
		rule: "use a name of clouds.yaml",
	}
	poolKind = &kind{
		form: formText, what: "a range of addresses", pattern: full(`[0-9.]+/[0-9]{1,2}`),
		rule: "write a network inside 127.0.0.0/8, such as 127.64.0.0/16",
	}
	ipAddressKind = &kind{
		form: formText, what: "an IP address", pattern: full(`[0-9A-Fa-f.:]+`),
		rule: "write an address of this machine, such as 192.0.2.1",
	}
	portRangeKind = &kind{
		form: formText, what: "a range of ports", pattern: full(`[0-9]{1,5}-[0-9]{1,5}`),
		rule: "write the first and the last port, such as 6230-6299",
	}
	// User names have 16 bytes (IPMI v2.0 §22.28), passwords 20 (§22.30).
	userNameKind = &kind{
		form: formText, what: "a user name of a BMC", pattern: full(`[!-~]{1,16}`),
		rule: "use 1 to 16 printable ASCII characters without blanks: that is all IPMI has room for",
	}
	passwordKind = &kind{
		form: formText, what: "a password of a BMC", pattern: full(`[ -~]{1,20}`), secret: true,
		rule: "use 1 to 20 printable ASCII characters: that is all IPMI has room for",
	}
)

// sizePattern is a number and its unit, see parseSize.
var sizePattern = regexp.MustCompile(`^([0-9]{1,15}(?:\.[0-9]{1,15})?)(KiB|MiB|GiB|TiB|kB|MB|GB|TB)$`)

// The kinds of numbers and sizes.
var (
	countKind      = &kind{form: formNumber, what: "a whole number", most: 100_000}
	vcpusKind      = &kind{form: formNumber, what: "a whole number", least: 1, most: 255}
	memorySizeKind = &kind{form: formSize, what: "a size", least: mib, most: 16 * tib, multiple: mib}
	volumeSizeKind = &kind{form: formSize, what: "a size", least: mib, most: 64 * tib, multiple: sectorSize}
)

// The table of keys, from the leaves to the root: this is all that a file may say.
var (
	physicalNetworkKeys = []key{
		{name: "uplink", kind: linkNameKind, doc: "An existing NIC or bridge of the hypervisor that the network is joined to; without one it is isolated."},
	}

	volumeKeys = []key{
		{name: "size", kind: volumeSizeKind, required: true, doc: "Size of the blank disk, with its unit: 20GiB."},
	}

	nodeTypeKeys = []key{
		{name: "provider", kind: choice("a provider", "libvirt", "synthetic"), def: "libvirt", doc: "What the nodes are: libvirt virtual machines, or synthetic ones that have a BMC and a power state and never boot."},
		{name: "vcpus", kind: vcpusKind, def: "1", doc: "Number of virtual CPUs."},
		{name: "memory", kind: memorySizeKind, required: true, doc: "Memory, with its unit: 3GiB. A whole number of MiB."},
		{name: "volumes", kind: &kind{form: formList, what: "a list of volumes", empty: true, each: &kind{form: formMapping, what: "a volume", keys: volumeKeys}}, doc: "Blank disks, in order."},
		{name: "physical_networks", kind: &kind{form: formList, what: "a list of physical networks", empty: true, each: plainNameKind}, doc: "Physical networks that the nodes are connected to, one NIC each, in order."},
		{name: "boot_mode", kind: choice("a boot mode", "bios", "uefi"), def: "uefi", doc: "Firmware that the nodes boot with."},
		{name: "driver", kind: choice("a driver", "ipmi"), def: "ipmi", doc: "Ironic hardware type, and so the protocol of the BMCs."},
	}

	nodeIronicKeys = append([]key{
		{name: "resource_class", kind: resourceClassKind, required: true, doc: "Resource class of the nodes, which flavors ask for."},
		{name: "traits", kind: &kind{form: formList, what: "a list of traits", empty: true, each: traitKind}, doc: "Traits of the nodes."},
		{name: "properties", kind: &kind{form: formNames, what: "a mapping of properties", empty: true, name: propertyNameKind, each: &kind{form: formScalar, what: "the value of a property"}}, doc: "Properties of the nodes, beside those that Tenks knows itself."},
		{name: "capabilities", kind: &kind{form: formNames, what: "a mapping of capabilities", empty: true, name: capabilityKind, each: capabilityKind}, doc: "Capabilities of the nodes, beside boot_mode."},
	}, interfaceKeys(interfaces)...)

	specKeys = []key{
		{name: "type", kind: plainNameKind, required: true, doc: "Type of the nodes: a name out of node_types."},
		{name: "count", kind: countKind, required: true, doc: "Number of nodes; may be 0."},
		{name: "name", kind: plainNameKind, doc: "Name of the spec, unique in the file; default: the type."},
		{name: "name_prefix", kind: namePrefixKind, doc: "Beginning of the nodes' names; a number follows. Default: the cluster's name and a hyphen."},
		{name: "ironic", kind: &kind{form: formMapping, what: "a mapping of keys", keys: nodeIronicKeys}, doc: "How the nodes are enrolled in Ironic; without it they are not."},
	}

	bmcKeys = []key{
		{name: "addresses", kind: poolKind, without: []string{"address", "ports"}, doc: "Range inside 127.0.0.0/8 that every BMC has an address of its own out of, on port 623. Default: a /16 derived from the cluster's name."},
		{name: "address", kind: ipAddressKind, with: []string{"ports"}, doc: "One address for all BMCs, which differ by their ports."},
		{name: "ports", kind: portRangeKind, with: []string{"address"}, doc: "First and last UDP port for BMCs that share one address: 6230-6299."},
		{name: "username", kind: userNameKind, def: defaultUsername, doc: "User of the BMCs."},
		{name: "password", kind: passwordKind, doc: "Password of the BMCs; default: a random one."},
	}

	ironicKeys = []key{
		{name: "cloud", kind: cloudNameKind, doc: "Name of the cloud in clouds.yaml; default: OS_CLOUD, or the other OS_* variables."},
		{name: "deploy_kernel", kind: imageKind, with: []string{"deploy_ramdisk"}, doc: "Kernel of the deploy agent: a URL, or the UUID of an image; default: what Ironic is configured with."},
		{name: "deploy_ramdisk", kind: imageKind, with: []string{"deploy_kernel"}, doc: "Ramdisk of the deploy agent: a URL, or the UUID of an image; default: what Ironic is configured with."},
	}

	fileKind = &kind{form: formMapping, what: "a mapping of keys", keys: []key{
		{name: "cluster", kind: clusterNameKind, required: true, doc: "Name of the cluster. Everything that Tenks makes is marked with it."},
		{name: "physical_networks", doc: "Physical networks, by name: a bridge on each hypervisor that needs it.", kind: &kind{
			form: formNames, what: "a mapping of physical networks", empty: true, name: plainNameKind,
			each: &kind{form: formMapping, what: "a mapping of keys", keys: physicalNetworkKeys},
		}},
		{name: "node_types", required: true, doc: "Types of nodes, by name.", kind: &kind{
			form: formNames, what: "a mapping of node types", name: plainNameKind,
			each: &kind{form: formMapping, what: "a mapping of keys", keys: nodeTypeKeys},
		}},
		{name: "specs", required: true, doc: "How many nodes of which type there are.", kind: &kind{
			form: formList, what: "a list of specs",
			each: &kind{form: formMapping, what: "a spec", keys: specKeys},
		}},
		{name: "bmc", kind: &kind{form: formMapping, what: "a mapping of keys", keys: bmcKeys}, doc: "How the BMCs of the nodes are reached."},
		{name: "ironic", kind: &kind{form: formMapping, what: "a mapping of keys", keys: ironicKeys}, doc: "The bare metal service that nodes are enrolled in."},
	}}
)

// interfaces are the hardware interfaces of a node in Ironic.
var interfaces = []string{
	"bios", "boot", "console", "deploy", "inspect", "management",
	"network", "power", "raid", "rescue", "storage", "vendor",
}

func interfaceKeys(of []string) []key {
	var keys []key
	for _, name := range of {
		keys = append(keys, key{
			name: name + "_interface", kind: interfaceNameKind,
			doc: "Ironic's " + name + " interface; default: Ironic's own choice.",
		})
	}
	return keys
}

// laterKeys are words that other tools' files or later versions know.
var laterKeys = []string{
	"automated_clean", "bridge", "bus", "checksum", "conductor_group", "connectors", "console_log", "cpu_mode",
	"cpu_model", "dhcp", "firmware_interface", "flavors", "format", "hypervisors", "image", "lessee", "mac", "machine", "mtu", "nat",
	"names", "nic_model", "nova", "nova_flavors", "overlay", "owner", "path", "pdu", "physnet_mappings", "placement", "pool",
	"protocols", "redfish", "secure_boot", "serial", "shard", "snmp", "subnet", "target_state", "targets", "tls",
	"tpm", "vlan",
}

// renamedKeys are keys of the Ansible Tenks, and what they are called here.
var renamedKeys = map[string]string{
	"capacity":                "write size, with its unit: 20GiB",
	"default_boot_mode":       "write boot_mode in the node type",
	"deploy_kernel_location":  "write deploy_kernel",
	"deploy_ramdisk_location": "write deploy_ramdisk",
	"ironic_config":           "write ironic",
	"ironic_driver":           "write driver",
	"ipmi_address":            "write address in section bmc",
	"ipmi_password":           "write password in section bmc",
	"ipmi_port":               "write address and ports in section bmc",
	"ipmi_port_range_start":   "write address and ports in section bmc",
	"ipmi_port_range_end":     "write address and ports in section bmc",
	"ipmi_username":           "write username in section bmc",
	"memory_mb":               "write memory, with its unit: 3GiB",
	"node_name_prefix":        "write name_prefix",
}
