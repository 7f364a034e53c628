package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// checker notes what is wrong with a file whose values all have the right form:
// names that nothing has, numbers that do not fit together. It leaves out what
// follows from mistakes of form, so that one mistake is told once.
type checker struct {
	*mistakes
	file File
	root *value
}

func (c *checker) check() {
	c.networks()
	c.types()
	c.specs()
	c.names()
	c.bmc()
	c.capacity()
}

// networks checks the physical networks against each other and their users.
func (c *checker) networks() {
	nets := c.root.get("physical_networks")
	var known []string
	carriers := map[string]string{} // network by uplink
	for _, e := range nets.keys {
		known = append(known, e.name)
		up := e.value.get("uplink")
		if !up.ok {
			continue
		}
		if other, taken := carriers[up.text]; taken {
			c.add(up.where, up.path, "give each physical network a link of its own", "%s is the uplink of %s already", up.shown, other)
			continue
		}
		carriers[up.text] = e.name
	}

	used, sure := map[string]bool{}, true
	for _, e := range c.root.get("node_types").keys {
		list := e.value.get("physical_networks")
		sure = sure && e.value.ok && (list.ok || !list.given)
		c.unique(list, "list it once: a node has one NIC on each physical network")
		for _, v := range list.items {
			used[v.text] = true
			sure = sure && v.ok && slices.Contains(known, v.text)
			if v.ok && (nets.ok || !nets.given) && !slices.Contains(known, v.text) {
				c.add(v.where, v.path, choose(v.text, known, "add it to physical_networks"), "there is no physical network %s", v.shown)
			}
		}
	}
	for _, e := range nets.keys {
		if sure && !used[e.name] && plainNameKind.pattern.MatchString(e.name) {
			c.add(e.value.name, e.value.path, "remove it, or list it in a node type", "no node type uses it")
		}
	}
}

// unique notes texts that are twice in a list.
func (c *checker) unique(list *value, advice string) {
	seen := map[string]bool{}
	for _, v := range list.items {
		if v.ok && seen[v.text] {
			c.add(v.where, v.path, advice, "%s is in the list twice", v.shown)
		}
		seen[v.text] = true
	}
}

// choose is the advice for a name that is not among the known ones.
func choose(name string, known []string, otherwise string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return otherwise
}

// types checks that each node type is used, and that specs name node types.
func (c *checker) types() {
	types, specs := c.root.get("node_types"), c.root.get("specs")
	var known []string
	for _, e := range types.keys {
		known = append(known, e.name)
	}
	used, sure := map[string]bool{}, specs.ok
	for _, s := range specs.items {
		v := s.get("type")
		used[v.text] = true
		sure = sure && v.ok && slices.Contains(known, v.text)
		if v.ok && types.ok && !slices.Contains(known, v.text) {
			c.add(v.where, v.path, choose(v.text, known, "add it to node_types"), "there is no node type %s", v.shown)
		}
	}
	for _, e := range types.keys {
		if sure && !used[e.name] && plainNameKind.pattern.MatchString(e.name) {
			c.add(e.value.name, e.value.path, "remove it, or use it in a spec (count: 0 for no nodes)", "no spec uses it")
		}
	}
}

// specs checks each spec.
func (c *checker) specs() {
	lines := map[string]int{} // by name
	for i, v := range c.root.get("specs").items {
		at, named := v.get("type"), v.get("name")
		if named.given {
			at = named
		}
		name := c.file.Specs[i].Name
		if line, taken := lines[name]; taken && at.ok {
			c.add(at.where, v.path, "give each its own: name: "+name+"-2",
				"there is a spec with the name %s already, in line %d", name, line)
		} else if at.ok {
			lines[name] = at.where.line
		}
		if ironic := v.get("ironic"); ironic.given {
			c.enrolment(ironic, c.file.Specs[i].Type)
		}
	}
	libvirt := 0
	for _, s := range c.file.Specs {
		if t := c.typeOf(s.Type); t != nil && t.Provider == cluster.Libvirt {
			libvirt += s.Count
		}
	}
	if v := c.root.get("specs"); libvirt > maxNodes {
		c.add(v.name, v.path, "ask for fewer, or make some of them synthetic",
			"%d libvirt nodes are more than Tenks can do: %d", libvirt, maxNodes)
	}
}

// typeOf returns the node type of a name, or nil.
func (c *checker) typeOf(name string) *NodeType {
	for i, t := range c.file.NodeTypes {
		if t.Name == name {
			return &c.file.NodeTypes[i]
		}
	}
	return nil
}

// enrolment checks how the nodes of a spec are enrolled.
func (c *checker) enrolment(v *value, typeName string) {
	traits := v.get("traits")
	c.unique(traits, "list it once")
	if n := len(traits.items); n > maxTraits {
		c.add(traits.name, traits.path, "leave some out", "%d traits are more than Ironic takes: %d", n, maxTraits)
	}
	for _, t := range traits.items {
		if t.text == "CUSTOM_" {
			c.add(t.where, t.path, traitKind.rule, "%s is not %s", t.shown, traitKind.what)
		}
	}
	if p := v.get("properties").get("capabilities"); p.given {
		c.add(p.name, p.path, "write them below capabilities", "capabilities are not given as a property")
	}
	mode, t := v.get("capabilities").get("boot_mode"), c.typeOf(typeName)
	if mode.ok && t != nil && t.BootMode != "" && mode.text != t.BootMode {
		c.add(mode.where, mode.path, "remove it: Tenks sets the capability boot_mode itself",
			"%s is not the boot mode of node type %s, %s", mode.shown, t.Name, t.BootMode)
	}
}

// names checks the names that nodes will have: a prefix and a number.
func (c *checker) names() {
	items := c.root.get("specs").items
	nodes := map[string]int{} // by prefix
	for i, s := range c.file.Specs {
		if c.prefixOK(items[i]) {
			nodes[s.NamePrefix] += s.Count
		}
	}
	for i, v := range items {
		prefix := c.file.Specs[i].NamePrefix
		if !c.prefixOK(v) {
			continue
		}
		at := v.get("name_prefix")
		if !at.given {
			at = v
		}
		longest := prefix + strconv.Itoa(max(0, nodes[prefix]-1))
		if len(longest) > maxNodeName {
			c.add(at.where, at.path, "shorten the prefix", "the node name %s is longer than %d characters", quote(longest), maxNodeName)
		}
		for n := len(strings.TrimRight(prefix, "0123456789")); n < len(prefix); n++ {
			if other := prefix[:n]; hasKey(nodes, other) {
				c.add(at.where, at.path, "end the prefixes with a hyphen",
					"%s and a number may be a name that prefix %s makes too", quote(prefix), quote(other))
			}
		}
	}
}

func hasKey(m map[string]int, key string) bool {
	_, ok := m[key]
	return ok
}

// prefixOK tells whether the name prefix of a spec is known.
func (c *checker) prefixOK(v *value) bool {
	p := v.get("name_prefix")
	return p.ok || !p.given && c.root.get("cluster").ok
}

// loopback is where every machine may listen on any address, unseen by others.
var loopback = netip.MustParsePrefix("127.0.0.0/8")

// bmc checks the addresses of BMCs.
func (c *checker) bmc() {
	bmc := c.root.get("bmc")
	if v := bmc.get("addresses"); v.ok {
		p, err := netip.ParsePrefix(v.text)
		switch {
		case err != nil:
			c.add(v.where, v.path, poolKind.rule, "%s is not %s", v.shown, poolKind.what)
		case p.Bits() < loopback.Bits() || !loopback.Contains(p.Addr()):
			c.add(v.where, v.path,
				"use a network inside 127.0.0.0/8, or one address of this machine for all BMCs: address and ports",
				"%s is not inside 127.0.0.0/8, so this machine does not have its addresses", v.shown)
		case p.Masked() != p:
			c.add(v.where, v.path, "write "+p.Masked().String(), "%s is an address in a range, not the range", v.shown)
		}
	}
	if v := bmc.get("address"); v.ok {
		c.address(v)
	}
	if v := bmc.get("ports"); v.ok {
		switch first, last := c.file.BMC.FirstPort, c.file.BMC.LastPort; {
		case first < 1 || last > 65535:
			c.add(v.where, v.path, "use ports from 1 to 65535", "%s is not %s", v.shown, portRangeKind.what)
		case first > last:
			c.add(v.where, v.path, fmt.Sprintf("write %d-%d", last, first), "the first port is above the last")
		}
	}
}

// address checks the address that all BMCs share.
func (c *checker) address(v *value) {
	a, err := netip.ParseAddr(v.text)
	switch {
	case err != nil:
		c.add(v.where, v.path, ipAddressKind.rule, "%s is not %s", v.shown, ipAddressKind.what)
	case a.IsUnspecified():
		c.add(v.where, v.path, "write the address of this machine that Ironic reaches it by",
			"%s is every address and none: Ironic must be told a real one", v.shown)
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a.Is4In6():
		c.add(v.where, v.path, ipAddressKind.rule, "%s is not the address of one machine", v.shown)
	}
}

// capacity checks that there is a BMC address for each node.
func (c *checker) capacity() {
	b, bmc, nodes := c.file.BMC, c.root.get("bmc"), 0
	for _, s := range c.file.Specs {
		nodes += s.Count
	}
	at, what, advice := c.root.get("specs"), "addresses", "name a larger range in section bmc: addresses: 127.64.0.0/12"
	if v := bmc.get("addresses"); v.given {
		at = v
		advice = "use a larger range"
		if p, err := netip.ParsePrefix(v.text); err != nil || p.Masked() != p || !loopback.Contains(p.Addr()) || !v.ok {
			return
		}
	}
	if v := bmc.get("ports"); v.given || b.Address != "" {
		at, what, advice = v, "ports", fmt.Sprintf("use a larger range: %d-%d", b.FirstPort, b.FirstPort+nodes-1)
		if !v.ok || b.FirstPort < 1 || b.LastPort > 65535 || b.FirstPort > b.LastPort {
			return
		}
		if b.FirstPort+nodes-1 > 65535 {
			advice = "leave out address and ports: then each BMC has an address of its own"
		}
	}
	if !c.root.get("cluster").ok || !bmc.ok && bmc.given {
		return
	}
	if n := b.Capacity(); nodes > n {
		c.add(at.where, at.path, advice, "%d nodes need as many %s, and there are only %d", nodes, what, n)
	}
}
