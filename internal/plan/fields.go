package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// fields are what differs between an object as it is and as it is wanted. What
// is not listed here is not compared: it is derived, or found only.
type fields []Field

// none stands for what is not there.
const none = "none"

// hidden stands for a secret.
const hidden = "(hidden)"

// add lists the field if it differs.
func (f *fields) add(name, from, to string) {
	if from != to {
		*f = append(*f, Field{name, or(from, none), or(to, none)})
	}
}

func or(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

// maps lists the keys that differ, each with a prefix. Values of keys that
// sound like secrets are hidden.
func (f *fields) maps(prefix string, from, to map[string]string) {
	all := maps.Clone(from)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, to)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if from[k] != to[k] && secret(k) {
			*f = append(*f, Field{prefix + k, hidden, hidden})
			continue
		}
		f.add(prefix+k, from[k], to[k])
	}
}

func secret(key string) bool {
	for _, word := range []string{"password", "passphrase", "secret", "token", "community", "auth_key", "priv_key"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

func nodeFields(old, n cluster.Node) []Field {
	var f fields
	f.add("uuid", old.UUID, n.UUID)
	f.add("serial", old.Serial, n.Serial)
	f.add("spec", old.Spec, n.Spec)
	f.add("type", old.Type, n.Type)
	f.add("vcpus", strconv.Itoa(old.VCPUs), strconv.Itoa(n.VCPUs))
	f.add("memory", mebibytes(old.MemoryMB), mebibytes(n.MemoryMB))
	f.add("boot_mode", old.BootMode, n.BootMode)
	volumes := match(old.Volumes, n.Volumes, func(v cluster.Volume) string { return v.Name })
	for _, v := range volumes.both {
		f.add("volume "+v.new.Name, size(v.old.Size), size(v.new.Size))
		f.add("volume "+v.new.Name+" pool", v.old.Pool, v.new.Pool)
	}
	for _, v := range volumes.added {
		f.add("volume "+v.Name, none, size(v.Size))
	}
	for _, v := range volumes.gone {
		f.add("volume "+v.Name, size(v.Size), none)
	}
	for i := range max(len(old.Ports), len(n.Ports)) {
		f.port(i, old.Ports, n.Ports)
	}
	return f
}

func (f *fields) port(i int, old, n []cluster.Port) {
	name := "port " + strconv.Itoa(i)
	switch {
	case i >= len(old):
		f.add(name, none, n[i].Network+" "+n[i].MAC)
	case i >= len(n):
		f.add(name, old[i].Network+" "+old[i].MAC, none)
	default:
		f.add(name+" mac", strings.ToLower(old[i].MAC), strings.ToLower(n[i].MAC))
		f.add(name+" network", old[i].Network, n[i].Network)
		f.add(name+" tap", old[i].Tap, n[i].Tap)
	}
}

func bmcFields(old, b cluster.BMC) []Field {
	var f fields
	f.add("uuid", old.UUID, b.UUID)
	f.add("provider", old.Provider, b.Provider)
	f.add("address", old.Address, b.Address)
	f.add("port", strconv.Itoa(old.Port), strconv.Itoa(b.Port))
	f.add("username", old.Username, b.Username)
	if old.Password != b.Password {
		f = append(f, Field{"password", hidden, hidden})
	}
	return f
}

func enrolmentFields(old, e cluster.Enrolment) []Field {
	var f fields
	f.add("driver", old.Driver, e.Driver)
	f.maps("driver_info.", old.DriverInfo, e.DriverInfo)
	if old.PasswordMark != e.PasswordMark {
		f = append(f, Field{"password", hidden, hidden})
	}
	f.add("resource_class", old.ResourceClass, e.ResourceClass)
	f.maps("properties.", old.Properties, e.Properties)
	f.add("traits", words(old.Traits), words(e.Traits))
	interfaces := func(m map[string]string) map[string]string {
		named := map[string]string{}
		for k, v := range m {
			named[k+"_interface"] = v
		}
		return named
	}
	f.maps("", interfaces(old.Interfaces), interfaces(e.Interfaces))
	ports := match(old.Ports, e.Ports, func(p cluster.EnrolledPort) string { return strings.ToLower(p.MAC) })
	for _, p := range ports.both {
		f.add("port "+p.new.MAC, enrolledPort(p.old), enrolledPort(p.new))
	}
	for _, p := range ports.added {
		f.add("port "+p.MAC, none, enrolledPort(p))
	}
	for _, p := range ports.gone {
		f.add("port "+p.MAC, enrolledPort(p), none)
	}
	return f
}

// words is a list in one word, whatever the order it came in.
func words(list []string) string { return strings.Join(slices.Sorted(slices.Values(list)), ",") }

func enrolledPort(p cluster.EnrolledPort) string {
	if p.PXE {
		return p.Network + " with pxe"
	}
	return p.Network + " without pxe"
}
