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
		{"chassis policy list", 0, []string{"always-off always-on previous"}, nil},
		{"chassis policy always-on", 0, nil, nil},
		{"chassis status", 0, []string{"Power Restore Policy : always-on"}, nil},
		{"chassis policy previous", 0, nil, nil},
		{"chassis status", 0, []string{"Power Restore Policy : previous"}, nil},
		{"chassis policy always-off", 0, nil, nil},
		{"chassis poh", 0, []string{"POH Counter  : 0 days, 0 hours"}, nil},
		{"chassis identify 5", 0, []string{"5 second"}, nil},
		{"chassis identify force", 0, nil, nil},
		{"raw 0x00 0x01", 0, []string{" 00 10 60 00"}, nil}, // off, by command, identify on until it is switched off
		{"chassis identify 3", 0, nil, nil},
		{"raw 0x00 0x01", 0, []string{" 00 10 50 00"}, nil}, // for some time
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
		{"chassis bootmbox set text block 1 7154 tenks", 0, nil, nil},
		{"chassis bootmbox get text block 1", 0, []string{"Block Data     : 'tenks'"}, nil},
		{"raw 0x00 0x08 0x03 0x08", 0, nil, nil},
		{"raw 0x00 0x09 0x03 0x00 0x00", 0, []string{"01 03 08"}, nil},
		{"raw 0x00 0x08 0x05 0xe0 0x04 0x00 0x00 0x00", 0, nil, nil},
		{"raw 0x00 0x09 0x05 0x00 0x00", 0, []string{"01 05 e0 04 00 00 00"}, nil},
		{"raw 0x00 0x08 0x05 0xa0 0x08 0x00 0x00 0x00", 0, nil, nil},
		{"raw 0x00 0x09 0x05 0x00 0x00", 0, []string{"01 05 a0 08 00 00 00"}, nil},
		{"raw 0x00 0x08 0x05 0x80 0x20 0x00 0x00 0x00", 1, []string{"rsp=0xcc"}, nil}, // remote CD
		{"raw 0x00 0x08 0x05 0xff 0xc7 0xfb 0x0f 0x1f", 0, nil, nil},
		{"raw 0x00 0x09 0x05 0x00 0x00", 0, []string{"01 05 e0 c7 fb 0f 1f"}, nil},

		{"mc info", 0, []string{"Device ID                 : 32", "Firmware Revision         : 1.00", "IPMI Version              : 2.0", "Chassis Device", "FRU Inventory Device", "SEL Device"}, nil},
		{"mc guid", 0, []string{testUUID}, nil},
		{"mc selftest", 0, []string{"passed"}, nil},
		{"mc getenables", 0, []string{"System Event Logging                     : enabled"}, nil},
		{"mc setsysinfo system_name tenks-0123456789-0123456789", 0, nil, nil},
		{"mc getsysinfo system_name", 0, []string{"tenks-0123456789-0123456789"}, nil},
		{"mc setsysinfo primary_os_name Debian", 0, nil, nil},
		{"mc getsysinfo primary_os_name", 0, []string{"Debian"}, nil},
		{"mc watchdog get", 0, []string{"Stopped"}, nil},
		{"raw 0x06 0x24 0x04 0x01 0x00 0x00 0x10 0x27", 0, nil, nil},
		{"mc watchdog reset", 0, []string{"countdown restarted"}, nil},
		{"mc watchdog get", 0, []string{"SMS/OS", "Started/Running", "Hard Reset", "Initial Countdown:      1000.0 sec"}, nil},
		{"mc watchdog off", 0, []string{"Shutoff successful"}, nil},
		{"session info active", 0, []string{"user id                       : 2", "console ip                    : 127.0.0.1"}, nil},
		{"session info all", 0, []string{"privilege level               : ADMINISTRATOR"}, nil},
		{"channel info", 0, []string{"802.3 LAN", "multi-session", "always available"}, nil},
		{"channel getciphers ipmi", 0, []string{"3", "17"}, nil},
		{"channel getciphers sol", 0, []string{"3", "17"}, nil},
		{"channel authcap 1 4", 0, []string{"IPMI v2.0"}, nil},
		{"channel getaccess 1 2", 0, []string{"admin", "ADMINISTRATOR", "IPMI Messaging       : enabled"}, nil},
		{"lan print 1", 0, []string{"127.0.0.1", "RMCP+ Cipher Suites     : 17,3", "Static Address", "Subnet Mask             : 255.0.0.0", "MAC Address", "Default Gateway IP      : 0.0.0.0",
			"802.1q VLAN ID          : Disabled", "SNMP Community String   : public", "Cipher Suite Priv Max   : aa"}, nil},
		{"lan set 1 snmp tenks", 0, nil, nil},
		{"lan print 1", 0, []string{"SNMP Community String   : tenks"}, nil},
		{"lan set 1 snmp public", 0, nil, nil},
		{"lan set 1 access on", 0, nil, nil},
		{"lan set 1 ipaddr 10.0.0.1", 1, nil, nil},
		{"raw 0x0c 0x01 0x01 0x03 0x0a 0x00 0x00 0x01", 1, []string{"rsp=0x82"}, nil},

		{"user list 1", 0, []string{"admin", "ADMINISTRATOR"}, nil},
		{"user summary 1", 0, []string{"Maximum IDs	    : 15", "Enabled User Count  : 1", "Fixed Name Count    : 1"}, nil},
		{"user set name 3 bob", 0, nil, nil},
		{"user set password 3 secret", 0, []string{"Set User Password command successful (user 3)"}, nil},
		{"user set password 3 0123456789012345678 20", 0, nil, nil},
		{"user test 3 20 0123456789012345678", 0, []string{"Success"}, nil},
		{"user test 3 16 0123456789012345", 1, []string{"Failure: wrong password size"}, nil},
		{"user test 3 20 wrong", 1, []string{"Failure: password incorrect"}, nil},
		{"user set password 3 secret", 0, nil, nil},
		{"user priv 3 3 1", 0, []string{"Set Privilege Level command successful (user 3)"}, nil},
		{"channel setaccess 1 3 ipmi=on link=off callin=on privilege=3", 0, nil, nil},
		{"user enable 3", 0, nil, nil},
		{"user list 1", 0, []string{"3   bob              true    false      true       OPERATOR"}, nil},
		{"sol payload status 1 3", 0, []string{"enabled"}, nil},
		{"sol payload disable 1 3", 0, nil, nil},
		{"sol payload status 1 3", 0, []string{"disabled"}, nil},
		{"user disable 3", 0, nil, nil},
		{"user summary 1", 0, []string{"Enabled User Count  : 1"}, nil},
		{"user set name 3 admin", 1, nil, nil},                              // taken
		{"raw 0x06 0x45 0x03 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", 0, nil, nil}, // ipmitool itself cannot take a name away
		{"user set name 1 root", 1, nil, nil},
		{"user disable 2", 1, nil, nil}, // the last administrator

		{"sdr info", 0, []string{"Record Count                        : 12"}, nil},
		{"sdr", 0, []string{"Inlet Temp       | 2", "degrees C", "CPU Temp         | no reading", "Fan 1            | no reading", "3.3V Standby     | 3.3", "Volts", "Watts", "Power Unit       | 0x01", "ACPI State       | 0x20"}, nil},
		{"sdr elist full", 0, []string{"CPU Temp         | 02h | ns  |  3.1 | No Reading", "Inlet Temp       | 01h | ok  | 55.1 |", "Fan 2            | 05h | ns  | 29.2"}, nil},
		{"sdr elist mcloc", 0, []string{"BMC"}, nil},
		{"sdr type Temperature", 0, []string{"Board Temp"}, nil},
		{"sdr type Fan", 0, []string{"Fan 1"}, nil},
		{"sdr type 0x22", 0, []string{"ACPI State", "S5/G2: soft-off"}, nil},
		{"sdr -v", 0, []string{"Sensor ID              : 12V (0x6)", "Readable Thresholds   : lcr lnc unc ucr", "Sensor Reading        : 2"}, nil},
		{"sensor", 0, []string{"Fan 1            | na", "| 600.000   | 840.000", "Inlet Temp       | 2", "42.000    | 47.000", "| degrees C  | ok", "Power Unit       | 0x1        | discrete   | 0x0180"}, nil},
		{"sensor reading \"Inlet Temp\"", 1, nil, nil}, // not how a shell would split it
		{"power on", 0, nil, []string{"start"}},
		{"sdr", 0, []string{"CPU Temp         | ", "RPM", "12V              | 12", "Power Unit       | 0x00", "ACPI State       | 0x01"}, nil},
		{"sensor get 5V", 0, []string{"Upper Critical        : 5.500", "Lower Non-Critical    : 4.700"}, nil},
		{"power off", 0, nil, []string{"stop"}},
		{"fru", 0, []string{"Chassis Type          : Rack Mount Chassis", "Chassis Serial        : TK000017", "Board Mfg             : Tenks", "Board Serial          : TK000017",
			"Product Manufacturer  : Tenks", "Product Serial        : TK000017", "UUID " + testUUID, "Name tk0"}, nil},
		{"fru list 0", 0, []string{"Product Name"}, nil},
		{"fru edit 0 field p 4 TK999999", 0, nil, nil},
		{"fru", 0, []string{"Product Serial        : TK999999", "Chassis Serial        : TK000017"}, nil},
		{"fru edit 0 field p 4 TK000017", 0, nil, nil},

		{"sel clear", 0, nil, nil},
		{"sel", 0, []string{"Entries          : 0", "Supported Cmds   : 'Delete' 'Reserve' 'Get Alloc Info'"}, nil},
		{"sel list", 0, []string{"no entries"}, nil},
		{"event 1", 0, nil, nil},
		{"sel list", 0, []string{"Temperature", "Upper Critical going high"}, nil},
		{"raw 0x0a 0x44 0x00 0x00 0xdf 0 0 0 0 1 2 3 4 5 6 7 8 9", 0, nil, nil},
		{"sel list", 0, []string{"OEM record df | 030201 | 040506070809"}, nil},
		{"sel time get", 0, nil, nil},
		{"sel time set now", 0, nil, nil},
		{"sel info", 0, []string{"Entries          : 2"}, nil},
		{"sel clear", 0, nil, nil},

		{"dcmi discover", 0, []string{"Power management available"}, nil},
		{"dcmi power reading", 0, []string{"Instantaneous power reading:", "Watts", "Power reading state is:                   activated"}, nil},
		{"dcmi power get_limit", 0, nil, nil},
		{"dcmi set_asset_tag rack7-unit3-with-a-long-name", 0, nil, nil},
		{"dcmi asset_tag", 0, []string{"rack7-unit3-with-a-long-name"}, nil},
		{"dcmi set_asset_tag x", 0, nil, nil},
		{"dcmi set_mc_id_string conductor-1", 0, nil, nil},
		{"dcmi get_mc_id_string", 0, []string{"conductor-1"}, nil},
		{"dcmi sensors", 0, []string{"Inlet"}, nil},
		{"dcmi get_temp_reading", 0, nil, nil},

		{"sol info 1", 0, []string{"Enabled                         : true", "Force Encryption                : true", "Privilege Level                 : OPERATOR", "Volatile Bit Rate (kbps)        : 115.2"}, nil},
		{"sol set character-accumulate-level 2 1", 0, nil, nil},
		{"sol info 1", 0, []string{"Character Accumulate Level (ms) : 10"}, nil},
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
				if tt.args == "mc reset cold" {
					time.Sleep(2 * s.ResetTime) // it is silent
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

// TestIpmitoolAccount: an account that ipmitool made can log in, may do what its
// level allows, and is gone when it is removed.
func TestIpmitoolAccount(t *testing.T) {
	hw := &hardware{on: true}
	x := newTool(t, serve(t, newServer(t, hw)))
	for _, args := range []string{"user set name 3 bob", "user set password 3 " + testUser.Password, "user priv 3 3 1", "channel setaccess 1 3 ipmi=on privilege=3", "user enable 3"} {
		if out, status := x.ipmitool(nil, strings.Fields(args)...); status != 0 {
			t.Fatalf("%s: %d\n%s", args, status, out)
		}
	}
	bob := []string{"-U", "bob", "-L", "OPERATOR"}
	if out, status := x.ipmitool(bob, "power", "off"); status != 0 {
		t.Errorf("power off: %d\n%s", status, out)
	}
	if got := hw.changes(); !slices.Equal(got, []string{"stop"}) {
		t.Errorf("the computer saw %q", got)
	}
	if out, status := x.ipmitool(bob, "user", "disable", "2"); status == 0 || !strings.Contains(out, "Insufficient privilege level") {
		t.Errorf("disable another: %d\n%s", status, out)
	}
	if out, status := x.ipmitool([]string{"-U", "bob"}, "power", "status"); status == 0 || !strings.Contains(out, "Unable to establish") {
		t.Errorf("as administrator: %d\n%s", status, out)
	}
	if out, status := x.ipmitool(nil, "user", "disable", "3"); status != 0 {
		t.Errorf("user disable: %d\n%s", status, out)
	}
	if out, status := x.ipmitool(bob, "power", "status"); status == 0 || !strings.Contains(out, "Unable to establish") {
		t.Errorf("disabled: %d\n%s", status, out)
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
		{"ipmi-chassis", "--set-power-restore-policy=restore", 0, nil, nil},
		{"ipmi-chassis", "--get-chassis-status", 0, []string{"Power restore policy                : Restore"}, nil},
		{"ipmi-chassis", "--get-power-on-hours-counter", 0, []string{"hours"}, nil},
		{"ipmi-chassis", "--chassis-identify=FORCE", 0, nil, nil},
		{"ipmi-chassis", "--get-chassis-status", 0, []string{"Chassis Identify state              : Indefinite"}, nil},
		{"ipmi-sensors", "", 0, []string{"Inlet Temp", "CPU Temp", "Temperature", "N/A", "Power Unit", "Power Off/Power Down"}, nil},
		{"ipmi-sensors", "--output-sensor-thresholds --sensor-types=Voltage", 0, []string{"10.80", "13.30"}, nil},
		{"ipmi-sensors", "--verbose --record-ids=5", 0, []string{"Fan"}, nil},
		{"ipmi-sensors", "--output-sensor-state --sdr-info", 0, []string{"record count"}, nil},
		{"ipmi-sel", "--clear", 0, nil, nil},
		{"ipmi-sel", "", 0, nil, nil},
		{"ipmi-sel", "--info", 0, []string{"Number of log entries", "Delete"}, nil},
		{"ipmi-fru", "", 0, []string{"FRU Board Manufacturer: Tenks", "TK000017", testUUID, "FRU Product Name: Node"}, nil},
		{"ipmi-dcmi", "--get-dcmi-capability-info", 0, []string{"Power Management", "Number of SEL entries                              : 512", "Record Level SEL Flush upon Rollover               : Available"}, nil},
		{"ipmi-dcmi", "--get-system-power-statistics", 0, []string{"Current Power", "Active"}, nil},
		{"ipmi-dcmi", "--set-asset-tag=rack-7", 0, nil, nil},
		{"ipmi-dcmi", "--get-asset-tag", 0, []string{"rack-7"}, nil},
		{"ipmi-dcmi", "--get-management-controller-identifier-string", 0, []string{"tk0"}, nil},
		{"ipmi-dcmi", "--get-dcmi-sensor-info", 0, []string{"Inlet"}, nil},
		{"bmc-device", "--get-self-test-results", 0, []string{"No Error"}, nil},
		{"bmc-device", "--get-acpi-power-state", 0, []string{"S5/G2"}, nil},
		{"bmc-device", "--get-sel-time", 0, []string{"SEL Time"}, nil},
		{"bmc-device", "--get-sdr-repository-time", 0, nil, nil},
		{"ipmi-config", "--category=core --checkout", 1, []string{"Section User2", "Section Lan_Conf", "IP_Address_Source                             Static", "Section SOL_Conf", "Enable_SOL                                    Yes"}, nil}, // 1: there is no serial channel
		{"ipmi-config", "--category=core --commit -e User3:Username=carol -e User3:Password=geheim -e User3:Enable_User=Yes" +
			" -e User3:Lan_Enable_IPMI_Msgs=Yes -e User3:Lan_Privilege_Limit=Operator", 0, nil, nil},
		{"ipmipower", "-u carol -p geheim -I 17 --on", 0, []string{": ok\n"}, []string{"start"}},
		{"bmc-info", "-u carol -p geheim -l ADMIN", 1, []string{"privilege level cannot be obtained"}, nil},
		{"ipmi-config", "--category=sensors --checkout", 0, nil, nil},
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
