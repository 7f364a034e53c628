package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/schedule"
)

// parse reads a cluster file that is correct.
func parse(t testing.TB, text string) config.File {
	t.Helper()
	f, err := config.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// options are for one hypervisor, with a password that is known.
func options(hypervisors ...string) schedule.Options {
	if len(hypervisors) == 0 {
		hypervisors = []string{"local"}
	}
	return schedule.Options{Hypervisors: hypervisors, Cloud: "cloud:lab", NewSecret: func() cluster.Secret { return "random" }}
}

func place(t rapid.TB, f config.File, found cluster.State, o schedule.Options) cluster.State {
	t.Helper()
	s, err := schedule.Place(f, found, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused returns the errors and hints that Place gives, a line each.
func refused(t testing.TB, f config.File, found cluster.State, o schedule.Options) []string {
	t.Helper()
	_, err := schedule.Place(f, found, o)
	if err == nil {
		t.Fatal("Place has found a way")
	}
	var lines []string
	hint.Each(err, func(err error, advice string) { lines = append(lines, err.Error()+" / "+advice) })
	return lines
}

const small = `
cluster: dev
physical_networks: {prov: {}, data: {uplink: eth1}}
node_types:
  small: {vcpus: 2, memory: 3GiB, volumes: [{size: 6GiB}, {size: 512MiB}], physical_networks: [prov, data]}
specs:
  - {type: small, count: 1, ironic: {resource_class: baremetal, traits: [CUSTOM_B, CUSTOM_A], capabilities: {raid: "1"}, properties: {room: "7"}, deploy_interface: ramdisk}}
bmc: {addresses: 127.64.0.0/24, username: root, password: s3cret}
ironic: {deploy_kernel: "http://192.0.2.1/k", deploy_ramdisk: "http://192.0.2.1/r"}
`

// A node from end to end. The UUID was computed with Python's uuid.uuid5, the
// serial number, MAC addresses and mark with its hashlib.
func TestPlace(t *testing.T) {
	const uuid = "462718c2-bcf7-5365-8a5c-aa7b25002017"
	macs := []string{"52:a3:a0:e7:7c:61", "52:d3:6f:df:30:f3"}
	want := cluster.State{
		Cluster: "dev",
		Pools:   []cluster.Pool{{Name: "tenks-dev", Hypervisor: "local", UUID: "2b568744-373d-5ca9-adde-4c046778f2d8", Active: true}},
		Networks: []cluster.Network{
			{Name: "data", Hypervisor: "local", Bridge: "br-dev-data", Uplink: "eth1", UplinkPort: "up-dev-data", UplinkPeer: "peer-dev-data", Up: true},
			{Name: "prov", Hypervisor: "local", Bridge: "br-dev-prov", Up: true},
		},
		Taps: []cluster.Tap{
			{Name: "dev-0-0", Hypervisor: "local", Bridge: "br-dev-prov", Node: "dev-0", Port: 0},
			{Name: "dev-0-1", Hypervisor: "local", Bridge: "br-dev-data", Node: "dev-0", Port: 1},
		},
		Nodes: []cluster.Node{{
			Name: "dev-0", Hypervisor: "local", Provider: "libvirt", Spec: "small", Type: "small", UUID: uuid, Serial: "TKBB4ED44251",
			VCPUs: 2, MemoryMB: 3072, BootMode: "uefi",
			Volumes: []cluster.Volume{{Name: "dev-0-vol0", Pool: "tenks-dev", Size: 6 << 30}, {Name: "dev-0-vol1", Pool: "tenks-dev", Size: 512 << 20}},
			Ports:   []cluster.Port{{MAC: macs[0], Network: "prov", Tap: "dev-0-0"}, {MAC: macs[1], Network: "data", Tap: "dev-0-1"}},
		}},
		BMCs: []cluster.BMC{{
			Node: "dev-0", Hypervisor: "local", Provider: "libvirt", UUID: uuid,
			Address: "127.64.0.1", Port: 623, Username: "root", Password: "s3cret", Serving: true,
		}},
		Clouds: []cluster.Cloud{{Hypervisor: "local", ID: "cloud:lab"}},
		Enrolments: []cluster.Enrolment{{
			Node: "dev-0", UUID: uuid, Driver: "ipmi",
			DriverInfo:   map[string]string{"ipmi_address": "127.64.0.1", "ipmi_port": "623", "ipmi_username": "root", "deploy_kernel": "http://192.0.2.1/k", "deploy_ramdisk": "http://192.0.2.1/r"},
			Password:     "s3cret",
			PasswordMark: cluster.PasswordMark(uuid, "s3cret"),
			// The disk that Ironic deploys to is the first.
			Properties:    map[string]string{"cpus": "2", "memory_mb": "3072", "local_gb": "6", "cpu_arch": "x86_64", "capabilities": "boot_mode:uefi,raid:1", "room": "7"},
			ResourceClass: "baremetal", Traits: []string{"CUSTOM_A", "CUSTOM_B"}, Interfaces: map[string]string{"deploy": "ramdisk"},
			Ports: []cluster.EnrolledPort{{MAC: macs[0], Network: "prov", PXE: true}, {MAC: macs[1], Network: "data", PXE: true}},
			State: "available",
		}},
	}
	if diff := cmp.Diff(want, place(t, parse(t, small), cluster.State{}, options())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSynthetic(t *testing.T) {
	s := place(t, parse(t, `
cluster: dev
physical_networks: {prov: {uplink: eth1}}
node_types: {fake: {provider: synthetic, memory: 4GiB, volumes: [{size: 1TiB}], physical_networks: [prov]}}
specs: [{type: fake, count: 2}]
`), cluster.State{}, options())
	if s.Pools != nil || s.Networks != nil || s.Taps != nil || s.Enrolments != nil || s.Clouds != nil {
		t.Errorf("synthetic nodes stand on something: %+v", s)
	}
	for _, n := range s.Nodes {
		if n.Volumes[0].Pool != "" || n.Ports[0].Tap != "" || n.Ports[0].MAC == "" {
			t.Errorf("%+v", n)
		}
	}
	if s.BMCs[0].Password != "random" || s.BMCs[1].Password != "random" {
		t.Error("the BMCs do not have the new password")
	}
}

func names(s cluster.State) []string {
	var out []string
	for _, n := range s.Nodes {
		out = append(out, n.Hypervisor+"/"+n.Name)
	}
	return out
}

func fake(specs string) string {
	types := "{a: {provider: synthetic, memory: 1GiB}}"
	if strings.Contains(specs, "type: b") {
		types = "{a: {provider: synthetic, memory: 1GiB}, b: {provider: synthetic, memory: 2GiB}}"
	}
	return "cluster: dev\nnode_types: " + types + "\nspecs:\n" + specs + "\n"
}

// Numbers are given out lowest first, gaps included; those that go do not give
// their names to others in the same breath.
func TestNames(t *testing.T) {
	two := place(t, parse(t, fake("  - {type: a, count: 2}\n  - {type: b, count: 2}")), cluster.State{}, options())
	if got := names(two); !slices.Equal(got, []string{"local/dev-0", "local/dev-1", "local/dev-2", "local/dev-3"}) {
		t.Errorf("first: %q", got)
	}
	grown := place(t, parse(t, fake("  - {type: a, count: 3}\n  - {type: b, count: 2}")), two, options())
	if got := names(grown); !slices.Equal(got, []string{"local/dev-0", "local/dev-1", "local/dev-2", "local/dev-3", "local/dev-4"}) || grown.Nodes[4].Type != "a" {
		t.Errorf("one more: %q", got)
	}
	swapped := place(t, parse(t, fake("  - {type: a, count: 1}\n  - {type: b, count: 3}")), two, options())
	if got := names(swapped); !slices.Equal(got, []string{"local/dev-0", "local/dev-2", "local/dev-3", "local/dev-4"}) {
		t.Errorf("while dev-1 goes: %q", got)
	}
	gap := swapped // dev-1 is gone by now
	if got := names(place(t, parse(t, fake("  - {type: a, count: 2}\n  - {type: b, count: 3}")), gap, options())); !slices.Contains(got, "local/dev-1") {
		t.Errorf("a name that is free again is not given: %q", got)
	}
	if got := names(place(t, parse(t, fake("  - {type: a, count: 12}")), cluster.State{}, options())); !slices.Contains(got, "local/dev-11") {
		t.Errorf("twelve: %q", got)
	}
}

// Of twelve nodes the one with the highest number goes, not the one that comes
// last in the alphabet.
func TestHighestGoes(t *testing.T) {
	have := place(t, parse(t, fake("  - {type: a, count: 12}")), cluster.State{}, options())
	got := names(place(t, parse(t, fake("  - {type: a, count: 11}")), have, options()))
	if slices.Contains(got, "local/dev-11") || !slices.Contains(got, "local/dev-9") {
		t.Errorf("%q", got)
	}
}

// Nodes spread over hypervisors, and stay when there is one more or the balance
// is lost.
func TestSpread(t *testing.T) {
	have := place(t, parse(t, fake("  - {type: a, count: 4}")), cluster.State{}, options("hv1", "hv2"))
	if got := names(have); !slices.Equal(got, []string{"hv1/dev-0", "hv1/dev-2", "hv2/dev-1", "hv2/dev-3"}) {
		t.Errorf("%q", got)
	}
	more := place(t, parse(t, fake("  - {type: a, count: 6}")), have, options("hv1", "hv2", "hv3"))
	if got := names(more); !slices.Equal(got, []string{"hv1/dev-0", "hv1/dev-2", "hv2/dev-1", "hv2/dev-3", "hv3/dev-4", "hv3/dev-5"}) {
		t.Errorf("%q", got)
	}
}

func TestNoHypervisor(t *testing.T) {
	got := refused(t, parse(t, fake("  - {type: a, count: 2}")), cluster.State{}, schedule.Options{})
	want := []string{`spec "a": no hypervisor for new nodes / name at least one hypervisor`}
	if !slices.Contains(got, want[0]) {
		t.Errorf("%q", got)
	}
}

// Too few addresses are one error, with how many nodes get none.
func TestTooFewAddresses(t *testing.T) {
	f := parse(t, fake("  - {type: a, count: 3}")+"bmc: {addresses: 127.64.0.0/29}\n")
	taken := cluster.State{Strangers: []cluster.Stranger{
		{Hypervisor: "local", Kind: cluster.StrangerUDP, Name: "127.64.0.2:623", Owner: `cluster "ci"`},
		{Hypervisor: "local", Kind: cluster.StrangerUDP, Name: "127.64.0.3:161", Owner: "snmpd"}, // another port
		{Hypervisor: "hv9", Kind: cluster.StrangerUDP, Name: "127.64.0.4:623", Owner: "elsewhere"},
	}}
	s := place(t, f, taken, options())
	if s.BMCs[0].Address != "127.64.0.1" || s.BMCs[1].Address != "127.64.0.3" || s.BMCs[2].Address != "127.64.0.4" {
		t.Errorf("%+v", s.BMCs)
	}
	for i := range 6 {
		taken.Strangers = append(taken.Strangers, cluster.Stranger{Hypervisor: "local", Kind: cluster.StrangerUDP, Name: fmt.Sprintf("127.64.0.%d:623", i+3)})
	}
	got := refused(t, f, taken, options())
	want := []string{"BMC address pool 127.64.0.0/29 is too small: 2 nodes get no address / choose a larger pool in bmc, or fewer nodes; addresses that end in 0 or 255 and 127.0.0.0/24 are not used"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}

	f = parse(t, fake("  - {type: a, count: 3}")+"bmc: {address: 127.0.0.1, ports: 6230-6232}\n")
	taken = cluster.State{Strangers: []cluster.Stranger{{Hypervisor: "local", Kind: cluster.StrangerUDP, Name: "0.0.0.0:6231", Owner: "vbmc"}}}
	got = refused(t, f, taken, options())
	want = []string{"BMC ports 6230 to 6232 of 127.0.0.1 are too few: 1 nodes get none / choose a larger range of ports in bmc, or fewer nodes"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}

	f = parse(t, fake("  - {type: a, count: 3}"))
	taken.Strangers = []cluster.Stranger{{Hypervisor: "local", Kind: cluster.StrangerUDP, Name: "[::]:623", Owner: "process 7 (bmcd)"}}
	got = refused(t, f, taken, options())
	want = []string{"3 nodes get no BMC address on hypervisor local: process 7 (bmcd) has UDP [::]:623 / stop it, or let it listen on one address only"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A BMC keeps its address until the file forbids it.
func TestAddressesAreKept(t *testing.T) {
	ports := func(r string) config.File {
		return parse(t, fake("  - {type: a, count: 3}")+"bmc: {address: 127.0.0.1, ports: "+r+"}\n")
	}
	have := place(t, ports("6230-6239"), cluster.State{}, options())
	moved := place(t, ports("6231-6239"), have, options())
	if moved.BMCs[1].Port != 6231 || moved.BMCs[2].Port != 6232 || moved.BMCs[0].Port != 6233 {
		t.Errorf("%+v", moved.BMCs)
	}
	have.Nodes, have.BMCs = have.Nodes[1:], have.BMCs[1:] // dev-0 is gone; its port is the lowest that is free
	again := place(t, ports("6230-6239"), have, options())
	if again.BMCs[0].Port != 6230 || again.BMCs[1].Port != 6231 {
		t.Errorf("%+v", again.BMCs)
	}
}

// The password of the BMCs is the file's, or the one they have, or a new one.
func TestPassword(t *testing.T) {
	made := 0
	o := options()
	o.NewSecret = func() cluster.Secret { made++; return cluster.Secret(fmt.Sprint("new", made)) }
	have := place(t, parse(t, fake("  - {type: a, count: 3}")), cluster.State{}, o)
	if made != 1 || have.BMCs[2].Password != "new1" {
		t.Errorf("%d passwords for three nodes", made)
	}
	if s := place(t, parse(t, fake("  - {type: a, count: 4}")), have, o); made != 1 || s.BMCs[3].Password != "new1" {
		t.Error("a node more has another password")
	}
	if s := place(t, parse(t, fake("  - {type: a, count: 4}")+"bmc: {password: mine}\n"), have, o); made != 1 || s.BMCs[0].Password != "mine" {
		t.Error("the password of the file is not used")
	}
	if place(t, parse(t, fake("  - {type: a, count: 0}")), cluster.State{}, o); made != 1 {
		t.Error("a password for no node at all")
	}
}

// While something is unknown, nobody is made who may be there, nobody gets a
// name that may be taken, and no address that may be in use.
func TestUnknown(t *testing.T) {
	f := parse(t, fake("  - {type: a, count: 2}"))
	have := place(t, f, cluster.State{}, options())
	lost := have
	lost.Nodes = nil
	lost.Unknown = []cluster.Unknown{{Hypervisor: "local", Provider: cluster.Synthetic, Cause: "disk"}}
	if s := place(t, f, lost, options()); len(s.Nodes) != 0 {
		t.Errorf("made again: %q", names(s))
	}
	lost.Unknown[0].Provider = cluster.Libvirt // the other one: synthetic nodes are really gone
	s := place(t, f, lost, options())
	if got := names(s); !slices.Equal(got, []string{"local/dev-2", "local/dev-3"}) {
		t.Errorf("names that BMCs may still stand for were given: %q", got)
	}
}

// A BMC that may still run keeps its address, though its node is not wanted now:
// no plan removes it before it is known again.
func TestUnknownKeepsAddress(t *testing.T) {
	found := cluster.State{
		BMCs: []cluster.BMC{
			{Node: "real-0", Hypervisor: "local", Provider: cluster.Libvirt, Address: "127.64.0.1", Port: 623, Password: "s3cret"},
			{Node: "gone-0", Hypervisor: "local", Provider: cluster.Synthetic, Address: "127.64.0.2", Port: 623, Password: "s3cret"},
		},
		Unknown: []cluster.Unknown{{Hypervisor: "local", Provider: cluster.Libvirt, Cause: "libvirtd does not run"}},
	}
	f := parse(t, fake("  - {type: a, count: 1}")+"bmc: {addresses: 127.64.0.0/24}\n")
	if s := place(t, f, found, options()); s.BMCs[0].Address != "127.64.0.2" {
		t.Errorf("libvirt is unknown: %+v", s.BMCs)
	}
	found.Unknown = []cluster.Unknown{{Cause: "Ironic does not answer"}}
	if s := place(t, f, found, options()); s.BMCs[0].Address != "127.64.0.1" {
		t.Errorf("an Ironic that knows no node here: %+v", s.BMCs)
	}
	found.Clouds = []cluster.Cloud{{Hypervisor: "local", ID: "cloud:lab"}} // any node may be in use there
	if s := place(t, f, found, options()); s.BMCs[0].Address != "127.64.0.3" {
		t.Errorf("Ironic is unknown: %+v", s.BMCs)
	}
}

func TestLinkNameCollision(t *testing.T) {
	f := parse(t, `
cluster: dev
physical_networks: {prov: {uplink: dev-0-0}}
node_types: {a: {memory: 1GiB, physical_networks: [prov]}}
specs: [{type: a, count: 1}]
`)
	got := refused(t, f, cluster.State{}, options())
	if len(got) != 1 || !strings.HasPrefix(got[0], "link name dev-0-0 would be that of the uplink of physical network prov and of port 0 of node dev-0 / ") {
		t.Errorf("%q", got)
	}
}

// Files that package config would not let through do not crash.
func TestUnchecked(t *testing.T) {
	f := config.File{Cluster: "dev", Specs: []config.Spec{{Name: "x", Type: "y", Count: 1}}, BMC: config.BMC{Pool: "nonsense"}}
	refused(t, f, cluster.State{}, options())
	f = config.File{Cluster: "dev", NodeTypes: []config.NodeType{{Name: "y", Provider: cluster.Libvirt, Networks: []string{"z"}}},
		Specs: []config.Spec{{Name: "x", Type: "y", Count: 1, NamePrefix: "dev-"}}, BMC: config.BMC{Pool: "127.64.0.0/24"}}
	if got := refused(t, f, cluster.State{}, options()); !slices.Equal(got, []string{`physical network "z" is used by a node type and not declared / add z to physical_networks`}) {
		t.Errorf("%q", got)
	}
}
