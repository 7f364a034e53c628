//go:build integration

package ipmi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// tool runs programs against a BMC.
type tool struct {
	t    *testing.T
	addr *net.UDPAddr
	dir  string // with the password file
}

func newTool(t *testing.T, addr *net.UDPAddr) *tool {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(testUser.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("username %s\npassword %s\n", testUser.Name, testUser.Password)
	if err := os.WriteFile(filepath.Join(dir, "freeipmi.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tool{t: t, addr: addr, dir: dir}
}

// run returns the output of a program and its exit status.
func (x *tool) run(name string, args ...string) (string, int) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		x.t.Fatalf("%s %q: %v", name, args, err)
	}
	if ctx.Err() != nil {
		x.t.Fatalf("%s %q: did not end\n%s", name, args, out)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// ipmitool runs ipmitool as Ironic does. options that come later win.
func (x *tool) ipmitool(options []string, args ...string) (string, int) {
	x.t.Helper()
	all := append([]string{"-I", "lanplus", "-H", x.addr.IP.String(), "-p", strconv.Itoa(x.addr.Port), "-L", "ADMINISTRATOR",
		"-U", testUser.Name, "-R", "1", "-N", "5", "-f", filepath.Join(x.dir, "password")}, options...)
	return x.run("ipmitool", append(all, args...)...)
}

// free runs a program of FreeIPMI.
func (x *tool) free(name string, args ...string) (string, int) {
	x.t.Helper()
	if name == "ipmi-sensors" || name == "ipmi-sel" {
		args = append(args, "--sdr-cache-directory="+x.dir)
	}
	all := []string{"--config-file=" + filepath.Join(x.dir, "freeipmi.conf"), "-D", "LAN_2_0", "-h", x.addr.String()}
	return x.run(name, append(all, args...)...)
}

func TestIpmitool(t *testing.T) {
	hw := &hardware{}
	s := newServer(t, hw)
	x := newTool(t, serve(t, s))
	tests := []struct {
		args    string
		status  int
		want    []string // all are in the output
		changes []string // of the computer
	}{
		{"power status", 0, []string{"Chassis Power is off\n"}, nil},
		{"power soft", 0, nil, nil},
		{"power reset", 1, []string{"not supported in present state"}, nil},
		{"power cycle", 1, []string{"not supported in present state"}, nil},
		{"power diag", 1, []string{"not supported in present state"}, nil},
		{"power on", 0, []string{"Chassis Power Control: Up/On\n"}, []string{"start"}},
		{"power on", 0, nil, nil},
		{"power status", 0, []string{"Chassis Power is on\n"}, nil},
		{"chassis restart_cause", 0, []string{"chassis power control command"}, nil},
		{"power cycle", 0, nil, []string{"stop", "start"}},
		{"power reset", 0, nil, []string{"reset"}},
		{"power diag", 0, nil, []string{"interrupt"}},
		{"chassis status", 0, []string{"System Power         : on", "Power Restore Policy : always-off", "Last Power Event     : command"}, nil},
		{"power soft", 0, nil, []string{"shutdown"}},
		{"power on", 0, nil, []string{"start"}},
		{"power off", 0, []string{"Chassis Power Control: Down/Off\n"}, []string{"stop"}},
		{"chassis status", 0, []string{"System Power         : off"}, nil},
		{"chassis policy list", 0, []string{"always-off"}, nil},
		{"chassis policy always-off", 0, nil, nil},
		{"chassis policy always-on", 1, []string{"Invalid data field"}, nil},
		{"chassis identify 5", 0, []string{"5 second"}, nil},
		{"chassis identify force", 0, nil, nil},
		{"raw 0x00 0x01", 0, []string{" 00 10 60 00"}, nil}, // off, by command, identify on until it is switched off
		{"chassis identify 0", 0, nil, nil},
		{"raw 0x00 0x01", 0, []string{" 00 10 40 00"}, nil},

		{"raw 0x00 0x08 0x05 0x00 0x00 0x00 0x00 0x00", 0, nil, nil},
		{"chassis bootparam get 5", 0, []string{"Boot Flag Invalid", "No override"}, nil},
		{"chassis bootdev pxe", 0, []string{"Set Boot Device to pxe"}, nil},
		{"chassis bootparam get 5", 0, []string{"Boot Flag Valid", "only next boot", "PC Compatible", "Force PXE"}, nil},
		{"chassis bootdev disk options=persistent,efiboot", 0, nil, nil},
		{"chassis bootparam get 5", 0, []string{"Boot Flag Valid", "all future boots", "EFI", "Hard-Drive"}, nil},
		{"chassis bootdev cdrom options=efiboot", 0, nil, nil},
		{"chassis bootparam get 5", 0, []string{"only next boot", "CD/DVD"}, nil},
		{"chassis bootdev bios", 0, nil, nil},
		{"chassis bootparam get 5", 0, []string{"BIOS Setup"}, nil},
		{"chassis bootdev safe", 0, nil, nil},
		{"chassis bootparam get 5", 0, []string{"Safe-Mode"}, nil},
		{"chassis bootdev diag", 0, nil, nil},
		{"chassis bootparam get 5", 0, []string{"Diagnostic Partition"}, nil},
		{"chassis bootdev floppy", 0, nil, nil},
		{"chassis bootparam get 5", 0, []string{"Floppy"}, nil},
		{"chassis bootdev pxe options=clear-cmos", 0, nil, nil},
		{"chassis bootparam get 0", 0, []string{"set complete"}, nil},
		{"chassis bootparam get 3", 0, nil, nil},
		{"chassis bootparam get 4", 0, nil, nil},
		{"chassis bootparam get 8", 1, []string{"Unsupported parameter"}, nil},
		{"chassis bootdev none", 0, nil, nil},
		{"raw 0x00 0x08 0x03 0x08", 0, nil, nil},
		{"raw 0x00 0x09 0x03 0x00 0x00", 0, []string{"01 03 08"}, nil},
		{"raw 0x00 0x08 0x05 0xe0 0x04 0x00 0x00 0x00", 0, nil, nil},
		{"raw 0x00 0x09 0x05 0x00 0x00", 0, []string{"01 05 e0 04 00 00 00"}, nil},
		{"raw 0x00 0x08 0x05 0xa0 0x08 0x00 0x00 0x00", 0, nil, nil},
		{"raw 0x00 0x09 0x05 0x00 0x00", 0, []string{"01 05 a0 08 00 00 00"}, nil},
		{"raw 0x00 0x08 0x05 0x80 0x20 0x00 0x00 0x00", 1, []string{"rsp=0xcc"}, nil}, // remote CD
		{"raw 0x00 0x08 0x05 0xff 0xc7 0xfb 0x0f 0x1f", 0, nil, nil},
		{"raw 0x00 0x09 0x05 0x00 0x00", 0, []string{"01 05 e0 c7 fb 0f 1f"}, nil},

		{"mc info", 0, []string{"Device ID                 : 32", "Firmware Revision         : 1.00", "IPMI Version              : 2.0", "Chassis Device"}, nil},
		{"mc guid", 0, []string{testUUID}, nil},
		{"mc selftest", 0, []string{"passed"}, nil},
		{"session info active", 0, []string{"user id                       : 2", "console ip                    : 127.0.0.1"}, nil},
		{"channel info", 0, []string{"802.3 LAN", "multi-session", "always available"}, nil},
		{"channel getciphers ipmi", 0, []string{"3", "17"}, nil},
		{"channel authcap 1 4", 0, []string{"IPMI v2.0"}, nil},
		{"lan print 1", 0, []string{"127.0.0.1", "RMCP+ Cipher Suites", "17,3"}, nil},
		{"user list 1", 0, []string{"admin", "ADMINISTRATOR"}, nil},
		{"sdr info", 0, []string{"Record Count                        : 1"}, nil},
		{"sdr", 0, nil, nil}, // there is no sensor
		{"sdr list mcloc", 0, []string{"BMC"}, nil},
		{"sel", 0, []string{"Entries          : 0"}, nil},
		{"sel list", 0, []string{"no entries"}, nil},
		{"sol deactivate", 1, nil, nil},
		{"mc reset cold", 0, []string{"Sent cold reset"}, nil},
		{"power status", 0, []string{"Chassis Power is off\n"}, nil},
		{"mc reset warm", 0, nil, nil},
		{"raw 0x06 0x99", 1, []string{"rsp=0xc1"}, nil},
		{"raw 0x00 0x02", 1, []string{"rsp=0xc7"}, nil},
	}
	for _, suite := range []string{"", "3", "17"} {
		t.Run("suite "+suite, func(t *testing.T) {
			x := &tool{t: t, addr: x.addr, dir: x.dir}
			var options []string
			if suite != "" {
				options = []string{"-C", suite}
			}
			for _, tt := range tests {
				start := time.Now()
				out, status := x.ipmitool(options, strings.Fields(tt.args)...)
				if d := time.Since(start); d > 2*time.Second {
					t.Errorf("ipmitool %s: took %v: something was not answered", tt.args, d)
				}
				if status != tt.status {
					t.Errorf("ipmitool %s: status %d, want %d\n%s", tt.args, status, tt.status, out)
				}
				for _, w := range tt.want {
					if !strings.Contains(out, w) {
						t.Errorf("ipmitool %s: no %q in\n%s", tt.args, w, out)
					}
				}
				if got := hw.changes(); !slices.Equal(got, tt.changes) {
					t.Errorf("ipmitool %s: the computer saw %q, want %q", tt.args, got, tt.changes)
				}
			}
		})
	}
}

// TestIpmitoolRefused: what must not work fails at once, with a text that Ironic
// knows.
func TestIpmitoolRefused(t *testing.T) {
	hw := &hardware{on: true}
	x := newTool(t, serve(t, newServer(t, hw)))
	wrong := filepath.Join(x.dir, "wrong")
	if err := os.WriteFile(wrong, []byte("not it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		options []string
		args    string
		want    string
	}{
		{"wrong user", []string{"-U", "nobody"}, "power status", "Unable to establish IPMI v2 / RMCP+ session"},
		{"null user", []string{"-U", ""}, "power status", "Unable to establish IPMI v2 / RMCP+ session"},
		{"wrong password, suite 3", []string{"-C", "3", "-f", wrong}, "power status", "Unable to establish IPMI v2 / RMCP+ session"},
		{"wrong password, suite 17", []string{"-C", "17", "-f", wrong}, "power status", "Unable to establish IPMI v2 / RMCP+ session"},
		{"suite 0", []string{"-C", "0"}, "power status", "no matching cipher suite"},
		{"suite 1", []string{"-C", "1"}, "power status", "no matching cipher suite"},
		{"suite 2", []string{"-C", "2"}, "power status", "no matching cipher suite"},
		{"suite 8", []string{"-C", "8"}, "power status", "no matching cipher suite"},
		{"suite 15", []string{"-C", "15"}, "power status", "no matching cipher suite"},
		{"IPMI 1.5", []string{"-I", "lan"}, "power status", "Unable to establish LAN session"},
		{"user may not switch off", []string{"-L", "USER"}, "power off", "Insufficient privilege level"},
		{"operator may not reset the BMC", []string{"-L", "OPERATOR"}, "raw 0x06 0x02", "rsp=0xd4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := &tool{t: t, addr: x.addr, dir: x.dir}
			start := time.Now()
			out, status := x.ipmitool(tt.options, strings.Fields(tt.args)...)
			if status == 0 || !strings.Contains(out, tt.want) {
				t.Errorf("status %d, no %q in\n%s", status, tt.want, out)
			}
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	for _, level := range []string{"USER", "OPERATOR"} {
		if out, status := x.ipmitool([]string{"-L", level}, "power", "status"); status != 0 {
			t.Errorf("-L %s power status: %d\n%s", level, status, out)
		}
	}
	if out, status := x.ipmitool([]string{"-L", "OPERATOR"}, "power", "off"); status != 0 {
		t.Errorf("-L OPERATOR power off: %d\n%s", status, out)
	}
	if got := hw.changes(); !slices.Equal(got, []string{"stop"}) {
		t.Errorf("the computer saw %q", got)
	}
}

// TestIpmitoolBusy: a power change that takes longer than the client waits is
// made once, and others hear that the BMC is busy.
func TestIpmitoolBusy(t *testing.T) {
	hw := &hardware{}
	release := make(chan struct{})
	hw.hold = func(context.Context) error { <-release; return nil }
	x := newTool(t, serve(t, newServer(t, hw)))
	var wait sync.WaitGroup
	wait.Go(func() {
		out, status := x.ipmitool([]string{"-N", "1", "-R", "10"}, "power", "on")
		if status != 0 || !strings.Contains(out, "Up/On") {
			t.Errorf("power on: %d\n%s", status, out)
		}
	})
	time.Sleep(1500 * time.Millisecond) // ipmitool has sent its request twice
	if out, status := x.ipmitool(nil, "power", "status"); status != 0 || !strings.Contains(out, "is off") {
		t.Errorf("power status meanwhile: %d\n%s", status, out)
	}
	if out, status := x.ipmitool(nil, "power", "off"); status == 0 || !strings.Contains(out, "Node busy") {
		t.Errorf("power off meanwhile: %d\n%s", status, out)
	}
	close(release)
	wait.Wait()
	if got := hw.changes(); !slices.Equal(got, []string{"start"}) {
		t.Errorf("the computer saw %q, want one start", got)
	}
}

// TestIpmitoolConcurrent: many clients at one BMC, none is refused.
func TestIpmitoolConcurrent(t *testing.T) {
	x := newTool(t, serve(t, newServer(t, &hardware{})))
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			out, status := x.ipmitool([]string{"-C", []string{"3", "17"}[i%2]}, "power", "status")
			if status != 0 || out != "Chassis Power is off\n" {
				t.Errorf("power status: %d\n%s", status, out)
			}
		})
	}
	wait.Wait()
}

// TestIpmitoolUnknown: while the truth is not known, the BMC says busy.
func TestIpmitoolUnknown(t *testing.T) {
	hw := &hardware{unknown: errors.New("no answer")}
	x := newTool(t, serve(t, newServer(t, hw)))
	for _, args := range []string{"status", "off"} {
		if out, status := x.ipmitool(nil, "power", args); status == 0 || !strings.Contains(out, "Node busy") {
			t.Errorf("power %s: %d\n%s", args, status, out)
		}
	}
}

func TestFreeIPMI(t *testing.T) {
	hw := &hardware{}
	s := newServer(t, hw)
	x := newTool(t, serve(t, s))
	tests := []struct {
		name, args string
		status     int
		want       []string
		changes    []string
	}{
		{"ipmipower", "--stat", 0, []string{": off\n"}, nil},
		{"ipmipower", "-I 3 --on", 0, []string{": ok\n"}, []string{"start"}},
		{"ipmipower", "-I 17 --stat", 0, []string{": on\n"}, nil},
		{"ipmipower", "-I 17 --cycle", 0, []string{": ok\n"}, []string{"stop", "start"}},
		{"ipmipower", "-I 3 --reset", 0, []string{": ok\n"}, []string{"reset"}},
		{"ipmipower", "--pulse", 0, []string{": ok\n"}, []string{"interrupt"}},
		{"ipmipower", "--soft", 0, []string{": ok\n"}, []string{"shutdown"}},
		{"ipmipower", "--on --wait-until-on", 0, []string{": ok\n"}, []string{"start"}},
		{"ipmipower", "--off --wait-until-off", 0, []string{": ok\n"}, []string{"stop"}},
		{"ipmipower", "-u nobody --stat", 1, []string{"username invalid"}, nil},
		{"ipmipower", "-p nonsense --stat", 1, []string{"password invalid"}, nil},
		{"ipmipower", "-I 1 --stat", 1, []string{"cipher suite id unavailable"}, nil},
		{"bmc-info", "", 0, []string{"Device ID", "IPMI Version", "2.0", testUUID}, nil},
		{"ipmi-chassis", "--get-chassis-status", 0, []string{"System Power                        : off"}, nil},
		{"ipmi-chassis", "--get-chassis-capabilities", 0, nil, nil},
		{"ipmi-chassis", "--chassis-identify=10", 0, nil, nil},
		{"ipmi-chassis", "--get-system-restart-cause", 0, nil, nil},
		{"ipmi-sensors", "", 0, nil, nil},
		{"ipmi-sel", "", 0, nil, nil},
		{"ipmi-sel", "--info", 0, []string{"Number of log entries"}, nil},
		{"ipmi-config", "--category=chassis -e Chassis_Boot_Flags:Boot_Device=PXE -e Chassis_Boot_Flags:Boot_Flags_Persistent=Yes --commit", 0, nil, nil},
		{"ipmi-config", "--category=chassis -S Chassis_Boot_Flags --checkout", 0, []string{"PXE"}, nil},
	}
	for _, tt := range tests {
		start := time.Now()
		out, status := x.free(tt.name, strings.Fields(tt.args)...)
		if d := time.Since(start); d > 8*time.Second {
			t.Errorf("%s %s: took %v", tt.name, tt.args, d)
		}
		if status != tt.status {
			t.Errorf("%s %s: status %d, want %d\n%s", tt.name, tt.args, status, tt.status, out)
		}
		for _, w := range tt.want {
			if !strings.Contains(strings.ToLower(out), strings.ToLower(w)) {
				t.Errorf("%s %s: no %q in\n%s", tt.name, tt.args, w, out)
			}
		}
		if got := hw.changes(); !slices.Equal(got, tt.changes) {
			t.Errorf("%s %s: the computer saw %q, want %q", tt.name, tt.args, got, tt.changes)
		}
	}
	if b, _ := s.Machine.Override(); b == nil || b.Device != machine.DevicePXE || !b.Persistent {
		t.Errorf("after ipmi-config the override is %+v", b)
	}
}

// TestPing: the BMC is found by those who look for one.
func TestPing(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	x := newTool(t, addr)
	// rmcpping has no option for the port: 623 of an address that is ours alone.
	conn, err := net.ListenPacket("udp4", "127.77.6.23:623")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- newServer(t, &hardware{}).Serve(ctx, conn) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if out, status := x.run("rmcpping", "-c", "1", "-t", "3", "127.77.6.23"); status != 0 || !strings.Contains(out, "1 pongs received") {
		t.Errorf("rmcpping: %d\n%s", status, out)
	}
	if out, status := x.run("ipmi-ping", "-c", "1", "-t", "3", "127.77.6.23"); status != 0 || !strings.Contains(out, "1 responses received") {
		t.Errorf("ipmi-ping: %d\n%s", status, out)
	}
}
