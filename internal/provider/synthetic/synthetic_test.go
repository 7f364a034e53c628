package synthetic_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/machine"
	"github.com/tenks/tenks/internal/provider/synthetic"
)

var node = cluster.Node{Name: "n0", Provider: cluster.Synthetic, Spec: "s", Type: "t", UUID: cluster.UUID("c", "node", "n0"), VCPUs: 1, MemoryMB: 1024}

// The BMC process is another process than the worker: what the one writes the
// other finds, and what it had is still there after a restart.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	worker, bmc := &synthetic.Provider{Dir: dir}, &synthetic.Provider{Dir: dir}
	hw := bmc.Hardware("c", "n0", node.UUID)
	if _, err := hw.On(); err == nil {
		t.Error("a node that does not exist has a power state")
	}
	if err := worker.Create(ctx, "c", node); err != nil {
		t.Fatal(err)
	}
	if err := hw.Start(ctx, machine.Boot{}); err != nil {
		t.Fatal(err)
	}
	// A second Create, as after an interrupted apply, leaves the power alone.
	if err := worker.Create(ctx, "c", node); err != nil {
		t.Fatal(err)
	}
	found, err := worker.Observe(ctx, "c")
	if err != nil || len(found.Nodes) != 1 || found.Nodes[0].Power != cluster.PowerOn {
		t.Fatalf("found %+v, %v", found, err)
	}
	if on, err := (&synthetic.Provider{Dir: dir}).Hardware("c", "n0", node.UUID).On(); !on || err != nil {
		t.Errorf("after a restart: %v, %v", on, err)
	}
	if err := worker.Delete(ctx, "c", node); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "c")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestFail(t *testing.T) {
	broken := errors.New("broken")
	p := &synthetic.Provider{Fail: func(op, _ string) error {
		if op == "start" {
			return broken
		}
		return nil
	}}
	ctx := context.Background()
	if err := p.Create(ctx, "c", node); err != nil {
		t.Fatal(err)
	}
	hw := p.Hardware("c", "n0", node.UUID)
	if err := hw.Start(ctx, machine.Boot{}); !errors.Is(err, broken) {
		t.Errorf("start: %v", err)
	}
	if on, err := hw.On(); on || err != nil {
		t.Errorf("on after a start that failed: %v, %v", on, err)
	}
	if err := hw.Interrupt(ctx); !errors.Is(err, machine.ErrOff) {
		t.Errorf("interrupt: %v", err)
	}
}
