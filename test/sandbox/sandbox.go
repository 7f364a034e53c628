// Package sandbox gives integration tests a hypervisor of their own: a set of
// namespaces (network, mount, PID, UTS) with its own host name, folders and,
// if wanted, its own libvirtd. Links, domains, files below /run, /var/log,
// /var/lib/tenks and /var/lib/libvirt that a test makes in there are not the
// machine's, and are gone when the test is over, however it ends.
//
// The rest of the file system is the machine's: programs are found where they
// are installed, and temporary folders are the same inside and outside. KVM is
// hidden, so guests are emulated.
//
// It needs root, and iproute2, util-linux and, with libvirt, libvirtd, virsh
// and QEMU. What is missing is a failure and not a skip.
package sandbox

import (
	"bytes"
	"context"
	_ "embed" // for the script
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed init.sh
var script string

// Options adjust [Start]. The zero value is a host without libvirt.
type Options struct {
	// Libvirt starts virtlogd and libvirtd: system daemons with root as
	// QEMU's user, without security driver, namespaces and cgroups.
	Libvirt bool
	// Name is the host name; empty means "sandbox".
	Name string
}

// Host is a stand-in hypervisor.
type Host struct {
	t    testing.TB
	dir  string
	pid  int           // of the first process, as the test sees it
	dead chan struct{} // closed when that process has ended
}

// Start makes a host that lives as long as the test. It returns when everything
// in it is up, and fails the test if that is not possible.
//
// If the test process is killed, the kernel kills all processes of the host;
// its folder in /tmp then stays.
func Start(t testing.TB, o Options) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a sandbox needs root")
	}
	if o.Name == "" {
		o.Name = "sandbox"
	}
	// Not t.TempDir: a socket's path may have no more than 107 characters.
	dir, err := os.MkdirTemp("/tmp", "tk")
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{t: t, dir: dir, dead: make(chan struct{})}
	t.Cleanup(h.stop)

	cache := ""
	if c, err := os.UserCacheDir(); err == nil {
		cache = filepath.Join(c, "tenks-test", "libvirt")
	}
	output, err := os.Create(filepath.Join(dir, "init.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = output.Close() }()
	cmd := exec.Command("/bin/sh", "-c", script, "sandbox-init",
		dir, o.Name, strconv.FormatBool(o.Libvirt), cache)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // an interrupt from the terminal is for the test, which cleans up
	}
	if err := h.run(cmd); err != nil {
		t.Fatalf("sandbox: %v", err)
	}
	h.await()
	return h
}

// run starts the first process and watches over it.
func (h *Host) run(cmd *exec.Cmd) error {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		// The kernel sends the parent death signal when the thread that has
		// started the process ends: this thread stays until the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(h.dead)
		err := cmd.Start()
		if err == nil {
			h.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed: its status says nothing
			_ = stdin.Close()
		}
	}()
	return <-started
}

// await returns when the host is up.
func (h *Host) await() {
	h.t.Helper()
	limit := time.After(90 * time.Second)
	for {
		if _, err := os.Stat(filepath.Join(h.dir, "ready")); err == nil {
			return
		}
		why := ""
		select {
		case <-h.dead:
			why = "its first process ended"
		case <-limit:
			why = "not ready after 90 s"
		case <-time.After(10 * time.Millisecond):
			continue
		}
		log, _ := os.ReadFile(filepath.Join(h.dir, "init.log"))
		h.t.Fatalf("sandbox: %s:\n%s", why, log)
	}
}

// stop ends all processes of the host and removes its folder.
func (h *Host) stop() {
	if h.pid != 0 {
		// The end of a PID namespace's first process ends all the others, and
		// with the last of them go mounts and links.
		_ = syscall.Kill(h.pid, syscall.SIGKILL)
		<-h.dead
	}
	if err := os.RemoveAll(h.dir); err != nil {
		h.t.Errorf("sandbox: %v", err)
	}
}

// Dir is the host's folder. It has run, log and tenks (the host's /run,
// /var/log and /var/lib/tenks) and libvirt/etc, lib and cache.
func (h *Host) Dir() string { return h.dir }

// PID is the process whose namespaces are the host's.
func (h *Host) PID() int { return h.pid }

// LibvirtSocket is the path of libvirtd's socket, for use from outside. Within
// the host it is the usual /run/libvirt/libvirt-sock.
func (h *Host) LibvirtSocket() string {
	return filepath.Join(h.dir, "run", "libvirt", "libvirt-sock")
}

// Command returns the command that runs a program on the host, in the working
// directory of the test. The program is killed when ctx is done or the command
// itself is killed; to send it another signal, see [Host.Process].
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	in := []string{"--target=" + strconv.Itoa(h.pid), "--mount", "--net", "--uts", "--pid",
		"--wdns=" + dir, "--", "setpriv", "--pdeathsig=KILL", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(in, args...)...)
	cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.WaitDelay = 5 * time.Second // a daemon that keeps the output open is no reason to wait
	return cmd
}

// Process finds the program that a started [Host.Command] runs, so that it can
// be sent signals: those sent to the command itself reach only its wrapper.
func (h *Host) Process(cmd *exec.Cmd) (*os.Process, error) {
	pid := strconv.Itoa(cmd.Process.Pid)
	for range 500 { // the wrapper needs a moment to start it
		b, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
		if err != nil {
			return nil, err
		}
		if f := strings.Fields(string(b)); len(f) > 0 {
			child, err := strconv.Atoi(f[0])
			if err != nil {
				return nil, err
			}
			if comm, err := os.ReadFile(filepath.Join("/proc", f[0], "comm")); err == nil &&
				!bytes.HasPrefix(comm, []byte("nsenter")) && !bytes.HasPrefix(comm, []byte("setpriv")) {
				return os.FindProcess(child)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("command %s: no child process", cmd)
}

// Run runs a program on the host and returns its output. The test fails if the
// program does or takes more than a minute.
func (h *Host) Run(name string, args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := h.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// StartLibvirtd starts libvirtd after [Host.StopLibvirtd] and returns when it
// answers.
func (h *Host) StartLibvirtd() {
	h.t.Helper()
	h.Run("libvirtd", "-d")
	h.Run("sh", "-c", `n=0; until virsh -q -c qemu:///system version >/dev/null 2>&1
		do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done`)
}

// StopLibvirtd ends libvirtd and returns when it is gone. Guests stay.
func (h *Host) StopLibvirtd() {
	h.t.Helper()
	h.Run("sh", "-c", `p=$(cat /run/libvirtd.pid) && kill $p && n=0 && while kill -0 $p 2>/dev/null
		do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done; rm -f /run/libvirt/libvirt-sock`)
}

// RestartLibvirtd ends libvirtd and starts it again. Guests stay.
func (h *Host) RestartLibvirtd() {
	h.t.Helper()
	h.StopLibvirtd()
	h.StartLibvirtd()
}

// SignalLibvirtd sends libvirtd a signal: SIGSTOP makes it hang, SIGCONT go on.
func (h *Host) SignalLibvirtd(s syscall.Signal) {
	h.t.Helper()
	h.Run("sh", "-c", fmt.Sprintf("kill -%d $(cat /run/libvirtd.pid)", int(s)))
}
