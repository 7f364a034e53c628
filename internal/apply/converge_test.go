package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tenks/tenks/internal/apply"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/hypervisor/hypervisortest"
	"github.com/tenks/tenks/internal/observe"
	"github.com/tenks/tenks/internal/plan"
	"github.com/tenks/tenks/internal/schedule"
)

// world is some hypervisors and a bare metal service.
type world struct {
	t       rapid.TB
	workers []*hypervisortest.Worker
	service *service
}

func newWorld(t rapid.TB, hypervisors int) *world {
	w := &world{t: t, service: &service{}}
	for i := range hypervisors {
		w.workers = append(w.workers, &hypervisortest.Worker{Hypervisor: fmt.Sprintf("hv%d", i), Torn: true})
	}
	return w
}

func (w *world) observe() cluster.State {
	var workers []hypervisor.Worker
	for _, x := range w.workers {
		workers = append(workers, x)
	}
	return observe.Read(context.Background(), "dev", workers, w.service, observe.Options{})
}

func (w *world) plan(f *config.File) (plan.Plan, error) {
	have, want := w.observe(), cluster.State{Cluster: "dev"}
	if f != nil {
		o := schedule.Options{NewSecret: func() cluster.Secret { return "generated" }, Cloud: w.service.ID()}
		for _, x := range w.workers {
			o.Hypervisors = append(o.Hypervisors, x.Name())
		}
		var err error
		if want, err = schedule.Place(*f, have, o); err != nil {
			return plan.Plan{}, err
		}
	}
	return plan.Diff(have, want)
}

func (w *world) run(p plan.Plan) apply.Result {
	workers := map[string]hypervisor.Worker{}
	for _, x := range w.workers {
		workers[x.Name()] = x
	}
	return apply.Run(context.Background(), p, workers, enrol.Enroller(w.service), apply.Options{})
}

func (w *world) calls() int {
	n := w.service.calls
	for _, x := range w.workers {
		n += x.Calls()
	}
	return n
}

// apply makes the cluster what f says, without a fault, and checks that there
// is nothing left to do.
func (w *world) apply(f *config.File) {
	w.t.Helper()
	p, err := w.plan(f)
	if err != nil {
		w.t.Fatalf("plan: %v", err)
	}
	if r := w.run(p); r.Errs != nil || r.Failed+r.Skipped > 0 {
		w.t.Fatalf("run: %+v\nplan:\n%s", r, p)
	}
	again, err := w.plan(f)
	if err != nil {
		w.t.Fatalf("plan again: %v", err)
	}
	if !again.Empty() {
		w.t.Fatalf("after:\n%s\nthere is still to do:\n%s", p, again)
	}
}

// faults makes every call from the n-th on fail, wherever it is: as if Tenks
// were killed there.
func (w *world) faults(n int) {
	count := make(chan int, 1)
	count <- 0
	fail := func(int, plan.Step) error {
		c := <-count + 1
		count <- c
		if c >= n {
			return errors.New("killed")
		}
		return nil
	}
	w.service.fail = fail
	for _, x := range w.workers {
		x.Fail = fail
	}
}

func (w *world) noFaults() {
	w.service.fail = nil
	for _, x := range w.workers {
		x.Fail = nil
	}
}

const gib = 1 << 30

// types are fixed but for what a file may change of them.
var networks = []string{"provision", "storage", "a-network-with-a-long-name"}

// file draws a cluster file. The provider goes with the type and a spec's type
// with its name, since a node cannot change its provider.
func file(t *rapid.T, label string) *config.File {
	f := &config.File{Cluster: "dev", Ironic: &config.Ironic{DeployKernel: rapid.SampledFrom([]string{"", "http://k"}).Draw(t, label+"kernel")}}
	for i, name := range networks {
		uplinks := []string{"", "eth0", "eth1", "eth2"}
		pn := config.PhysicalNetwork{Name: name}
		if rapid.Bool().Draw(t, label+"uplinked") {
			pn.Uplink = uplinks[1+(i+rapid.IntRange(0, 2).Draw(t, label+"uplink"))%3]
		}
		if slices.ContainsFunc(f.PhysicalNetworks, func(o config.PhysicalNetwork) bool { return o.Uplink == pn.Uplink }) {
			pn.Uplink = "" // a NIC is in one bridge only
		}
		f.PhysicalNetworks = append(f.PhysicalNetworks, pn)
	}
	for _, s := range []struct{ spec, provider, prefix string }{
		{"metal", cluster.Libvirt, "dev-"}, {"paper", cluster.Synthetic, "dev-"}, {"other", cluster.Libvirt, "other"},
	} {
		if !rapid.Bool().Draw(t, label+"spec") {
			continue
		}
		typ := config.NodeType{
			Name: s.spec + rapid.SampledFrom([]string{"-s", "-l"}).Draw(t, label+"type"), Provider: s.provider, Driver: "ipmi",
			VCPUs: rapid.IntRange(1, 3).Draw(t, label+"vcpus"), MemoryMB: 1024, BootMode: cluster.BootUEFI,
			Networks: rapid.SliceOfNDistinct(rapid.SampledFrom(networks), 0, 3, rapid.ID).Draw(t, label+"networks"),
		}
		for range rapid.IntRange(0, 2).Draw(t, label+"volumes") {
			typ.Volumes = append(typ.Volumes, 2*gib)
		}
		spec := config.Spec{Name: s.spec, Type: typ.Name, Count: rapid.IntRange(0, 4).Draw(t, label+"count"), NamePrefix: s.prefix}
		if rapid.Bool().Draw(t, label+"ironic") {
			spec.Ironic = &config.IronicNodes{ResourceClass: "baremetal", Traits: rapid.SampledFrom([][]string{nil, {"CUSTOM_B", "CUSTOM_A"}}).Draw(t, label+"traits")}
		}
		f.NodeTypes, f.Specs = append(f.NodeTypes, typ), append(f.Specs, spec)
	}
	f.BMC = config.BMC{Pool: "127.64.0.0/24", Username: "admin", Password: cluster.Secret(rapid.SampledFrom([]string{"", "given"}).Draw(t, label+"password"))}
	if rapid.Bool().Draw(t, label+"ports") {
		f.BMC = config.BMC{Address: "127.0.0.1", FirstPort: 6230, LastPort: 6250, Username: "root"}
	}
	return f
}

func drawWorld(t *rapid.T) *world { return newWorld(t, rapid.IntRange(1, 3).Draw(t, "hypervisors")) }

func TestConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for i := range 3 {
			f := file(t, fmt.Sprint("file", i, " "))
			w.apply(f)
			before := w.calls()
			p, err := w.plan(f)
			if err != nil {
				t.Fatal(err)
			}
			w.run(p)
			if n := w.calls() - before; n != 0 {
				t.Fatalf("a second apply made %d calls that change something", n)
			}
		}
	})
}

// The cluster that is there is the one that the file asks for, not just one
// that Diff is content with.
func TestBuildsWhatIsAskedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.apply(file(t, "before "))
		f := file(t, "after ")
		w.apply(f)
		s := w.observe()
		for _, spec := range f.Specs {
			typ := f.NodeTypes[slices.IndexFunc(f.NodeTypes, func(x config.NodeType) bool { return x.Name == spec.Type })]
			count := 0
			for _, n := range s.Nodes {
				if n.Spec != spec.Name {
					continue
				}
				count++
				if n.Provider != typ.Provider || n.VCPUs != typ.VCPUs || len(n.Volumes) != len(typ.Volumes) || len(n.Ports) != len(typ.Networks) {
					t.Errorf("node %+v is not of type %+v", n, typ)
				}
				for i, p := range n.Ports {
					if p.Network != typ.Networks[i] {
						t.Errorf("node %s: port %d is on %s, not %s", n.Name, i, p.Network, typ.Networks[i])
					}
				}
				if slices.Contains(w.service.names(), n.Name) != (spec.Ironic != nil) {
					t.Errorf("node %s: enrolled %v, asked for %v", n.Name, spec.Ironic == nil, spec.Ironic != nil)
				}
			}
			if count != spec.Count {
				t.Errorf("spec %s has %d nodes, not %d", spec.Name, count, spec.Count)
			}
		}
		if len(s.BMCs) != len(s.Nodes) {
			t.Errorf("%d BMCs for %d nodes", len(s.BMCs), len(s.Nodes))
		}
		unique(t, s)
	})
}

func unique(t *rapid.T, s cluster.State) {
	seen := map[string]bool{}
	once := func(what string) {
		if seen[what] {
			t.Errorf("%s is there twice", what)
		}
		seen[what] = true
	}
	for _, n := range s.Nodes {
		once("node " + n.Name)
		once("UUID " + n.UUID)
		for _, p := range n.Ports {
			once("MAC " + p.MAC)
		}
	}
	for _, b := range s.BMCs {
		once(fmt.Sprint("BMC address ", b.Address, b.Port))
	}
	for _, x := range s.Taps {
		once("link " + x.Name + " on " + x.Hypervisor)
	}
	for _, n := range s.Networks {
		once("link " + n.Bridge + " on " + n.Hypervisor)
	}
}

func TestConvergesAfterKill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.apply(file(t, "before "))
		f := file(t, "after ")
		for range rapid.IntRange(1, 3).Draw(t, "kills") {
			w.faults(rapid.IntRange(1, 30).Draw(t, "killed at"))
			p, err := w.plan(f)
			if err != nil {
				t.Fatal(err)
			}
			w.run(p)
		}
		w.noFaults()
		w.apply(f)
	})
}

func TestDestroyLeavesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.apply(file(t, "file "))
		if rapid.Bool().Draw(t, "killed before") {
			w.faults(rapid.IntRange(1, 20).Draw(t, "killed at"))
			f := file(t, "then ")
			p, err := w.plan(f)
			if err != nil {
				t.Fatal(err)
			}
			w.run(p)
			w.noFaults()
		}
		w.apply(nil)
		empty := cluster.State{Cluster: "dev"}
		if diff := cmp.Diff(empty, w.observe(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("left behind:\n%s", diff)
		}
	})
}

// A node's identity does not depend on what the other specs ask for.
func TestIdentityIsForLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		before := file(t, "before ")
		w.apply(before)
		old := identities(w.observe())
		after := file(t, "after ")
		w.apply(after)
		now := identities(w.observe())
		for _, s := range before.Specs {
			i := slices.IndexFunc(after.Specs, func(x config.Spec) bool { return x.Name == s.Name })
			if i < 0 {
				continue
			}
			was, is := old[s.Name], now[s.Name]
			keep := min(s.Count, after.Specs[i].Count)
			if len(was) < keep || len(is) < keep {
				t.Fatalf("spec %s: %d and %d nodes, wanted at least %d", s.Name, len(was), len(is), keep)
			}
			kept := 0
			for name, id := range was {
				if other, there := is[name]; there {
					kept++
					if other.UUID != id.UUID || other.Hypervisor != id.Hypervisor || other.Serial != id.Serial {
						t.Errorf("node %s was %+v and is %+v", name, id, other)
					}
					for p := range min(len(id.Ports), len(other.Ports)) {
						if id.Ports[p].MAC != other.Ports[p].MAC {
							t.Errorf("node %s: MAC of port %d was %s and is %s", name, p, id.Ports[p].MAC, other.Ports[p].MAC)
						}
					}
				}
			}
			if kept != keep {
				t.Errorf("spec %s: %d of %d nodes were kept, should be %d", s.Name, kept, len(was), keep)
			}
		}
	})
}

func identities(s cluster.State) map[string]map[string]cluster.Node {
	m := map[string]map[string]cluster.Node{}
	for _, n := range s.Nodes {
		if m[n.Spec] == nil {
			m[n.Spec] = map[string]cluster.Node{}
		}
		m[n.Spec][n.Name] = n
	}
	return m
}

// While part of the world is unknown nothing of that part changes, and when it
// is back nothing has to be mended that would not have had to be otherwise.
func TestUnknownIsLeftAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.apply(file(t, "before "))
		victim := w.workers[rapid.IntRange(0, len(w.workers)-1).Draw(t, "victim")]
		was, _ := victim.Observe(context.Background(), "dev")
		enrolled := w.service.names()
		hosted := map[string]bool{}
		for _, n := range was.Nodes {
			hosted[n.Name] = true
		}
		mode := rapid.SampledFrom([]string{"host", "libvirt", "service"}).Draw(t, "unknown")
		switch mode {
		case "host":
			victim.Down = errors.New("no route to host")
		case "libvirt":
			victim.Unknown = map[string]string{cluster.Libvirt: "libvirtd does not run"}
		case "service":
			w.service.down = errors.New("503")
		}
		var f *config.File
		if !rapid.Bool().Draw(t, "destroy") {
			f = file(t, "after ")
		}
		p, err := w.plan(f)
		if err != nil {
			t.Skip(err)
		}
		if len(p.Unknown) != 1 {
			t.Fatalf("unknown: %+v", p.Unknown)
		}
		if r := w.run(p); r.Errs != nil {
			t.Fatalf("%v\n%s", r.Errs, p)
		}
		victim.Down, victim.Unknown, w.service.down = nil, nil, nil
		is, _ := victim.Observe(context.Background(), "dev")
		switch mode {
		case "host":
			if diff := cmp.Diff(was, is); diff != "" {
				t.Errorf("the unknown hypervisor was changed: %s\n%s", diff, p)
			}
		case "libvirt":
			for _, n := range was.Nodes {
				if n.Provider == cluster.Libvirt && !slices.ContainsFunc(is.Nodes, func(x cluster.Node) bool { return cmp.Equal(n, x) }) {
					t.Errorf("node %s of the unknown provider was changed\n%s", n.Name, p)
				}
			}
			if len(is.Taps) < len(was.Taps) || len(is.Pools) < len(was.Pools) || len(is.Networks) < len(was.Networks) {
				t.Errorf("what unknown nodes stand on was removed\n%s", p)
			}
		case "service":
			if diff := cmp.Diff(enrolled, w.service.names()); diff != "" {
				t.Errorf("enrolments were changed: %s", diff)
			}
		}
		if mode != "service" {
			for _, name := range enrolled {
				if hosted[name] && was.Nodes != nil && mode == "host" && !slices.Contains(w.service.names(), name) {
					t.Errorf("node %s is unknown and was unenrolled", name)
				}
			}
		}
		w.apply(f)
	})
}
