//go:build integration

package ipmi_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a program that runs on a terminal of its own.
type terminal struct {
	t    *testing.T
	ptmx *os.File
	done chan error

	mu  sync.Mutex
	out strings.Builder
}

// startTerminal starts a program on a pseudo-terminal. It ends with the test.
func startTerminal(t *testing.T, name string, args ...string) *terminal {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	x := &terminal{t: t, ptmx: ptmx, done: make(chan error, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := ptmx.Read(buf)
			if err != nil {
				return
			}
			x.mu.Lock()
			x.out.Write(buf[:n])
			x.mu.Unlock()
		}
	}()
	go func() { x.done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = ptmx.Close()
	})
	return x
}

func (x *terminal) output() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

// expect waits until the program has written want.
func (x *terminal) expect(want string) {
	x.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if strings.Contains(x.output(), want) {
			return
		}
	}
	out := x.output()
	x.t.Fatalf("no %q at the end of %q", want, out[max(0, len(out)-300):])
}

func (x *terminal) typeText(text string) {
	x.t.Helper()
	if _, err := x.ptmx.WriteString(text); err != nil {
		x.t.Fatal(err)
	}
}

// ends waits until the program ends.
func (x *terminal) ends() {
	x.t.Helper()
	select {
	case <-x.done:
	case <-time.After(15 * time.Second):
		x.t.Fatalf("it does not end: %q", x.output())
	}
}

// ipmitoolTerminal starts ipmitool on a terminal.
func (x *tool) ipmitoolTerminal(args ...string) *terminal {
	x.t.Helper()
	all := append([]string{"-I", "lanplus", "-H", x.addr.IP.String(), "-p", strconv.Itoa(x.addr.Port),
		"-U", testUser.Name, "-f", filepath.Join(x.dir, "password")}, args...)
	return startTerminal(x.t, "ipmitool", all...)
}

func TestIpmitoolSOL(t *testing.T) {
	hw := newTalker()
	x := newTool(t, serve(t, newServer(t, hw)))
	console := x.ipmitoolTerminal("sol", "activate")
	console.expect("[SOL Session operational.  Use ~? for help]")
	hw.say("Welcome to tk0\r\ntk0 login: ")
	console.expect("tk0 login: ")
	for _, word := range []string{"root", "secret", "ls -l"} {
		console.typeText(word)
		console.expect(strings.ToUpper(word))
	}
	if got := hw.input(); got != "rootsecretls -l" {
		t.Errorf("the machine got %q", got)
	}
	var long strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&long, "line %07d\r\n", i)
	}
	start := time.Now()
	hw.say(long.String())
	console.expect("line 0003999")
	t.Logf("%d bytes in %v", long.Len(), time.Since(start))
	if !strings.Contains(console.output(), strings.ReplaceAll(long.String(), "\r\n", "\r\n")) {
		t.Error("not all lines came, or not in order")
	}

	// A power cycle does not end it.
	if out, status := x.ipmitool(nil, "power", "off"); status != 0 {
		t.Errorf("power off: %s", out)
	}
	if out, status := x.ipmitool(nil, "power", "on"); status != 0 {
		t.Errorf("power on: %s", out)
	}
	time.Sleep(1100 * time.Millisecond) // this machine does not tell when it is switched on
	hw.say("booted again\r\n")
	console.expect("booted again")

	// Somebody else wants it.
	other := x.ipmitoolTerminal("sol", "activate")
	other.expect("SOL payload already active on another session")
	other.ends()
	if out, status := x.ipmitool(nil, "sol", "deactivate"); status != 0 {
		t.Errorf("sol deactivate: %d\n%s", status, out)
	}
	console.expect("[console deactivated by admin from 127.0.0.1]")
	// ipmitool does not heed that SOL is over; its user does.
	console.typeText("\r~.")
	console.expect("terminated ipmitool")
	console.ends()
	if out, status := x.ipmitool(nil, "sol", "deactivate"); status != 1 || !strings.Contains(out, "SOL payload already de-activated") {
		t.Errorf("sol deactivate: %d\n%s", status, out)
	}
	other = x.ipmitoolTerminal("sol", "activate")
	other.expect("booted again") // what was said before
	other.typeText("x")
	other.expect("X")
	other.typeText("\r~.")
	other.expect("terminated ipmitool")
	other.ends()
	if out, status := x.ipmitool(nil, "sol", "activate", "instance=2"); status == 0 {
		t.Errorf("instance 2: %s", out)
	}
}

// TestIpmitoolSOLBreak: a break cannot be sent, and does no harm.
func TestIpmitoolSOLBreak(t *testing.T) {
	hw := newTalker()
	x := newTool(t, serve(t, newServer(t, hw)))
	console := x.ipmitoolTerminal("sol", "activate")
	console.expect("operational")
	console.typeText("a\r~B")
	console.typeText("zz")
	console.expect("ZZ")
	if got := hw.input(); got != "a\rzz" {
		t.Errorf("the machine got %q", got)
	}
}

func TestIpmiconsole(t *testing.T) {
	hw := newTalker()
	// ipmiconsole has no option for the port: 623 of an address that is ours alone.
	x := newTool(t, serveAt(t, newServer(t, hw), "127.77.6.24:623"))
	start := func() *terminal {
		return startTerminal(t, "ipmiconsole", "--config-file="+filepath.Join(x.dir, "freeipmi.conf"), "-h", x.addr.IP.String())
	}
	console := start()
	console.expect("[SOL established]")
	hw.say("tk0 login: ")
	console.expect("tk0 login: ")
	for _, word := range []string{"root", "password"} {
		console.typeText(word)
		console.expect(strings.ToUpper(word))
	}
	if got := hw.input(); got != "rootpassword" {
		t.Errorf("the machine got %q", got)
	}
	var long strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&long, "line %07d\r\n", i)
	}
	hw.say(long.String())
	console.expect("line 0003999")
	if !strings.Contains(console.output(), long.String()) {
		t.Error("not all lines came, or not in order")
	}
	console.typeText("&B") // a break
	console.typeText("z")
	console.expect("Z")
	// A second one takes the console from the first.
	second := start()
	second.expect("[SOL established]")
	console.ends()
	second.typeText("second")
	second.expect("SECOND")
	second.typeText("&.")
	second.ends()
}
