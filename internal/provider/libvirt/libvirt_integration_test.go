//go:build integration

package libvirt

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/provider"
	"github.com/tenks/tenks/internal/provider/providertest"
	"github.com/tenks/tenks/test/sandbox"
)

// host starts a hypervisor with taps, and a provider on it.
func host(t testing.TB) (*sandbox.Host, *Provider) {
	t.Helper()
	h := sandbox.Start(t, sandbox.Options{Libvirt: true})
	for _, tap := range providertest.Taps() {
		h.Run("ip", "tuntap", "add", "dev", tap, "mode", "tap")
	}
	p := New(Options{Socket: h.LibvirtSocket(), Silence: 30 * time.Second})
	t.Cleanup(func() { _ = p.Close() })
	return h, p
}

func TestSuite(t *testing.T) {
	_, p := host(t)
	providertest.Run(t, func(*testing.T) (provider.Provider, provider.Controls) { return p, p })
}

const testCluster = "dev"

// testNode is a node with one volume and one NIC; taps are those of providertest.
func testNode(i int) cluster.Node {
	name := fmt.Sprintf("dev-%d", i)
	return cluster.Node{
		Name: name, Provider: cluster.Libvirt, Spec: "spec", Type: "small", VCPUs: 1, MemoryMB: 64, BootMode: cluster.BootBIOS,
		UUID: cluster.UUID(testCluster, "node", name), Serial: cluster.Serial(testCluster, name),
		Volumes: []cluster.Volume{{Name: name + "-vol0", Pool: cluster.PoolName(testCluster), Size: 1 << 30}},
		Ports:   []cluster.Port{{MAC: cluster.MAC(testCluster, name, 0, 0), Network: "net0", Tap: providertest.Taps()[i%10]}},
	}
}

func makePool(t testing.TB, p *Provider) {
	t.Helper()
	err := p.CreatePool(t.Context(), testCluster, cluster.Pool{Name: cluster.PoolName(testCluster), UUID: cluster.PoolUUID(testCluster)})
	if err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run keeps p's power states up to date until the end of the test.
func run(t testing.TB, p *Provider) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Run(ctx, func() { close(ready) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case <-time.After(30 * time.Second):
		t.Fatal("Run is not ready")
	}
}
