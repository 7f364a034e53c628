package synthetic_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/machine"
	"github.com/tenks/tenks/internal/provider"
	"github.com/tenks/tenks/internal/provider/providertest"
	"github.com/tenks/tenks/internal/provider/synthetic"
)

func TestSuiteInMemory(t *testing.T) {
	providertest.Run(t, func(*testing.T) (provider.Provider, provider.Controls) {
		p := new(synthetic.Provider)
		return p, p
	})
}

// On disk the worker and the BMC process are two.
func TestSuiteOnDisk(t *testing.T) {
	providertest.Run(t, func(t *testing.T) (provider.Provider, provider.Controls) {
		dir := t.TempDir()
		return &synthetic.Provider{Dir: dir}, &synthetic.Provider{Dir: dir}
	})
}

// A node of the same name that is another node is not for this BMC.
func TestOtherUUID(t *testing.T) {
	for _, p := range []*synthetic.Provider{{}, {Dir: t.TempDir()}} {
		hw := p.Hardware("c", node.Name, node.UUID)
		if err := p.Create(t.Context(), "c", node); err != nil {
			t.Fatal(err)
		}
		if _, err := hw.On(); err != nil {
			t.Fatal(err)
		}
		other := node
		other.UUID = cluster.UUID("c", "node", "other")
		if err := p.Update(t.Context(), "c", node, other); err != nil {
			t.Fatal(err)
		}
		if _, err := hw.On(); err == nil || !strings.Contains(err.Error(), other.UUID) {
			t.Errorf("on: %v", err)
		}
		if err := hw.Start(t.Context(), machine.Boot{}); err == nil {
			t.Error("somebody else's node has been started")
		}
	}
}

// A definition that cannot be read makes the nodes unknown, not absent.
func TestDamagedDefinition(t *testing.T) {
	dir := t.TempDir()
	p := &synthetic.Provider{Dir: dir}
	if err := p.Create(t.Context(), "c", node); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c", "synthetic", "n0.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Observe(t.Context(), "c"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("observe: %v", err)
	}
	if err := p.Delete(t.Context(), "c", node); err != nil {
		t.Errorf("a damaged node cannot be deleted: %v", err)
	}
}

// Names that would lead out of the folder are refused.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	p := &synthetic.Provider{Dir: filepath.Join(dir, "root")}
	for _, name := range []string{"", ".", "..", "a/b", "../x", ".hidden"} {
		n := node
		n.Name = name
		if err := p.Create(t.Context(), "c", n); err == nil {
			t.Errorf("node %q has been created", name)
		}
		if err := p.Create(t.Context(), name, node); err == nil {
			t.Errorf("a node in cluster %q has been created", name)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "x.json")); err == nil {
		t.Error("a file outside")
	}
}

// Asking for the power is cheap: it is done for every packet.
func TestOnIsCheap(t *testing.T) {
	p := &synthetic.Provider{Dir: t.TempDir()}
	if err := p.Create(t.Context(), "c", node); err != nil {
		t.Fatal(err)
	}
	hw := p.Hardware("c", node.Name, node.UUID)
	const n = 1000
	began := time.Now()
	for range n {
		if _, err := hw.On(); err != nil {
			t.Fatal(err)
		}
	}
	if each := time.Since(began) / n; each > 500*time.Microsecond {
		t.Errorf("On takes %v", each)
	}
}

func BenchmarkOn(b *testing.B) {
	p := &synthetic.Provider{Dir: b.TempDir()}
	if err := p.Create(b.Context(), "c", node); err != nil {
		b.Fatal(err)
	}
	hw := p.Hardware("c", node.Name, node.UUID)
	for b.Loop() {
		_, _ = hw.On()
	}
}

func BenchmarkCreate(b *testing.B) {
	p := &synthetic.Provider{Dir: b.TempDir()}
	b.SetParallelism(4)
	names := make(chan string)
	go func() {
		for i := 0; ; i++ {
			names <- fmt.Sprintf("n%d", i)
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := node
			n.Name = <-names
			if err := p.Create(b.Context(), "c", n); err != nil {
				b.Fatal(err)
			}
		}
	})
}
