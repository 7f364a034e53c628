//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fleetFile is a cluster large enough for something to go wrong in the middle.
const fleetFile = `cluster: fleet
physical_networks:
  prov: {}
node_types:
  real: {memory: 128MiB, volumes: [{size: 1GiB}], physical_networks: [prov], boot_mode: bios}
specs:
  - {type: real, count: 8}
`

// clean applies the file, looks that nothing is left to do, destroys the cluster
// and compares the host with what it was before.
func (s *story) clean(file, cluster string, before map[string][]string) {
	s.Helper()
	s.tenks("apply", "-f", file)
	s.settled(file)
	s.tenks("destroy", cluster, "--yes")
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		s.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// settled checks that an apply finds nothing to do.
func (s *story) settled(file string) {
	s.Helper()
	if out := s.tenks("apply", "-f", file); out != "nothing to do\n" {
		s.Errorf("there is still to do:\n%s", out)
	}
}

// says checks that tenks has failed and that all of it is in what it said.
func (s *story) says(out string, err error, words ...string) {
	s.Helper()
	if err == nil {
		s.Error("tenks succeeded")
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.Errorf("tenks does not say %q", w)
		}
	}
}

// background starts tenks and returns when its output has the text.
func (s *story) background(text string, args ...string) (*output, func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	cmd := s.command(ctx, args...)
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		s.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for !strings.Contains(out.String(), text) {
		select {
		case err := <-ended:
			ended <- err
			cancel()
			s.Fatalf("tenks %s ended before it said %q: %v\n%s", strings.Join(args, " "), text, err, out.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return out, func() error {
		defer cancel()
		return <-ended
	}
}

// TestLibvirtdDies kills libvirtd in the middle of an apply and starts it again:
// the apply waits for it and goes on.
func TestLibvirtdDies(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := s.write("fleet.yaml", fleetFile)
	out, wait := s.background("+ node fleet-", "apply", "-f", file)
	s.host.SignalLibvirtd(syscall.SIGKILL)
	time.Sleep(2 * time.Second) // long enough for apply to notice
	// Meanwhile somebody else is told who is at work, and may look.
	busy, err := s.try("destroy", "fleet", "--yes")
	s.says(busy, err, `cluster "fleet" is being changed by "tenks apply" (process `, "hint: wait until it has ended")
	busy, err = s.try("status", "fleet")
	s.says(busy, err, "unknown: hypervisor local, libvirt")
	s.host.StartLibvirtd()
	err = wait()
	t.Logf("apply: %v\n%s", err, out)
	if err != nil {
		t.Error("apply did not survive a restart of libvirtd")
	}
	s.settled(file)

	// The BMCs have survived it too.
	s.power("fleet-0", "fleet", "on")
	s.host.RestartLibvirtd()
	s.await("on", time.Minute, func() bool {
		out, err := s.try("status", "fleet")
		return err == nil && strings.Contains(out, " on ")
	})
	s.power("fleet-0", "fleet", "off")
	s.clean(file, "fleet", before)
}

// power switches a node with ipmitool.
func (s *story) power(node, cluster, what string) {
	s.Helper()
	b := s.bmc(node, cluster)
	s.await("power "+what, time.Minute, func() bool {
		cmd := s.host.Command(s.Context(), "ipmitool", "-I", "lanplus", "-H", b.Address, "-p", fmt.Sprint(b.Port), "-U", b.Username,
			"-f", "/var/lib/tenks/"+cluster+"/bmc-password", "power", what)
		out, err := cmd.CombinedOutput()
		s.Logf("ipmitool power %s: %s", what, out)
		return err == nil
	})
}

type bmcStatus struct {
	Address, Username string
	Port              int
	Serving           bool
}

type nodeStatus struct {
	Node, Power, Ironic string
	MACs                []string
	BMC                 bmcStatus
}

func (s *story) status(cluster string) map[string]nodeStatus {
	s.Helper()
	var st struct{ Nodes []nodeStatus }
	if err := json.Unmarshal([]byte(s.tenks("status", cluster, "-o", "json")), &st); err != nil {
		s.Fatal(err)
	}
	nodes := map[string]nodeStatus{}
	for _, n := range st.Nodes {
		nodes[n.Node] = n
	}
	return nodes
}

func (s *story) bmc(node, cluster string) bmcStatus {
	s.Helper()
	n, there := s.status(cluster)[node]
	if !there || !n.BMC.Serving {
		s.Fatalf("node %s has no BMC: %+v", node, n)
	}
	return n.BMC
}

// TestLibvirtdDown has no libvirtd when the first apply runs, and when a later
// destroy does: both say so and what to do, and the same command works later.
func TestLibvirtdDown(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := s.write("fleet.yaml", strings.Replace(fleetFile, "specs:", "  fake: {provider: synthetic, memory: 4GiB}\nspecs:", 1)+"  - {type: fake, count: 2}\n")
	s.host.StopLibvirtd()
	began := time.Now()
	out, err := s.try("apply", "-f", file)
	s.says(out, err, "libvirt does not answer on /run/libvirt/libvirt-sock", "hint: start it", "storage pool tenks-fleet", "skipped")
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v to say that libvirt does not answer", took)
	}
	out, err = s.try("status", "fleet")
	s.says(out, err, "unknown: hypervisor local, libvirt: libvirt does not answer", "fake")
	s.host.StartLibvirtd()
	s.tenks("apply", "-f", file)
	s.settled(file)

	s.host.StopLibvirtd()
	out, err = s.try("plan", "-f", file)
	s.says(out, err, "unknown: hypervisor local, libvirt", "nothing to do but for what is unknown")
	out, err = s.try("destroy", "fleet", "--yes")
	s.says(out, err, "unknown: hypervisor local, libvirt")
	s.host.StartLibvirtd()
	if n := strings.Count(s.host.Run("virsh", "-q", "list", "--all", "--name"), "fleet-"); n != 8 {
		t.Errorf("%d domains are left by a destroy that could not know of them, not 8", n)
	}
	s.tenks("destroy", "fleet", "--yes")
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// TestLibvirtdHangs has a libvirtd that takes connections and never answers.
func TestLibvirtdHangs(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := s.write("fleet.yaml", fleetFile)
	s.tenks("apply", "-f", file)
	s.host.SignalLibvirtd(syscall.SIGSTOP)
	t.Cleanup(func() { s.host.SignalLibvirtd(syscall.SIGCONT) })
	began := time.Now()
	out, err := s.try("plan", "-f", file)
	s.says(out, err, "unknown: hypervisor local, libvirt", "no answer")
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("it took %v to say that libvirt hangs", took)
	}
	s.host.SignalLibvirtd(syscall.SIGCONT)
	s.clean(file, "fleet", before)
}

// TestDiskFull has no room for the volumes, and then for the BMC's files: apply
// names what did not fit and where; when there is room it goes on.
func TestDiskFull(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := s.write("fleet.yaml", fleetFile)
	for _, at := range []struct{ dir, little, enough string }{
		{"/var/lib/libvirt/images", "700k", "64m"}, // a blank qcow2 takes about 200 KB
		{"/var/lib/tenks", "1m", "128m"},
	} {
		s.host.Run("mount", "-t", "tmpfs", "-o", "mode=711,size="+at.little, "tmpfs", at.dir)
		out, err := s.try("apply", "-f", file)
		s.says(out, err, "o space left on device", "fleet-", "hint: make room on local", "failed")
		if strings.Contains(out, "\n\n") {
			t.Error("an error has more than one line")
		}
		s.host.Run("mount", "-o", "remount,size="+at.enough, at.dir)
		s.tenks("apply", "-f", file)
		s.settled(file)
		for name, n := range s.status("fleet") {
			if !n.BMC.Serving {
				t.Errorf("the BMC of %s does not run", name)
			}
		}
		s.power("fleet-7", "fleet", "on")
		s.tenks("destroy", "fleet", "--yes")
		s.host.Run("umount", at.dir)
		if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
			t.Errorf("the host is not as it was (-before +after):\n%s", diff)
		}
	}
}

// TestKillBoth kills apply and destroy at random moments and restarts libvirtd,
// at every other time while they run.
func TestKillBoth(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := s.write("fleet.yaml", strings.ReplaceAll(fleetFile, "count: 8", "count: 16"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	killed := 0
	for i := range 12 {
		args := []string{"apply", "-f", file}
		if i%3 == 2 {
			args = []string{"destroy", "fleet", "--yes"}
		}
		after := time.Duration(10+random.IntN(110)) * time.Millisecond // all of it takes about 200 ms
		ctx, cancel := context.WithTimeout(s.Context(), after)
		cmd := s.command(ctx, args...)
		out := &output{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			time.Sleep(after * 2 / 3)
			s.host.SignalLibvirtd(syscall.SIGKILL)
		}
		err := cmd.Wait()
		cancel()
		if err != nil {
			killed++
		}
		t.Logf("%s killed after %v: %v\n%s", args[0], after, err, out)
		if i%2 == 1 {
			s.host.StartLibvirtd()
		}
	}
	if killed < 3 {
		t.Errorf("only %d of 12 were killed before they had ended", killed)
	}
	s.clean(file, "fleet", before)
}

// TestInterrupted presses Ctrl-C in the middle: the exit status is 130, what was
// under way is ended in good order, and the same command goes on.
func TestInterrupted(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	file := s.write("fleet.yaml", strings.ReplaceAll(fleetFile, "count: 8", "count: 40"))
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	defer cancel()
	cmd := s.command(ctx, "apply", "-f", file, "--parallel", "1")
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	process, err := s.host.Process(cmd)
	if err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil && !strings.Contains(out.String(), "+ node fleet-") {
		time.Sleep(2 * time.Millisecond)
	}
	if err := process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	t.Logf("interrupted: %v\n%s", err, out)
	if cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("exit status %d", cmd.ProcessState.ExitCode())
	}
	s.says(out.String(), err, "stopped: interrupted", "skipped")
	s.clean(file, "fleet", before)
}

// proxy stands between tenks and Ironic and does harm.
type proxy struct {
	mu   sync.Mutex
	harm func(http.ResponseWriter, *http.Request) bool // true: it has answered itself
	seen []string
}

func (p *proxy) set(harm func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.harm, p.seen = harm, nil
}

func (p *proxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// behindProxy puts a proxy between the story and its Ironic.
func (s *story) behindProxy() *proxy {
	s.Helper()
	target, err := url.Parse(s.ironic.URL)
	if err != nil {
		s.Fatal(err)
	}
	p := &proxy{}
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport: &http.Transport{DialContext: s.host.Dial, DisableKeepAlives: true},
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		harm := p.harm
		p.seen = append(p.seen, r.Method+" "+r.URL.Path)
		p.mu.Unlock()
		if harm == nil || !harm(w, r) {
			forward.ServeHTTP(w, r)
		}
	})}
	l, err := s.host.Listen(s.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	s.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	s.env = []string{"OS_CLIENT_CONFIG_FILE=" + s.write("clouds.yaml",
		fmt.Sprintf("clouds: {lab: {auth_type: none, auth: {endpoint: 'http://%s'}}}\n", l.Addr()))}
	return p
}

func refuse(status int, text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fault, _ := json.Marshal(map[string]string{"faultcode": "Client", "faultstring": text})
		body, _ := json.Marshal(map[string]string{"error_message": string(fault)})
		_, _ = w.Write(body)
		return true
	}
}

// TestIronicIsIll has an Ironic that is slow, refuses to change anything, hangs,
// or breaks off in the middle: the machines do not suffer, what went wrong is
// said for each node, and the same command works when Ironic does.
func TestIronicIsIll(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	p := s.behindProxy()
	file := filepath.Join(s.dir, "story.yaml")

	p.set(refuse(http.StatusForbidden, "Policy does not allow this request to be performed."))
	out, err := s.try("apply", "-f", file)
	s.says(out, err, "story-0", "story-1", "story-2", "Policy does not allow this request", "hint: ", "3 failed")
	for name, n := range s.status("story") {
		if !n.BMC.Serving || n.Power != "off" || n.Ironic != "" {
			t.Errorf("%s does not wait for Ironic: %+v", name, n)
		}
	}
	p.set(refuse(http.StatusServiceUnavailable, "No conductor service registered."))
	out, err = s.try("apply", "-f", file)
	s.says(out, err, "story-0", "No conductor service registered")

	cut := make(chan struct{}, 1) // the connection breaks once, after the request
	cut <- struct{}{}
	p.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/nodes" {
			select {
			case <-cut:
				panic(http.ErrAbortHandler)
			default:
			}
		}
		time.Sleep(time.Second) // and it is slow
		return false
	})
	if out, err := s.try("apply", "-f", file); err != nil {
		t.Logf("apply over a bad line: %v", err)
		s.says(out, err, "story-")
	}
	s.tenks("apply", "-f", file)
	s.settled(file)

	release := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	p.set(func(_ http.ResponseWriter, r *http.Request) bool { // it takes requests and never answers
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	})
	began := time.Now()
	out, err = s.try("destroy", "story", "--yes")
	s.says(out, err, "unknown: Ironic: no answer within 30s", "nothing to do but for what is unknown", "if Ironic is gone for good: tenks destroy story --leave-ironic")
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("it took %v to say that Ironic hangs", took)
	}
	if n := strings.Count(s.host.Run("virsh", "-q", "list", "--all", "--name"), "story-"); n != 2 {
		t.Errorf("%d domains are left while Ironic may have instances on them, not 2", n)
	}
	p.set(nil)
	s.tenks("apply", "-f", file)
	p.set(nil)
	s.settled(file)
	for _, r := range p.requests() {
		if !strings.HasPrefix(r, "GET ") {
			t.Errorf("an apply with nothing to do asked for %s", r)
		}
	}

	// Ironic is given up; then it is there after all, and so are its nodes.
	p.set(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	s.tenks("destroy", "story", "--yes", "--leave-ironic")
	after := s.fingerprint()
	if len(after["nodes"]) != 3 {
		t.Errorf("%d nodes are left in Ironic, not 3", len(after["nodes"]))
	}
	after["nodes"], after["ports"] = before["nodes"], before["ports"]
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
	p.set(nil)
	s.tenks("apply", "-f", file)
	s.settled(file)
	s.tenks("destroy", "story", "--yes")
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// TestLongNames uses the longest names that a file may have, and switches such a
// node on: libvirt, QEMU and the kernel all have limits of their own.
func TestLongNames(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	cluster := strings.Repeat("c", 40)
	prefix := strings.Repeat("n", 62) // and a digit: 63, a DNS label
	network := strings.Repeat("net-", 16)
	file := s.write("long.yaml", fmt.Sprintf(`cluster: %s
physical_networks: {%s: {}, %sx: {}}
node_types:
  real: {memory: 128MiB, volumes: [{size: 1GiB}], physical_networks: [%s, %sx], boot_mode: uefi}
specs:
  - {type: real, count: 2, name_prefix: %s, ironic: {resource_class: long}}
ironic: {cloud: lab}
`, cluster, network, network[1:], network, network[1:], prefix))
	s.tenks("apply", "-f", file)
	s.settled(file)
	for line := range strings.Lines(s.host.Run("ip", "-o", "link")) {
		if name := strings.TrimSuffix(strings.Fields(line)[1], ":"); len(name) > 15 {
			t.Errorf("link %s has %d characters", name, len(name))
		}
	}
	s.power(prefix+"0", cluster, "on")
	s.console2(prefix+"0", cluster, "BdsDxe")
	s.clean(file, cluster, before)

	out, err := s.try("validate", "-f", s.write("longer.yaml", fmt.Sprintf("cluster: dev\nnode_types: {a: {memory: 1GiB}}\nspecs: [{type: a, count: 11, name_prefix: %s}]\n", prefix)))
	s.says(out, err, "longer.yaml:3:", "is longer than 63 characters", "hint: shorten the prefix")
}

// console2 reads the console of a node of a cluster that is not the story's.
func (s *story) console2(node, cluster, text string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
	defer cancel()
	cmd := s.command(ctx, "console", node, "--cluster", cluster)
	keep, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	defer keep.Close()
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
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
		s.Errorf("console of %s: no %q:\n%s", node, text, out)
	}
}

// TestNeighbours has two clusters that could be taken for each other: one is
// destroyed while a node of the other runs, and then made again.
func TestNeighbours(t *testing.T) {
	s := newStory(t)
	before := s.fingerprint()
	one := s.write("one.yaml", strings.ReplaceAll(fleetFile, "count: 8", "count: 2"))
	two := s.write("two.yaml", strings.ReplaceAll(strings.ReplaceAll(fleetFile, "count: 8", "count: 2"), "cluster: fleet", "cluster: fleet-prov"))
	s.tenks("apply", "-f", one)
	s.tenks("apply", "-f", two)
	s.settled(one)
	s.settled(two)
	s.power("fleet-0", "fleet", "on")
	was := s.status("fleet")
	beside := s.linksOf("fleet-prov")

	s.tenks("destroy", "fleet-prov", "--yes")
	if diff := cmp.Diff(was, s.status("fleet")); diff != "" {
		t.Errorf("the neighbour has changed (-before +after):\n%s", diff)
	}
	s.power("fleet-0", "fleet", "status")
	s.settled(one)
	if got := s.linksOf("fleet-prov"); len(got) != 0 || len(beside) == 0 {
		t.Errorf("links of the destroyed cluster: %q, before %q", got, beside)
	}
	s.tenks("apply", "-f", two)
	s.settled(two)
	s.tenks("destroy", "fleet", "--yes")
	s.settled(two)
	s.tenks("destroy", "fleet-prov", "--yes")
	if diff := cmp.Diff(before, s.fingerprint()); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// linksOf returns the links whose alias names the cluster.
func (s *story) linksOf(cluster string) []string {
	s.Helper()
	var links []struct{ Ifname, Ifalias string }
	if err := json.Unmarshal([]byte(s.host.Run("ip", "-j", "link")), &links); err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, l := range links {
		if strings.Contains(l.Ifalias+" ", " cluster="+cluster+" ") {
			names = append(names, l.Ifname)
		}
	}
	return names
}
