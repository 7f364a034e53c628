// Package bmc is the process that gives a cluster's nodes on one hypervisor
// their BMCs: it reads the list of BMCs, listens on their addresses and hands
// packets to the protocols. It knows machines, not what they are made of.
//
// [Serve] is the process, [Supervise] its parent where there is no systemd, and
// [Control] talks to it. Package bmc/deploy writes the list and starts them.
package bmc

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

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

// Endpoint is where the BMC listens: "127.64.0.1:623".
func (e Entry) Endpoint() (netip.AddrPort, error) {
	a, err := netip.ParseAddr(e.Address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not an IP address", e.Address)
	}
	if e.Port < 1 || e.Port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("%d is not a UDP port", e.Port)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(e.Port)), nil
}

// Names in a cluster's folder on a hypervisor.
const (
	ListFile     = "bmcs.json"    // a List, with passwords
	PasswordFile = "bmc-password" // the password and a newline, for ipmitool -f
	MemoryDir    = "memory"       // a machine.Memory per node
	SocketFile   = "bmc.sock"     // see Control
	LogFile      = "bmc.log"      // of Supervise; the log before it is LogFile + OldSuffix
	PIDFile      = "bmc.pid"      // see Holder
	BinaryFile   = "tenks"        // what the processes are made of
	OldSuffix    = ".1"
)

// Encode returns the list as its file has it.
func (l List) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(l, "", " ")
	return append(text, '\n'), err
}

// Hash identifies a list by the text of its file.
func Hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// ReadList reads the list in a cluster's folder. Errors wrap [fs.ErrNotExist] if
// there is none.
func ReadList(folder string) (List, error) {
	l, _, err := readList(folder)
	return l, err
}

func readList(folder string) (List, string, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return List{}, "", fmt.Errorf("list of BMCs: %w", err)
	}
	defer func() { _ = root.Close() }()
	text, err := root.ReadFile(ListFile)
	if err != nil {
		return List{}, "", fmt.Errorf("list of BMCs in %s: %w", folder, err)
	}
	l, err := ParseList(text)
	if err != nil {
		return List{}, "", fmt.Errorf("%s: %w", filepath.Join(folder, ListFile), err)
	}
	return l, Hash(text), nil
}

// ParseList reads a list that [List.Encode] has written. Errors quote nothing
// of it, because it holds passwords.
func ParseList(text []byte) (List, error) {
	var l List
	if err := json.Unmarshal(text, &l); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return List{}, fmt.Errorf("not JSON at byte %d", syntax.Offset)
		}
		return List{}, errors.New("not a list of BMCs")
	}
	seen := make(map[string]bool, len(l.BMCs))
	for _, e := range l.BMCs {
		switch {
		case e.Node == "" || !filepath.IsLocal(e.Node) || filepath.Base(e.Node) != e.Node:
			return List{}, fmt.Errorf("%q is not the name of a node", e.Node)
		case seen[e.Node]:
			return List{}, fmt.Errorf("node %s has two BMCs", e.Node)
		}
		seen[e.Node] = true
	}
	return l, nil
}

// byNode orders entries.
func byNode(a, b Entry) int { return cmp.Compare(a.Node, b.Node) }

// missing tells whether err says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
