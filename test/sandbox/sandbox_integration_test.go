//go:build integration

package sandbox_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenks/tenks/test/sandbox"
)

func TestHost(t *testing.T) {
	h := sandbox.Start(t, sandbox.Options{Name: "hv1"})
	if got := strings.TrimSpace(h.Run("hostname")); got != "hv1" {
		t.Errorf("host name %q", got)
	}
	if got := h.Run("getent", "hosts", "hv1"); !strings.Contains(got, "127.0.0.1") {
		t.Errorf("own name: %q", got)
	}
	h.Run("ip", "link", "add", "tk-sandbox", "type", "bridge")
	if _, err := net.InterfaceByName("tk-sandbox"); err == nil {
		t.Error("a link of the sandbox is the machine's")
	}
	h.Run("sh", "-c", "echo x >/run/x && echo x >/var/lib/tenks/x && echo x >/var/log/x")
	for _, f := range []string{"run/x", "tenks/x", "log/x"} {
		if _, err := os.Stat(filepath.Join(h.Dir(), f)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat("/run/x"); err == nil {
		t.Error("/run is the machine's")
	}
	// What the command cannot end by itself ends with its context.
	ctx, cancel := context.WithCancel(t.Context())
	cmd := h.Command(ctx, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := h.Process(cmd)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = cmd.Wait()
	for range 100 {
		if p.Signal(syscall.Signal(0)) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the program outlives its context")
}

func TestLibvirt(t *testing.T) {
	h := sandbox.Start(t, sandbox.Options{Libvirt: true})
	for range 2 {
		out, err := exec.Command("virsh", "-c", "qemu+unix:///system?socket="+h.LibvirtSocket(), "hostname").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != "sandbox" {
			t.Fatalf("%v: %s", err, got)
		}
		if got := h.Run("virsh", "capabilities"); strings.Contains(got, "domain type='kvm'") {
			t.Error("KVM is not hidden")
		}
		h.RestartLibvirtd()
	}
	h.StopLibvirtd()
	if _, err := net.Dial("unix", h.LibvirtSocket()); err == nil {
		t.Error("libvirtd still answers")
	}
}
