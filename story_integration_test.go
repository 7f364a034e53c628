//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/test/ironic"
	"github.com/tenks/tenks/test/sandbox"
)

const storyFile = `cluster: story
physical_networks:
  prov: {}
node_types:
  old: {memory: 256MiB, volumes: [{size: 1GiB}], physical_networks: [prov], boot_mode: bios}
  new: {memory: 256MiB, volumes: [{size: 1GiB}], physical_networks: [prov], boot_mode: uefi}
  fake: {provider: synthetic, memory: 8GiB, volumes: [{size: 10GiB}], physical_networks: [prov]}
specs:
  - {type: old, count: 1, ironic: {resource_class: old, traits: [CUSTOM_OLD]}}
  - {type: new, count: 1, ironic: {resource_class: new}}
  - {type: fake, count: 1, ironic: {resource_class: fake}}
ironic:
  cloud: lab
  deploy_kernel: http://198.18.99.1/kernel
  deploy_ramdisk: http://198.18.99.1/ramdisk
`

// story is a host with a tenks binary and an Ironic.
type story struct {
	*testing.T
	host   *sandbox.Host
	ironic *ironic.Ironic
	dir    string
	env    []string
	client http.Client
}

func newStory(t *testing.T) *story {
	s := &story{T: t, dir: t.TempDir()}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(s.dir, "tenks"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s.host = sandbox.Start(t, sandbox.Options{Libvirt: true})
	s.ironic = ironic.Start(t, ironic.Options{Command: s.host.Command, Fast: true, Debug: true})
	s.env = []string{"OS_CLIENT_CONFIG_FILE=" + s.ironic.CloudsYAML("lab")}
	s.client.Transport = &http.Transport{DialContext: s.host.Dial, DisableKeepAlives: true}
	s.write("story.yaml", storyFile)
	return s
}

func (s *story) write(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
	return path
}

// command is tenks on the host, with the story's file.
func (s *story) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := s.host.Command(ctx, filepath.Join(s.dir, "tenks"), args...)
	cmd.Env = append(cmd.Env, s.env...)
	return cmd
}

// try runs tenks and returns all it prints, and how it ended.
func (s *story) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.Context(), 4*time.Minute)
	defer cancel()
	out, err := s.command(ctx, args...).CombinedOutput()
	s.Logf("$ tenks %s\n%s", strings.Join(args, " "), out)
	return string(out), err
}

// tenks runs tenks, which must succeed.
func (s *story) tenks(args ...string) string {
	s.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.Fatalf("tenks %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// call asks Ironic.
func (s *story) call(method, path string, body any) map[string]any {
	s.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			s.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(s.Context(), method, s.ironic.URL+path, in)
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("X-OpenStack-Ironic-API-Version", "1.72")
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil && method == http.MethodGet { // a worker of the API may have been replaced
		resp, err = s.client.Do(req)
	}
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 300 {
		s.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	out := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			s.Fatal(err)
		}
	}
	return out
}

// await polls until ok says that it is so.
func (s *story) await(what string, limit time.Duration, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Second) {
		if ok() {
			return
		}
	}
	s.Fatalf("after %v: not %s", limit, what)
}

// fingerprint is everything on the host that Tenks could have touched.
func (s *story) fingerprint() map[string][]string {
	s.Helper()
	lines := func(name string, args ...string) []string {
		return strings.Split(strings.TrimSpace(s.host.Run(name, args...)), "\n")
	}
	nodes := func(kind string) []string {
		var out []string
		for _, n := range s.call("GET", "/v1/"+kind, nil)[kind].([]any) {
			out = append(out, n.(map[string]any)["uuid"].(string))
		}
		slices.Sort(out)
		return out
	}
	return map[string][]string{
		"links":     lines("ip", "-o", "link"),
		"addresses": lines("ip", "-o", "address"),
		"routes":    lines("ip", "route", "show", "table", "all"),
		"domains":   lines("virsh", "-q", "list", "--all", "--name"),
		"pools":     lines("virsh", "-q", "pool-list", "--all", "--name"),
		"files":     lines("sh", "-c", "find /var/lib/libvirt /etc/libvirt/qemu /var/lib/tenks /run/libvirt ! -path '*/capabilities*' ! -path /etc/libvirt/qemu 2>/dev/null | sort"),
		"processes": lines("sh", "-c", "ps -e -o args= | grep -v -e 'ps -e' -e '^sleep ' -e ironic -e '^sh ' -e '^sort$' -e defunct | sort"),
		"nodes":     nodes("nodes"),
		"ports":     nodes("ports"),
	}
}

// TestStory is what Tenks is for: a file, real machines that Ironic takes for
// hardware, one of which boots over the network, and back to a clean host.
func TestStory(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := filepath.Join(s.dir, "story.yaml")

	s.tenks("apply", "-f", file)
	if out := s.tenks("apply", "-f", file); !strings.Contains(out, "nothing to do") {
		t.Error("a second apply found something to do")
	}
	var status struct {
		Nodes []struct {
			Node, Power, Ironic string
			MACs                []string
			BMC                 struct {
				Address, Username string
				Serving           bool
			}
		}
	}
	if err := json.Unmarshal([]byte(s.tenks("status", "-f", file, "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Nodes) != 3 {
		t.Fatalf("%d nodes", len(status.Nodes))
	}
	for _, n := range status.Nodes {
		if n.Ironic != "available" || n.Power != "off" || !n.BMC.Serving || len(n.MACs) != 1 {
			t.Errorf("status says %+v", n)
		}
		if state := s.call("GET", "/v1/nodes/"+n.Node, nil)["provision_state"]; state != "available" {
			t.Errorf("Ironic says that %s is %v", n.Node, state)
		}
	}

	stop := s.netboot()
	// Ironic, and nobody else, sets the boot device and switches the node on.
	s.call("PUT", "/v1/nodes/story-0/management/boot_device", map[string]any{"boot_device": "pxe", "persistent": false})
	s.call("PUT", "/v1/nodes/story-0/states/power", map[string]any{"target": "power on"})
	s.await("on, for Ironic", time.Minute, func() bool {
		return s.call("GET", "/v1/nodes/story-0", nil)["power_state"] == "power on"
	})
	s.console("story-0", "TENKS BOOT LOADER", 2*time.Minute)

	// The others answer too: to ipmitool, with the file that Tenks wrote.
	s.call("PUT", "/v1/nodes/story-2/states/power", map[string]any{"target": "power on"})
	ipmi := s.host.Run("ipmitool", "-I", "lanplus", "-H", status.Nodes[1].BMC.Address, "-U", status.Nodes[1].BMC.Username,
		"-f", "/var/lib/tenks/story/bmc-password", "power", "on")
	if !strings.Contains(ipmi, "Up/On") {
		t.Errorf("ipmitool says %q", ipmi)
	}
	s.console("story-1", "BdsDxe", 2*time.Minute)
	s.await("all on", time.Minute, func() bool {
		out, err := s.try("status", "-f", file)
		return err == nil && strings.Count(out, " on ") == 3
	})

	stop()
	s.tenks("destroy", "story", "--yes")
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// netboot runs DHCP and TFTP on the provisioning bridge, with a boot loader
// that says a line on the serial port. The caller stops it.
func (s *story) netboot() (stop func()) {
	s.Helper()
	root := filepath.Join(s.dir, "tftp")
	for _, f := range []string{"/usr/lib/PXELINUX/pxelinux.0", "/usr/lib/syslinux/modules/bios/ldlinux.c32"} {
		b, err := os.ReadFile(f)
		if err != nil {
			s.Fatalf("%v: install pxelinux and syslinux-common", err)
		}
		if err := os.MkdirAll(filepath.Join(root, "pxelinux.cfg"), 0o755); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, filepath.Base(f)), b, 0o644); err != nil {
			s.Fatal(err)
		}
	}
	s.write("tftp/pxelinux.cfg/default", "SERIAL 0 115200\nSAY TENKS BOOT LOADER\nPROMPT 1\nTIMEOUT 0\nDEFAULT none\n")
	s.host.Run("ip", "address", "add", "198.18.99.1/24", "dev", "br-story-prov")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := s.host.Command(ctx, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--interface=br-story-prov", "--bind-interfaces",
		"--except-interface=lo", "--port=0", "--dhcp-range=198.18.99.100,198.18.99.200,1h", "--dhcp-boot=pxelinux.0",
		"--enable-tftp", "--tftp-root="+root, "--dhcp-leasefile="+filepath.Join(s.dir, "leases"), "--user=root", "--log-dhcp")
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait()
		if s.Failed() {
			s.Logf("dnsmasq: %s", out.String())
		}
	})
	s.Cleanup(stop)
	return stop
}

// console reads the node's console through tenks until it says text.
func (s *story) console(node, text string, limit time.Duration) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), limit)
	defer cancel()
	cmd := s.command(ctx, "console", node, "--cluster", "story")
	keep, err := cmd.StdinPipe() // open for as long as we read
	if err != nil {
		s.Fatal(err)
	}
	defer keep.Close()
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	for ctx.Err() == nil && !strings.Contains(out.String(), text) {
		time.Sleep(200 * time.Millisecond)
	}
	if ctx.Err() != nil {
		s.Fatalf("console of %s: no %q in %v:\n%s", node, text, limit, out.String())
	}
}

// output is a buffer that can be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// TestKill pulls the plug of apply again and again: apply, run again, always
// converges, and destroy leaves nothing, also after a killed destroy.
func TestKill(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := filepath.Join(s.dir, "story.yaml")
	for _, after := range []time.Duration{100, 300, 600, 1000, 1800, 3000} {
		ctx, cancel := context.WithTimeout(s.Context(), after*time.Millisecond)
		out, err := s.command(ctx, "apply", "-f", file).CombinedOutput()
		t.Logf("killed after %d ms: %v\n%s", after, err, out)
		cancel()
	}
	s.tenks("apply", "-f", file)
	if out := s.tenks("apply", "-f", file); !strings.Contains(out, "nothing to do") {
		t.Error("apply after the kills did not converge")
	}
	for _, after := range []time.Duration{200, 700, 1500} {
		ctx, cancel := context.WithTimeout(s.Context(), after*time.Millisecond)
		out, err := s.command(ctx, "destroy", "story", "--yes").CombinedOutput()
		t.Logf("destroy killed after %d ms: %v\n%s", after, err, out)
		cancel()
	}
	if out, err := s.try("destroy", "story", "--yes"); err != nil {
		t.Fatalf("destroy: %v\n%s", err, out)
	}
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// TestStrangers has names taken by others: apply stops before it changes
// anything, and says whose the names are.
func TestStrangers(t *testing.T) {
	s := newStory(t)
	file := filepath.Join(s.dir, "story.yaml")
	s.host.Run("ip", "link", "add", "br-story-prov", "type", "bridge")
	s.write("domain.xml", "<domain type='qemu'><name>story-1</name><memory>65536</memory><os><type>hvm</type></os></domain>")
	s.host.Run("virsh", "-q", "define", filepath.Join(s.dir, "domain.xml"))
	s.call("POST", "/v1/nodes", map[string]any{"name": "story-2", "driver": "fake-hardware"})
	before := s.fingerprint()

	out, err := s.try("apply", "-f", file)
	if err == nil {
		t.Error("apply succeeded")
	}
	for _, want := range []string{"br-story-prov", "story-1", "story-2", "not made by Tenks"} {
		if !strings.Contains(out, want) {
			t.Errorf("apply does not name %s", want)
		}
	}
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		t.Errorf("apply has changed something (-before +after):\n%s", diff)
	}
	s.tenks("destroy", "story", "--yes")
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		t.Errorf("destroy has changed something (-before +after):\n%s", diff)
	}
}

// TestIronicDown has no Ironic to talk to: the machines come up all the same,
// the exit status says that something is missing, and a later apply enrols.
func TestIronicDown(t *testing.T) {
	s := newStory(t)
	file := filepath.Join(s.dir, "story.yaml")
	good := s.env
	s.env = []string{"OS_CLIENT_CONFIG_FILE=" + s.write("clouds.yaml", "clouds: {lab: {auth_type: none, auth: {endpoint: 'http://127.0.0.1:9'}}}\n")}
	out, err := s.try("apply", "-f", file)
	if err == nil || !strings.Contains(out, "unknown: Ironic") {
		t.Errorf("apply without Ironic: %v", err)
	}
	if out, _ := s.try("status", "story"); strings.Count(out, "story-") < 3 {
		t.Error("the machines are not there")
	}
	s.env = good
	s.tenks("apply", "-f", file)
	if got := fmt.Sprint(s.call("GET", "/v1/nodes/story-0", nil)["provision_state"]); got != "available" {
		t.Errorf("story-0 is %s", got)
	}
	s.tenks("destroy", "story", "--yes")
}
