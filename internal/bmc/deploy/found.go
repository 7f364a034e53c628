package deploy

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/bmc"
	"github.com/tenks/tenks/internal/cluster"
)

// Found is what there is of a cluster's BMCs on this host.
type Found struct {
	BMCs      []cluster.BMC
	Cloud     string             // remembered; "" if none is
	Strangers []cluster.Stranger // UDP addresses that others have
}

// Observe returns what there is. It works whatever state the process is in.
func (h *Host) Observe(ctx context.Context, clusterName string) (Found, error) {
	var found Found
	l, err := h.list(clusterName)
	if err != nil {
		return found, err
	}
	served := h.served(ctx, clusterName)
	ours := map[netip.AddrPort]bool{}
	for _, e := range l.BMCs {
		at, err := e.Endpoint()
		if err != nil {
			return found, fmt.Errorf("BMC of %s: %w", e.Node, err)
		}
		serving := served[e.Node] == at
		if serving {
			ours[at] = true
		}
		found.BMCs = append(found.BMCs, cluster.BMC{
			Node: e.Node, Provider: e.Provider, UUID: e.UUID, Address: e.Address, Port: e.Port,
			Username: e.Username, Password: cluster.Secret(e.Password), Serving: serving,
		})
	}
	for _, at := range served {
		ours[at] = true // also what is served still and not on the list any more
	}
	if found.Cloud, err = h.cloud(clusterName); err != nil {
		return found, err
	}
	found.Strangers, err = h.strangers(clusterName, ours)
	return found, err
}

// served is where the process listens, by node; nothing if it does not answer.
func (h *Host) served(ctx context.Context, clusterName string) map[string]netip.AddrPort {
	out := map[string]netip.AddrPort{}
	root, err := os.OpenRoot(h.folder(clusterName))
	if err != nil {
		return out
	}
	defer func() { _ = root.Close() }()
	if pid, err := bmc.Holder(root, bmc.RoleServe); err != nil || pid == 0 {
		return out
	}
	st, err := h.ask(ctx, root)
	if err != nil {
		return out
	}
	for _, b := range st.BMCs {
		if at, err := (bmc.Entry{Address: b.Address, Port: b.Port}).Endpoint(); err == nil && b.Listening {
			out[b.Node] = at
		}
	}
	return out
}

func (h *Host) cloud(clusterName string) (string, error) {
	path := filepath.Join(h.folder(clusterName), cloudFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var c cloudMemory
	if err := json.Unmarshal(text, &c); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return c.ID, nil
}

// strangers are the UDP addresses that are not ours: those of other clusters,
// whether their process runs or not, and those of all other programs.
func (h *Host) strangers(clusterName string, ours map[netip.AddrPort]bool) ([]cluster.Stranger, error) {
	var out []cluster.Stranger
	names, err := h.Clusters()
	if err != nil {
		return nil, err
	}
	known := map[netip.AddrPort]bool{}
	for _, name := range names {
		if name == clusterName {
			continue
		}
		l, err := h.list(name)
		if err != nil {
			h.log().Warn("another cluster's BMCs are not known", "cluster", name, "err", err)
			continue
		}
		for _, e := range l.BMCs {
			if at, err := e.Endpoint(); err == nil {
				known[at] = true
				out = append(out, cluster.Stranger{Kind: cluster.StrangerUDP, Name: at.String(), Owner: fmt.Sprintf("cluster %q", name)})
			}
		}
	}
	sockets, err := udpSockets()
	if err != nil {
		return nil, err
	}
	var owners map[string]string
	for _, s := range sockets {
		if ours[s.at] || known[s.at] {
			continue
		}
		if owners == nil {
			owners = socketOwners()
		}
		owner := owners[s.inode]
		if owner == "" {
			owner = "another program"
		}
		out = append(out, cluster.Stranger{Kind: cluster.StrangerUDP, Name: s.at.String(), Owner: owner})
	}
	return out, nil
}

// socket is a bound UDP socket.
type socket struct {
	at    netip.AddrPort
	inode string
}

// udpSockets reads the kernel's tables (proc(5), /proc/net/udp).
func udpSockets() ([]socket, error) {
	var out []socket
	for _, path := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 {
				continue
			}
			if at, ok := parseAddress(f[1]); ok {
				out = append(out, socket{at, f[9]})
			}
		}
	}
	return out, nil
}

// parseAddress reads "0100007F:026F": words of an address in the machine's byte
// order (little-endian on all that Tenks runs on), and a port.
func parseAddress(text string) (netip.AddrPort, bool) {
	address, port, ok := strings.Cut(text, ":")
	b, err := hex.DecodeString(address)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.LittleEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, _ := netip.AddrFromSlice(b)
	if a == netip.IPv6Unspecified() {
		a = netip.IPv4Unspecified() // takes the port of IPv4 addresses too
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

// socketOwners finds the processes that have sockets, by inode.
func socketOwners() map[string]string {
	out := map[string]string{}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is right
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil {
			continue
		}
		inode, ok := strings.CutPrefix(to, "socket:[")
		if !ok {
			continue
		}
		process := filepath.Dir(filepath.Dir(link))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			continue
		}
		out[strings.TrimSuffix(inode, "]")] = fmt.Sprintf("process %s (%s)", filepath.Base(process), strings.TrimSpace(string(name)))
	}
	return out
}
