package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/plan"
	"github.com/tenks/tenks/internal/schedule"
)

// large is a cluster file with n nodes that are enrolled.
func large(n, memory int) config.File {
	return config.File{
		Cluster:          "big",
		PhysicalNetworks: []config.PhysicalNetwork{{Name: "provision"}, {Name: "storage"}},
		NodeTypes: []config.NodeType{{
			Name: "small", Provider: cluster.Libvirt, VCPUs: 2, MemoryMB: memory, Volumes: []int64{6 << 30, 1 << 30},
			Networks: []string{"provision", "storage"}, BootMode: cluster.BootUEFI, Driver: "ipmi",
		}},
		Specs: []config.Spec{{Name: "small", Type: "small", Count: n, NamePrefix: "big-", Ironic: &config.IronicNodes{
			ResourceClass: "baremetal", Traits: []string{"CUSTOM_A", "CUSTOM_B"}}}},
		BMC:    config.BMC{Pool: "127.64.0.0/16", Username: "admin", Password: "s3cret"},
		Ironic: &config.Ironic{},
	}
}

func place(t testing.TB, f config.File, found cluster.State) cluster.State {
	t.Helper()
	want, err := schedule.Place(f, found, schedule.Options{Hypervisors: []string{"hv1", "hv2", "hv3"}, Cloud: "cloud:lab"})
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// scales are the plans of ten thousand nodes that people wait for: the first,
// the one that finds nothing to do, and one that changes every node.
func scales(t testing.TB, n int) map[string]func() plan.Plan {
	have := place(t, large(n, 1024), cluster.State{Cluster: "big"})
	for i := range 3 * n {
		have.Strangers = append(have.Strangers, cluster.Stranger{Hypervisor: "hv1", Kind: cluster.StrangerLink, Name: fmt.Sprint("eth", i), Owner: "not made by Tenks"})
	}
	made := func(f config.File, found cluster.State) func() plan.Plan {
		return func() plan.Plan {
			p, err := plan.Diff(found, place(t, f, found))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	destroy := func() plan.Plan {
		p, err := plan.Diff(have, cluster.State{Cluster: "big"})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	return map[string]func() plan.Plan{
		"create":  made(large(n, 1024), cluster.State{Cluster: "big"}),
		"nothing": made(large(n, 1024), have),
		"update":  made(large(n, 2048), have),
		"destroy": destroy,
	}
}

// A plan for 10,000 nodes takes under a second (DESIGN §7). The limit here is
// several times that, since a test may run beside others on a slow machine.
func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand nodes")
	}
	for name, work := range scales(t, 10_000) {
		began := time.Now()
		p := work()
		took := time.Since(began)
		if name == "nothing" && !p.Empty() {
			t.Errorf("nothing: %s", p)
		}
		t.Logf("%s: %v", name, took)
		if took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for name, work := range scales(b, 10_000) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				work()
			}
		})
	}
}
