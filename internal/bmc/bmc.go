// Package bmc is the process that gives a cluster's nodes on one hypervisor
// their BMCs: it reads the list of BMCs, listens on their addresses and hands
// packets to the protocols. It knows machines, not what they are made of.
package bmc

// List is the file that tells the process what to serve; bmc/deploy writes it.
type List struct {
	Cluster       string  `json:"cluster"`
	LibvirtSocket string  `json:"libvirt_socket,omitempty"`
	BMCs          []Entry `json:"bmcs"`
}

// Entry is one BMC.
type Entry struct {
	Node     string `json:"node"`
	UUID     string `json:"uuid"`
	Serial   string `json:"serial,omitempty"`
	Provider string `json:"provider"`
	Address  string `json:"address"`
	Port     int    `json:"port"`
	Username string `json:"username"`
	Password string `json:"password"`
}
