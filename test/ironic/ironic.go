// Package ironic starts a real Ironic for integration tests: ironic-api and
// ironic-conductor of Debian's package ironic-common, talking JSON-RPC to each
// other, with SQLite and without any other service. All its files are below a
// temporary folder, all its sockets on one address; it ends with the test.
package ironic

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // for helper.py
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed helper.py
var helper string

// python is Debian's interpreter: another one does not find Ironic's libraries.
const python = "/usr/bin/python3"

// Ways to authenticate.
const (
	NoAuth    = "noauth"
	HTTPBasic = "http_basic"
)

// Options adjust Start. The zero value is usable.
type Options struct {
	// Command makes the processes, for instance in another network namespace;
	// nil means exec.CommandContext. What it returns must become the named
	// program by exec, without a process in between.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
	Auth    string // NoAuth, HTTPBasic; "" means NoAuth
	// Fast shortens the waits between two commands to one BMC (from 5 s to
	// 1 s) and the interval in which power states are read (from 60 s to 10 s).
	Fast    bool
	Address string // IPv4 address to listen on; "" means 127.0.0.1
	// ServeHTTP serves HTTPRoot at HTTPURL, for iPXE and for images.
	ServeHTTP bool
	// Debug has the conductor log every command to a BMC.
	Debug bool
	// Set overrides options of ironic.conf: "conductor.automated_clean": "true".
	Set map[string]string
	// Ready limits the wait for Ironic to become ready; 0 means 3 minutes.
	Ready time.Duration
}

// Ironic is a running Ironic.
type Ironic struct {
	URL      string // of the API, without /v1
	Username string // empty without authentication
	Password string
	LogDir   string // has api.log, conductor.log
	HTTPRoot string // where the boot interface ipxe puts its files
	HTTPURL  string // where nodes expect them
	TFTPRoot string // where the boot interfaces pxe and ipxe put boot loaders

	t         testing.TB
	o         Options
	dir       string
	api       *process
	conductor *process
}

// Start starts an Ironic and returns when a conductor has registered its
// drivers: ipmi, fake-hardware and manual-management, without cleaning. It is
// killed at the end of t, or when the test process dies; if t has failed, the
// ends of its logs are printed. A failure to start ends t.
func Start(t testing.TB, o Options) *Ironic {
	t.Helper()
	for _, p := range []string{"ironic-api", "ironic-conductor", "ironic-dbsync"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: install the package ironic-common", p)
		}
	}
	if o.Command == nil {
		o.Command = exec.CommandContext
	}
	if o.Address == "" {
		o.Address = "127.0.0.1"
	}
	if o.Ready == 0 {
		o.Ready = 3 * time.Minute
	}
	i := &Ironic{t: t, o: o, dir: tempDir(t)}
	i.LogDir = filepath.Join(i.dir, "log")
	i.HTTPRoot = filepath.Join(i.dir, "httpboot")
	i.TFTPRoot = filepath.Join(i.dir, "tftpboot")
	for _, d := range []string{"log", "httpboot", "tftpboot/master_images", "images", "master_images", "master_iso",
		"deploy_logs", "certificates", "tmp", "consoles", "locks", "policy.d"} {
		must(t, os.MkdirAll(filepath.Join(i.dir, d), 0o755))
	}
	ports := freePorts(t, 3)
	i.URL = fmt.Sprintf("http://%s:%d", o.Address, ports[0])
	i.HTTPURL = fmt.Sprintf("http://%s:%d", o.Address, ports[2])
	if o.Auth == HTTPBasic {
		i.Username, i.Password = "admin", rand.Text()
		i.run(i.Password, python, "-c", helper, "htpasswd", filepath.Join(i.dir, "htpasswd"), i.Username)
	}
	i.configure(ports)
	i.run("", "ironic-dbsync", "--config-file", i.conf(), "create_schema")
	i.run("", python, "-c", helper, "wal", i.database())

	if o.ServeHTTP {
		i.spawn("http", python, "-m", "http.server", "--bind", o.Address, "--directory", i.HTTPRoot, fmt.Sprint(ports[2]))
	}
	i.conductor = i.spawn("conductor", "ironic-conductor", "--config-file", i.conf())
	i.api = i.spawn("api", "ironic-api", "--config-file", i.conf())
	i.await()
	return i
}

// KillConductor kills the conductor as a power failure would. The API goes on.
func (i *Ironic) KillConductor() {
	i.t.Helper()
	i.conductor.kill()
}

// StartConductor starts the conductor again after KillConductor and returns
// when it has registered its drivers.
func (i *Ironic) StartConductor() {
	i.t.Helper()
	i.run("", python, "-c", helper, "offline", i.database())
	i.conductor = i.spawn("conductor", "ironic-conductor", "--config-file", i.conf())
	i.await()
}

// PauseConductor stops the conductor where it is: calls to it hang until
// ResumeConductor.
func (i *Ironic) PauseConductor() {
	i.t.Helper()
	must(i.t, syscall.Kill(-i.conductor.cmd.Process.Pid, syscall.SIGSTOP))
}

// ResumeConductor ends PauseConductor.
func (i *Ironic) ResumeConductor() {
	i.t.Helper()
	must(i.t, syscall.Kill(-i.conductor.cmd.Process.Pid, syscall.SIGCONT))
}

// CloudsYAML writes a clouds.yaml with this Ironic as the cloud of that name,
// and returns its path, for OS_CLIENT_CONFIG_FILE.
func (i *Ironic) CloudsYAML(cloud string) string {
	i.t.Helper()
	text := fmt.Sprintf("clouds:\n  %s:\n    auth_type: none\n    auth: {endpoint: %q}\n", cloud, i.URL)
	if i.Username != "" {
		text = fmt.Sprintf("clouds:\n  %s:\n    auth_type: http_basic\n    auth: {endpoint: %q, username: %s, password: %s}\n",
			cloud, i.URL, i.Username, i.Password)
	}
	path := filepath.Join(i.t.TempDir(), "clouds.yaml")
	must(i.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (i *Ironic) conf() string     { return filepath.Join(i.dir, "ironic.conf") }
func (i *Ironic) database() string { return filepath.Join(i.dir, "ironic.sqlite") }

// run runs a short program to its end; its failure ends the test.
func (i *Ironic) run(stdin, name string, args ...string) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), i.o.Ready)
	defer cancel()
	cmd := i.o.Command(ctx, name, args...)
	cmd.Env = environment()
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		i.t.Fatalf("%s: %v\n%s", filepath.Base(name), err, tail(out))
	}
}

// await returns when a conductor is registered. It runs where Ironic runs: the
// test itself may be in another network namespace.
func (i *Ironic) await() {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), i.o.Ready)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		cmd := i.o.Command(ctx, python, "-c", helper, "ready", i.URL, i.Username)
		cmd.Env = environment()
		cmd.Stdin = strings.NewReader(i.Password)
		done <- cmd.Run()
	}()
	select {
	case err := <-done:
		if err != nil {
			i.t.Fatalf("Ironic is not ready after %v: %v", i.o.Ready, err)
		}
	case <-i.api.done:
		i.t.Fatal("ironic-api has ended")
	case <-i.conductor.done:
		i.t.Fatal("ironic-conductor has ended")
	}
}

// process is a program in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// spawn starts a program that is killed with the test.
func (i *Ironic) spawn(name string, args ...string) *process {
	i.t.Helper()
	log, err := os.OpenFile(filepath.Join(i.LogDir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(i.t, err)
	cmd := i.o.Command(context.Background(), args[0], args[1:]...)
	cmd.Env = environment()
	cmd.Dir = i.dir
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	err = cmd.Start()
	_ = log.Close() // the process has its own
	must(i.t, err)
	p := &process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	i.t.Cleanup(func() {
		p.kill()
		if i.t.Failed() {
			text, _ := os.ReadFile(filepath.Join(i.LogDir, name+".log"))
			i.t.Logf("--- end of the log of %s\n%s", name, tail(text))
		}
		if name == "conductor" {
			i.killConsoles()
		}
	})
	return p
}

// kill ends the process and its workers, and waits until it is gone.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.done
}

// killConsoles ends the socat processes of consoles: they outlive a conductor.
func (i *Ironic) killConsoles() {
	files, _ := filepath.Glob(filepath.Join(i.dir, "consoles", "*.pid"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		var pid int
		if _, err2 := fmt.Sscan(string(text), &pid); err != nil || err2 != nil || pid <= 1 {
			continue
		}
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.HasPrefix(cmdline, []byte("socat")) && bytes.Contains(cmdline, []byte(f)) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// environment is the test's without proxies and Python settings.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy", "all_proxy", "no_proxy", "pythonpath", "pythonhome":
		default:
			env = append(env, v)
		}
	}
	return append(env, "no_proxy=*", "PYTHONDONTWRITEBYTECODE=1")
}

// tempDir is a folder that is removed when all processes have ended: cleanups
// run last in, first out.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tenks-ironic-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// freePorts returns TCP ports that were free a moment ago.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// tail is the end of a log.
func tail(text []byte) []byte {
	const most = 6000
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return text
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
