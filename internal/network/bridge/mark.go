package bridge

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/hint"
)

// aliasMax is the most bytes of a link alias (IFALIASZ 256, less the
// terminating zero).
const aliasMax = 255

// mark is what the alias of a link of ours says. The bridge of a network and
// both ends of its veth pair have the same one, so that each of them alone
// tells what belonged to the network.
type mark struct {
	Cluster string

	// Of a tap.
	Node string
	Port int

	// Of the links of a network.
	Network    string
	Bridge     string
	Uplink     string
	UplinkPort string
	UplinkPeer string
	// Was is what a NIC was before it became the uplink: up or down. It is
	// empty if the uplink is a bridge.
	Was string
	// MAC is the address of an uplink bridge that had no ports: the kernel
	// takes it away with the last port (br_stp_recalculate_bridge_id).
	MAC string
}

// States of a NIC in mark.Was.
const (
	wasUp   = "up"
	wasDown = "down"
)

// String is the alias: "tenks" and pairs of key and value, empty ones left out.
func (m mark) String() string {
	s := "tenks"
	add := func(key, value string) {
		if value != "" {
			s += " " + key + "=" + url.QueryEscape(value)
		}
	}
	add("cluster", m.Cluster)
	if m.Node != "" {
		add("node", m.Node)
		add("port", strconv.Itoa(m.Port))
		return s
	}
	add("network", m.Network)
	add("bridge", m.Bridge)
	add("uplink", m.Uplink)
	add("uplink-port", m.UplinkPort)
	add("uplink-peer", m.UplinkPeer)
	add("was", m.Was)
	add("mac", m.MAC)
	return s
}

// alias is String, checked.
func (m mark) alias() (string, error) {
	s := m.String()
	if len(s) > aliasMax {
		return "", hint.Add(fmt.Errorf("link alias %q: %d bytes, and %d is the most", s, len(s), aliasMax),
			"give the cluster, the physical network or the node a shorter name")
	}
	return s, nil
}

// parseMark reads an alias. ok is false if it is not a mark of Tenks. Keys that
// it does not know are from a later version and are passed over.
func parseMark(alias string) (m mark, ok bool) {
	f := strings.Fields(alias)
	if len(f) < 2 || f[0] != "tenks" {
		return mark{}, false
	}
	into := map[string]*string{
		"cluster": &m.Cluster, "node": &m.Node, "network": &m.Network, "bridge": &m.Bridge, "uplink": &m.Uplink,
		"uplink-port": &m.UplinkPort, "uplink-peer": &m.UplinkPeer, "was": &m.Was, "mac": &m.MAC,
	}
	for _, pair := range f[1:] {
		key, escaped, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(escaped)
		if err != nil {
			return mark{}, false
		}
		if key == "port" {
			if m.Port, err = strconv.Atoi(value); err != nil {
				return mark{}, false
			}
		} else if field, known := into[key]; known {
			*field = value
		}
	}
	return m, m.Cluster != ""
}
