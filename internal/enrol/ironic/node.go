package ironic

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// extraKey is the key of extra that is ours.
const extraKey = "tenks"

// mark is what Tenks keeps in a node's extra field.
type mark struct {
	Cluster      string `json:"cluster"`
	Node         string `json:"node"`
	PasswordMark string `json:"password_mark,omitempty"`
	// The attributes that Tenks has set, by key. Others are not Tenks'.
	DriverInfo []string `json:"driver_info,omitempty"`
	Properties []string `json:"properties,omitempty"`
	Interfaces []string `json:"interfaces,omitempty"`
	Traits     []string `json:"traits,omitempty"`
}

// portMark is what Tenks keeps in a port's extra field.
type portMark struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
}

// interfaces are the kinds of driver interfaces, each a field "…_interface" of
// a node. All are there in API version 1.40, but for firmware (1.86).
var interfaces = []string{"bios", "boot", "console", "deploy", "inspect", "management", "network",
	"power", "raid", "rescue", "storage", "vendor"}

// node is a node as the API has it.
type node struct {
	UUID          string                     `json:"uuid"`
	Name          string                     `json:"name"`
	Driver        string                     `json:"driver"`
	DriverInfo    map[string]json.RawMessage `json:"driver_info"`
	Properties    map[string]json.RawMessage `json:"properties"`
	ResourceClass string                     `json:"resource_class"`
	Traits        []string                   `json:"traits"`
	Extra         map[string]json.RawMessage `json:"extra"`
	status

	interfaces map[string]string // "deploy": "direct"
}

// status is the part of a node that changes by itself.
type status struct {
	State             string `json:"provision_state"`
	LastError         string `json:"last_error"`
	Maintenance       bool   `json:"maintenance"`
	MaintenanceReason string `json:"maintenance_reason"`
	InstanceUUID      string `json:"instance_uuid"`
}

// statusFields and nodeFields are what is asked for.
const statusFields = "uuid,provision_state,last_error,maintenance,maintenance_reason,instance_uuid"

func (c *client) nodeFields() string {
	fields := statusFields + ",name,driver,driver_info,properties,resource_class,traits,extra"
	for _, i := range c.interfaces() {
		fields += "," + i + "_interface"
	}
	return fields
}

func (c *client) interfaces() []string {
	if c.minor >= newestMinor {
		return append(slices.Clone(interfaces), "firmware")
	}
	return interfaces
}

// UnmarshalJSON implements [json.Unmarshaler].
func (n *node) UnmarshalJSON(text []byte) error {
	type fields node
	if err := json.Unmarshal(text, (*fields)(n)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	n.interfaces = map[string]string{}
	for key, raw := range all {
		if name, ok := strings.CutSuffix(key, "_interface"); ok {
			n.interfaces[name] = word(raw)
		}
	}
	return nil
}

// mark returns Tenks' mark of the node; ok is false if it has none.
func (n *node) mark() (m mark, ok bool) {
	raw, there := n.Extra[extraKey]
	if !there || json.Unmarshal(raw, &m) != nil || m.Cluster == "" || m.Node == "" {
		return mark{}, false
	}
	return m, true
}

// ours tells whether the node is this node of this cluster.
func (n *node) ours(clusterName, name string) bool {
	m, ok := n.mark()
	return ok && m.Cluster == clusterName && m.Node == name
}

// owner says in words whose the node is.
func (n *node) owner() string {
	m, ok := n.mark()
	return owner(m.Cluster, ok)
}

func owner(clusterName string, ok bool) string {
	if !ok {
		return "not made by Tenks"
	}
	return fmt.Sprintf("cluster %q", clusterName)
}

// path is the node's path in the API.
func (n *node) path() string { return "/v1/nodes/" + n.UUID }

// port is a port as the API has it.
type port struct {
	UUID    string                     `json:"uuid"`
	Address string                     `json:"address"`
	Node    string                     `json:"node_uuid"`
	Network string                     `json:"physical_network"`
	PXE     bool                       `json:"pxe_enabled"`
	Extra   map[string]json.RawMessage `json:"extra"`
}

const portFields = "uuid,address,node_uuid,physical_network,pxe_enabled,extra"

// mark returns Tenks' mark of the port; ok is false if it has none.
func (p *port) mark() (m portMark, ok bool) {
	raw, there := p.Extra[extraKey]
	if !there || json.Unmarshal(raw, &m) != nil || m.Cluster == "" {
		return portMark{}, false
	}
	return m, true
}

// enrolment is the node as far as Tenks has made it: the wanted node, if it is
// as wanted.
func (n *node) enrolment(m mark, ports []port) cluster.Enrolment {
	e := cluster.Enrolment{
		Node: m.Node, UUID: n.UUID, Driver: n.Driver, PasswordMark: m.PasswordMark,
		DriverInfo: words(n.DriverInfo, m.DriverInfo), Properties: words(n.Properties, m.Properties),
		ResourceClass: n.ResourceClass, State: n.State, LastError: n.trouble(),
	}
	if _, ok := n.DriverInfo[passwordKey(n.Driver)]; !ok {
		e.PasswordMark = "" // somebody has removed it
	}
	for _, name := range m.Interfaces {
		if value := n.interfaces[name]; value != "" {
			if e.Interfaces == nil {
				e.Interfaces = map[string]string{}
			}
			e.Interfaces[name] = value
		}
	}
	for _, t := range n.Traits {
		if slices.Contains(m.Traits, t) {
			e.Traits = append(e.Traits, t)
		}
	}
	slices.Sort(e.Traits)
	for _, p := range ports {
		if _, ours := p.mark(); ours {
			e.Ports = append(e.Ports, cluster.EnrolledPort{MAC: strings.ToLower(p.Address), Network: p.Network, PXE: p.PXE})
		}
	}
	slices.SortFunc(e.Ports, func(a, b cluster.EnrolledPort) int { return strings.Compare(a.MAC, b.MAC) })
	return e
}

// trouble is what is wrong with a node, in words.
func (s *status) trouble() string {
	text := oneLine(s.LastError)
	if s.Maintenance {
		text = strings.TrimSuffix(s.maintenance()+"; "+text, "; ")
	}
	return text
}

func (s *status) maintenance() string {
	if s.MaintenanceReason == "" {
		return "in maintenance, no reason given"
	}
	return "in maintenance: " + oneLine(s.MaintenanceReason)
}

// passwordKey is the key of driver_info that has the BMC's password.
func passwordKey(driver string) string {
	if driver == "redfish" {
		return "redfish_password"
	}
	return "ipmi_password" // also for fake-hardware, which looks at none
}

// words are the values of some keys as text.
func words(values map[string]json.RawMessage, keys []string) map[string]string {
	var out map[string]string
	for _, k := range keys {
		if raw, ok := values[k]; ok {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = word(raw)
		}
	}
	return out
}

// word is a JSON value as text: strings without quotes, null as "".
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// wantedMark is the mark of a node that is as wanted.
func wantedMark(clusterName string, want cluster.Enrolment) mark {
	return mark{
		Cluster: clusterName, Node: want.Node, PasswordMark: want.PasswordMark,
		DriverInfo: slices.Sorted(maps.Keys(want.DriverInfo)), Properties: slices.Sorted(maps.Keys(want.Properties)),
		Interfaces: slices.Sorted(maps.Keys(want.Interfaces)), Traits: slices.Sorted(slices.Values(want.Traits)),
	}
}

// wantedPort is the body that creates a port.
func wantedPort(clusterName string, want cluster.Enrolment, p cluster.EnrolledPort) map[string]any {
	body := map[string]any{
		"node_uuid": want.UUID, "address": p.MAC, "pxe_enabled": p.PXE,
		"extra": map[string]any{extraKey: portMark{clusterName, want.Node}},
	}
	if p.Network != "" {
		body["physical_network"] = p.Network
	}
	return body
}

// wantedNode is the body that creates a node, all but its traits and ports.
func wantedNode(clusterName string, want cluster.Enrolment) map[string]any {
	info := map[string]string{}
	maps.Copy(info, want.DriverInfo)
	if want.Password != "" {
		info[passwordKey(want.Driver)] = string(want.Password)
	}
	body := map[string]any{
		"name": want.Node, "uuid": want.UUID, "driver": want.Driver,
		"driver_info": info, "properties": want.Properties,
		"extra": map[string]any{extraKey: wantedMark(clusterName, want)},
	}
	if want.Properties == nil {
		delete(body, "properties")
	}
	if want.ResourceClass != "" {
		body["resource_class"] = want.ResourceClass
	}
	for name, value := range want.Interfaces {
		body[name+"_interface"] = value
	}
	return body
}

// change is one operation of a JSON patch (RFC 6902).
type change struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// nodePatch turns the node into the wanted one, all but its traits and ports.
func (n *node) nodePatch(clusterName string, want cluster.Enrolment) []change {
	var p []change
	set := func(path, have, want string) {
		switch {
		case have == want:
		case want == "":
			p = append(p, change{Op: "remove", Path: path})
		default:
			p = append(p, change{"add", path, want}) // replaces, too (RFC 6902 §4.1)
		}
	}
	old, _ := n.mark()
	set("/name", n.Name, want.Node)
	set("/driver", n.Driver, want.Driver)
	set("/resource_class", n.ResourceClass, want.ResourceClass)
	p = append(p, mapPatch("/driver_info", n.DriverInfo, old.DriverInfo, want.DriverInfo)...)
	p = append(p, propertiesPatch(n.Properties, old.Properties, want.Properties)...)
	key := passwordKey(want.Driver)
	_, there := n.DriverInfo[key]
	if want.Password != "" && (!there || old.PasswordMark != want.PasswordMark) {
		p = append(p, change{"add", "/driver_info/" + key, string(want.Password)})
	}
	if oldKey := passwordKey(n.Driver); oldKey != key {
		if _, there := n.DriverInfo[oldKey]; there {
			p = append(p, change{Op: "remove", Path: "/driver_info/" + oldKey})
		}
	}
	for _, name := range union(old.Interfaces, want.Interfaces) {
		if value, wanted := want.Interfaces[name]; wanted {
			set("/"+name+"_interface", n.interfaces[name], value)
		} else {
			p = append(p, change{Op: "remove", Path: "/" + name + "_interface"}) // back to the driver's default
		}
	}
	wanted := wantedMark(clusterName, want)
	if want.Password == "" {
		wanted.PasswordMark = old.PasswordMark
	}
	a, _ := json.Marshal(old)
	b, _ := json.Marshal(wanted)
	if string(a) != string(b) {
		p = append(p, change{"add", "/extra/" + extraKey, wanted})
	}
	return p
}

// propertiesPatch is mapPatch for properties, whose keys may be such that Ironic
// takes no patch of them alone: then all are replaced, the others by themselves.
func propertiesPatch(have map[string]json.RawMessage, old []string, want map[string]string) []change {
	p := mapPatch("/properties", have, old, want)
	if !slices.ContainsFunc(p, func(c change) bool { return !patchable.MatchString(c.Path) }) {
		return p
	}
	all := make(map[string]any, len(have)+len(want))
	for key, raw := range have {
		all[key] = raw
	}
	for _, key := range old {
		delete(all, key)
	}
	for key, value := range want {
		all[key] = value
	}
	return []change{{"add", "/properties", all}}
}

// patchable is what Ironic accepts as the path of a patch; escapes of RFC 6901
// are not in it (schema of patches in ironic/api/controllers/v1/utils.py).
var patchable = regexp.MustCompile(`^(/[\w-]+)+$`)

// mapPatch changes the keys of a map that Tenks has set or wants to.
func mapPatch(prefix string, have map[string]json.RawMessage, old []string, want map[string]string) []change {
	var p []change
	for _, key := range union(old, want) {
		raw, there := have[key]
		value, wanted := want[key]
		path := prefix + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key) // RFC 6901 §3
		switch {
		case wanted && (!there || word(raw) != value):
			p = append(p, change{"add", path, value})
		case !wanted && there:
			p = append(p, change{Op: "remove", Path: path})
		}
	}
	return p
}

// union is the sorted keys of both.
func union(old []string, want map[string]string) []string {
	keys := slices.AppendSeq(slices.Clone(old), maps.Keys(want))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// query makes a path with a query.
func query(path string, pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return path + "?" + v.Encode()
}
