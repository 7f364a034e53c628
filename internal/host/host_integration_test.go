//go:build integration

package host_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/host"
	"github.com/tenks/tenks/test/sandbox"
)

const socket = "/run/libvirt/libvirt-sock"

// TestMachine: Setup on a machine that has the packages but nothing else, with
// libvirt's stock configuration and without systemd, D-Bus and polkit. Then
// Setup has nothing to do, doctor finds no problem, and the user of the BMC
// processes can use libvirt.
func TestMachine(t *testing.T) {
	h := sandbox.Start(t, sandbox.Options{Name: "hv1"})
	// What Setup and the daemons write is not the machine's.
	layers := t.TempDir()
	for _, dir := range []string{"/etc", "/var/lib/libvirt", "/var/cache/libvirt"} {
		upper, work := filepath.Join(layers, dir, "upper"), filepath.Join(layers, dir, "work")
		if err := os.MkdirAll(upper, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(work, 0o755); err != nil {
			t.Fatal(err)
		}
		h.Run("mount", "-t", "overlay", "-o", fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work), "overlay", dir)
	}
	h.Run("sh", "-c", `printf '127.0.0.1 localhost hv1\n' >/etc/hosts; : >/etc/resolv.conf
		sed -i '/^tenks:/d; s/,tenks$//; s/:tenks$/:/' /etc/passwd /etc/group /etc/shadow /etc/gshadow
		sed -i '/^unix_sock_group/d; /^unix_sock_rw_perms/d; /^auth_unix_rw/d' /etc/libvirt/libvirtd.conf
		mkdir -p /run/libvirt /var/log/libvirt/qemu`) // as they were before anybody set this machine up
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}

	out := inside(t, h, "setup")
	for _, want := range []string{"create system user tenks in group libvirt", "let group libvirt use libvirtd", "start virtlogd", "start libvirtd", "changed: true"} {
		if !strings.Contains(out, want) {
			t.Errorf("setup does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "install") {
		t.Errorf("packages are missing here:\n%s", out)
	}
	if out = inside(t, h, "setup"); out != "changed: false\n" {
		t.Errorf("the second time:\n%s", out)
	}
	h.Run("runuser", "-u", "tenks", "--", "virsh", "-q", "-c", "qemu+unix:///system?socket="+socket, "list")

	out = inside(t, h, "doctor")
	t.Log(out)
	if strings.Contains(out, "problem") {
		t.Error("doctor finds a problem on a machine that was set up")
	}
	for _, want := range []string{"ok all programs and firmware are installed", "ok libvirt answers", "ok user tenks runs", "ok the kernel makes bridges",
		"ok /dev/net/tun works", "ok this machine knows its own name", "ok PID 1 clears away"} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q", want)
		}
	}
	if after, err := os.ReadFile("/etc/passwd"); err != nil || string(after) != string(before) {
		t.Errorf("the test has changed the machine's users: %v", err)
	}

	// With stock configuration and libvirt up, the user is kept out, doctor
	// sees that, and Setup mends it while libvirt runs.
	h.Run("sh", "-c", `sed -i '/^unix_sock_group/d; /^unix_sock_rw_perms/d; /^auth_unix_rw/d' /etc/libvirt/libvirtd.conf; kill $(cat /run/libvirtd.pid); sleep 1; libvirtd -d; sleep 2`)
	if err := h.Command(t.Context(), "runuser", "-u", "tenks", "--", "virsh", "-q", "-c", "qemu+unix:///system?socket="+socket, "list").Run(); err == nil {
		t.Fatal("the user gets through without polkit: the check for that is of no use")
	}
	if out = inside(t, h, "doctor"); !strings.Contains(out, "problem user tenks") {
		t.Errorf("doctor does not see that the user is kept out:\n%s", out)
	}
	if out = inside(t, h, "setup"); !strings.Contains(out, "stop libvirtd") || !strings.Contains(out, "start libvirtd") || strings.Contains(out, "virtlogd") {
		t.Errorf("setup, with libvirt up:\n%s", out)
	}
	h.Run("runuser", "-u", "tenks", "--", "virsh", "-q", "-c", "qemu+unix:///system?socket="+socket, "list")
}

// inside runs TestInside on the host and returns what it prints.
func inside(t *testing.T, h *sandbox.Host, what string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out := filepath.Join(t.TempDir(), "out")
	cmd := h.Command(ctx, os.Args[0], "-test.run=^TestInside$")
	cmd.Env = append(cmd.Env, "TENKS_TEST_INSIDE="+what, "TENKS_TEST_OUT="+out)
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", what, err, log)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestInside is no test: TestMachine runs it on a host of its own.
func TestInside(t *testing.T) {
	what := os.Getenv("TENKS_TEST_INSIDE")
	if what == "" {
		t.Skip("is started by TestMachine")
	}
	o := host.Options{
		StateDir: "/var/lib/tenks", LibvirtSocket: socket, User: "tenks",
		Libvirt: func(ctx context.Context) error {
			out, err := exec.CommandContext(ctx, "virsh", "-q", "-c", "qemu+unix:///system?socket="+socket, "hostname").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		},
	}
	var b strings.Builder
	switch what {
	case "setup":
		changed, err := host.Setup(t.Context(), host.SetupOptions{Options: o, Say: func(l string) { fmt.Fprintln(&b, l) }})
		if err != nil {
			t.Fatalf("%v (hint: %s)\n%s", err, hint.Of(err), &b)
		}
		fmt.Fprintln(&b, "changed:", changed)
	case "doctor":
		for _, f := range host.Doctor(t.Context(), o) {
			fmt.Fprintln(&b, f.Severity, f.What, "|", f.Why, "|", f.Cure)
		}
	}
	if err := os.WriteFile(os.Getenv("TENKS_TEST_OUT"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
