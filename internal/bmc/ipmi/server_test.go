package ipmi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/machine"
)

func mustDial(t testing.TB, addr *net.UDPAddr) *client {
	t.Helper()
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// login returns a client in a session of an administrator.
func login(t testing.TB, addr *net.UDPAddr) *client {
	t.Helper()
	c := mustDial(t, addr)
	if err := c.login(testUser.Name, testUser.Password); err != nil {
		t.Fatal(err)
	}
	if code, _, err := c.do(0x06, 0x3b, 4); code != 0 || err != nil {
		t.Fatalf("set session privilege: %02Xh, %v", code, err)
	}
	return c
}

// must sends a command that has to succeed, and returns its data.
func must(t testing.TB, c *client, netFn, cmd byte, data ...byte) []byte {
	t.Helper()
	code, out, err := c.do(netFn, cmd, data...)
	if code != 0 || err != nil {
		t.Fatalf("command %02Xh/%02Xh % x: %02Xh, %v", netFn, cmd, data, code, err)
	}
	return bytes.Clone(out)
}

// wantCode sends a command and compares its completion code.
func wantCode(t testing.TB, c *client, want, netFn, cmd byte, data ...byte) {
	t.Helper()
	code, _, err := c.do(netFn, cmd, data...)
	if code != want || err != nil {
		t.Errorf("command %02Xh/%02Xh % x: %02Xh, %v, want %02Xh", netFn, cmd, data, code, err, want)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.ReplaceAll(s, " ", ""), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOutside has what is answered to those who are not logged in, byte by byte
// from the tables of the specification.
func TestOutside(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	tests := []struct{ name, in, want string }{
		{"presence ping (table 13-5, 13-6)", "06 00 ff 06 000011be 80 2a 00 00",
			"06 00 ff 06 000011be 40 2a 00 10 000011be 00000000 81 00 000000000000"},
		{"RMCP acknowledgement", "06 00 01 86", ""},
		{"authentication capabilities, IPMI 2.0 (§22.13)", "06 00 ff 07 00 00000000 00000000 09 20 18 c8 81 04 38 8e 04 b1",
			"06 00 ff 07 00 00000000 00000000 10 81 1c 63 20 04 38 00 01 80 04 02 00 00 00 00 1d"},
		{"the same, IPMI 1.5 form, channel 1: no authentication type", "06 00 ff 07 00 00000000 00000000 09 20 18 c8 81 04 38 01 04 3e",
			"06 00 ff 07 00 00000000 00000000 10 81 1c 63 20 04 38 00 01 00 04 00 00 00 00 00 9f"},
		{"the same, a channel that is not there", "06 00 ff 07 00 00000000 00000000 09 20 18 c8 81 04 38 83 04 bc",
			"06 00 ff 07 00 00000000 00000000 08 81 1c 63 20 04 38 cc d8"},
		{"cipher suites by suite (§22.15)", "06 00 ff 07 00 00000000 00000000 0a 20 18 c8 81 04 54 0e 00 80 99",
			"06 00 ff 07 00 00000000 00000000 13 81 1c 63 20 04 54 00 01 c0 11 03 44 81 c0 03 01 41 81 68"},
		{"cipher suites, beyond the list", "06 00 ff 07 00 00000000 00000000 0a 20 18 c8 81 04 54 0e 00 81 98",
			"06 00 ff 07 00 00000000 00000000 09 81 1c 63 20 04 54 00 01 87"},
		{"cipher suites by algorithm, in an RMCP+ packet", "06 00 ff 07 06 00 00000000 00000000 0a00 20 18 c8 81 04 54 0e 00 00 19",
			"06 00 ff 07 06 00 00000000 00000000 0e00 81 1c 63 20 04 54 00 01 03 01 44 41 81 7d"},
		{"wrong checksum", "06 00 ff 07 00 00000000 00000000 09 20 18 c8 81 04 38 8e 04 b2", ""},
		{"wrong first checksum", "06 00 ff 07 00 00000000 00000000 09 20 18 c9 81 04 38 8e 04 b1", ""},
		{"wrong length", "06 00 ff 07 00 00000000 00000000 0b 20 18 c8 81 04 38 8e 04 b1", ""},
		{"to somebody else", "06 00 ff 07 00 00000000 00000000 09 24 18 c4 81 04 38 8e 04 b1", ""},
		{"Get Device ID outside of a session: insufficient privilege", "06 00 ff 07 00 00000000 00000000 07 20 18 c8 81 04 01 7a",
			"06 00 ff 07 00 00000000 00000000 08 81 1c 63 20 04 01 d4 07"},
		{"Get Session Challenge of IPMI 1.5: invalid command", "06 00 ff 07 00 00000000 00000000 07 20 18 c8 81 04 39 42",
			"06 00 ff 07 00 00000000 00000000 08 81 1c 63 20 04 39 c1 e2"},
		{"Get System GUID: least significant byte first (table 20-10)", "06 00 ff 07 00 00000000 00000000 07 20 18 c8 81 04 37 44",
			"06 00 ff 07 00 00000000 00000000 18 81 1c 63 20 04 37 00 550e005b02105f8a6e5c0e3d5c217a9b 45"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustDial(t, addr)
			if tt.want == "" {
				c.timeout = 50 * time.Millisecond
			}
			got, err := c.exchange(unhex(t, tt.in))
			if tt.want == "" {
				if !errors.Is(err, errSilent) {
					t.Errorf("got % x, %v, want silence", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := unhex(t, tt.want)
			if !bytes.Equal(got, want) {
				t.Errorf("got  % x\nwant % x", got, want)
			}
		})
	}
}

// TestOpenSession has the statuses of the Open Session Response (table 13-15).
func TestOpenSession(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	tests := []struct {
		name                        string
		privilege, auth, integ, con byte
		wildcard                    bool
		status, suiteAuth           byte
	}{
		{"suite 3", 4, 1, 1, 1, false, 0, 1},
		{"suite 17", 4, 3, 4, 1, false, 0, 3},
		{"highest privilege", 0, 3, 4, 1, false, 0, 3},
		{"anything: the best", 4, 0, 0, 0, true, 0, 3},
		{"suite 0", 4, 0, 0, 0, false, 0x11, 0},
		{"suite 1", 4, 1, 0, 0, false, 0x11, 0},
		{"suite 2", 4, 1, 1, 0, false, 0x11, 0},
		{"suite 8", 4, 2, 2, 1, false, 0x11, 0},
		{"suite 15", 4, 3, 0, 0, false, 0x11, 0},
		{"suite 16", 4, 3, 4, 0, false, 0x11, 0},
		{"halves of two suites", 4, 1, 4, 1, false, 0x11, 0},
		{"OEM privilege", 5, 1, 1, 1, false, 0x09, 0},
		{"no privilege level", 15, 1, 1, 1, false, 0x09, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := openPayload(3, tt.privilege, 0x01020304, tt.auth, tt.integ, tt.con)
			if tt.wildcard {
				p[11], p[19], p[27] = 0, 0, 0
			}
			r, err := mustDial(t, addr).exchange(plain(0x10, p))
			if err != nil {
				t.Fatal(err)
			}
			if r[5] != 0x11 || r[16] != 3 || r[17] != tt.status || binary.LittleEndian.Uint32(r[20:]) != 0x01020304 {
				t.Fatalf("response % x, want status %02Xh", r, tt.status)
			}
			if tt.status != 0 {
				if len(r) != 16+8 {
					t.Errorf("response with a status has %d bytes, want 8", len(r)-16)
				}
				return
			}
			if r[32] != tt.suiteAuth {
				t.Errorf("authentication algorithm %d, want %d", r[32], tt.suiteAuth)
			}
			if p := tt.privilege; p != 0 && r[18] != p || p == 0 && r[18] != 4 {
				t.Errorf("privilege %d", r[18])
			}
		})
	}
}

// TestLogin has the statuses of RAKP 2 and RAKP 4 (table 13-15).
func TestLogin(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{},
		account.Account{ID: 3, Name: "sixteenbyteslong", Password: "twentybyteslongtoday", Role: account.Administrator, Enabled: true},
		account.Account{ID: 4, Name: "nopass", Role: account.Administrator, Enabled: true},
		account.Account{ID: 5, Name: "disabled", Password: "s3cret", Role: account.Administrator},
		account.Account{ID: 6, Name: "noaccess", Password: "s3cret", Role: account.NoAccess, Enabled: true},
		account.Account{ID: 7, Name: "noipmi", Password: "s3cret", Role: account.Administrator, Enabled: true, NoIPMI: true},
		account.Account{ID: 8, Name: "operator", Password: "s3cret", Role: account.Operator, Enabled: true},
		account.Account{ID: 9, Name: "reader", Password: "s3cret", Role: account.ReadOnly, Enabled: true}))
	tests := []struct {
		name, user, password string
		role                 byte
		status               statusError
	}{
		{"right", "admin", "s3cret", 0x14, 0},
		{"by name and privilege", "admin", "s3cret", 0x04, 0},
		{"as user", "admin", "s3cret", 0x12, 0},
		{"longest name and password", "sixteenbyteslong", "twentybyteslongtoday", 0x14, 0},
		{"wrong password", "admin", "wrong", 0x14, 0x0f},
		{"no password", "admin", "", 0x14, 0x0f},
		{"unknown user", "root", "s3cret", 0x14, 0x0d},
		{"unknown user, by name and privilege", "root", "s3cret", 0x04, 0x0d},
		{"null user", "", "", 0x14, 0x0d},
		{"user without password", "nopass", "", 0x14, 0x0d},
		{"disabled user", "disabled", "s3cret", 0x14, 0x0d},
		{"user without access", "noaccess", "s3cret", 0x12, 0x0d},
		{"user without IPMI", "noipmi", "s3cret", 0x14, 0x0d},
		{"operator", "operator", "s3cret", 0x13, 0},
		{"operator as user", "operator", "s3cret", 0x12, 0},
		{"operator as administrator", "operator", "s3cret", 0x14, 0x0a},
		{"operator as administrator, by name and privilege", "operator", "s3cret", 0x04, 0x0a},
		{"reader", "reader", "s3cret", 0x12, 0},
		{"reader as operator", "reader", "s3cret", 0x13, 0x0a},
		{"long name", strings.Repeat("a", 17), "s3cret", 0x14, 0x0c},
		{"very long name", strings.Repeat("a", 255), "s3cret", 0x14, 0x0c},
		{"role 0", "admin", "s3cret", 0x10, 0x09},
		{"OEM role", "admin", "s3cret", 0x15, 0x09},
	}
	for _, suite := range []int{3, 17} {
		for _, tt := range tests {
			t.Run(fmt.Sprint(suite, " ", tt.name), func(t *testing.T) {
				c := mustDial(t, addr)
				c.suite, c.role = suite, tt.role
				start := time.Now()
				err := c.login(tt.user, tt.password)
				if d := time.Since(start); d > time.Second {
					t.Errorf("took %v", d)
				}
				var status statusError
				if err != nil && !errors.As(err, &status) {
					t.Fatal(err)
				}
				if status != tt.status {
					t.Fatalf("status %02Xh, want %02Xh", byte(status), byte(tt.status))
				}
				if status == 0 {
					must(t, c, 0x06, 0x01)
				}
			})
		}
	}
	t.Run("unknown session", func(t *testing.T) {
		c := mustDial(t, addr)
		if err := c.open(); err != nil {
			t.Fatal(err)
		}
		c.system++
		if err := c.authenticate("admin", "s3cret"); !errors.Is(err, statusError(0x02)) {
			t.Errorf("got %v, want status 02h", err)
		}
	})
	t.Run("more than was opened for", func(t *testing.T) {
		c := mustDial(t, addr)
		r, err := c.exchange(plain(0x10, openPayload(7, 2, 1, 1, 1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		c.system = binary.LittleEndian.Uint32(r[24:])
		if err := c.authenticate("admin", "s3cret"); !errors.Is(err, statusError(0x0a)) {
			t.Errorf("got %v, want status 0Ah", err)
		}
	})
}

// TestPrivilege: a session may do what its privilege level allows (appendix G),
// and begins as user (§22.18).
func TestPrivilege(t *testing.T) {
	hw := &hardware{on: true}
	addr := serve(t, newServer(t, hw))
	c := mustDial(t, addr)
	c.role = 0x13 // operator at most
	if err := c.login(testUser.Name, testUser.Password); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c, 0xd4, 0x00, 0x02, 0) // power off as user
	must(t, c, 0x00, 0x01)
	if got := must(t, c, 0x06, 0x3b, 0); !bytes.Equal(got, []byte{2}) {
		t.Errorf("privilege % x, want 02", got)
	}
	wantCode(t, c, 0x81, 0x06, 0x3b, 4) // §22.18: exceeds the limit
	wantCode(t, c, 0xcc, 0x06, 0x3b, 1)
	must(t, c, 0x06, 0x3b, 3)
	wantCode(t, c, 0xd4, 0x06, 0x02) // cold reset as operator
	if got := hw.changes(); got != nil {
		t.Errorf("the computer saw %q", got)
	}
	must(t, c, 0x00, 0x02, 0)
	if got := hw.changes(); !slices.Equal(got, []string{"stop"}) {
		t.Errorf("the computer saw %q", got)
	}

	c = mustDial(t, addr)
	c.role = 0x11 // callback
	if err := c.login(testUser.Name, testUser.Password); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c, 0xd4, 0x00, 0x01)
	if err := c.logout(); err != nil {
		t.Error(err)
	}
}

// TestReplay: a packet that was there already is not answered, nor is one that
// was changed on its way, nor one outside of the window (§6.12.13).
func TestReplay(t *testing.T) {
	hw := &hardware{on: true}
	for _, suite := range []int{3, 17} {
		c := mustDial(t, serve(t, newServer(t, hw)))
		c.suite = suite
		if err := c.login(testUser.Name, testUser.Password); err != nil {
			t.Fatal(err)
		}
		silent := func(what string, b []byte) {
			t.Helper()
			c.timeout = 30 * time.Millisecond
			if r, err := c.exchange(b); !errors.Is(err, errSilent) {
				t.Errorf("suite %d, %s: % x, %v", suite, what, r, err)
			}
			c.timeout = 0
		}
		first := bytes.Clone(c.request(0x06, 0x01))
		if _, err := c.exchange(first); err != nil {
			t.Fatal(err)
		}
		silent("replay", first)
		next := bytes.Clone(c.request(0x06, 0x01))
		for i := 4; i < len(next); i += 3 {
			b := bytes.Clone(next)
			b[i] ^= 0x10
			if _, err := c.conn.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		silent("changed", next[:len(next)-1])
		if _, err := c.exchange(next); err != nil {
			t.Errorf("suite %d: forged packets broke the session: %v", suite, err)
		}
		msg := message(nil, 0x06, 9, 0x01)
		msg[len(msg)-1]++
		silent("wrong checksum", bytes.Clone(c.seal(10, msg)))
		msg = message(nil, 0x06, 9, 0x01)
		silent("sequence number 0", bytes.Clone(c.seal(0, msg)))
		silent("16 above the highest", bytes.Clone(c.seal(10+16, msg)))
		for _, seq := range []uint32{10 + 15, 10 + 14, 9} { // 15 above; below, once
			b := bytes.Clone(c.seal(seq, msg))
			if _, err := c.exchange(b); err != nil {
				t.Errorf("suite %d: sequence number %d: %v", suite, seq, err)
			}
			silent("again", b)
		}
		silent("17 below the highest", bytes.Clone(c.seal(8, msg)))
		c.seq = 25
		must(t, c, 0x06, 0x01)
	}
}

// TestRetransmission: a power command that is sent again is not done again, and
// is answered again.
func TestRetransmission(t *testing.T) {
	hw := &hardware{on: true}
	release := make(chan struct{})
	hw.hold = func(context.Context) error { <-release; return nil }
	addr := serve(t, newServer(t, hw))
	c := login(t, addr)
	cycle := message(nil, 0x00, 40, 0x02, 2)
	send := func() {
		c.seq++
		if _, err := c.conn.Write(c.seal(c.seq, cycle)); err != nil {
			t.Fatal(err)
		}
	}
	send()
	send() // while it is under way
	c.seq++
	if r, err := c.exchange(c.seal(c.seq, message(nil, 0x00, 41, 0x01))); err != nil {
		t.Errorf("status while the power changes: %v", err)
	} else if rq, cmd, code, _, err := c.unseal(r); rq != 41 || cmd != 1 || code != 0 || err != nil {
		t.Errorf("status while the power changes: %d %d %02Xh %v", rq, cmd, code, err)
	}
	wantCode(t, c, 0xc0, 0x00, 0x02, 1) // another command: node busy
	send()
	wantCode(t, login(t, addr), 0xc0, 0x00, 0x02, 0) // somebody else; and a round trip, so that send has arrived
	close(release)
	for i := range 2 { // the response to both, and then to a late copy
		r, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if rq, cmd, code, _, err := c.unseal(r); rq != 40 || cmd != 2 || code != 0 || err != nil {
			t.Errorf("response: %d %d %02Xh %v", rq, cmd, code, err)
		}
		if i == 0 {
			send()
		}
	}
	if got := hw.changes(); !slices.Equal(got, []string{"stop", "start"}) {
		t.Errorf("the computer saw %q, want one cycle", got)
	}
	// A new request with the same number is a new request.
	for range 40 {
		must(t, c, 0x00, 0x01)
	}
	c.seq++
	if _, err := c.exchange(c.seal(c.seq, cycle)); err != nil {
		t.Fatal(err)
	}
	if got := hw.changes(); !slices.Equal(got, []string{"stop", "start"}) {
		t.Errorf("the computer saw %q, want one more cycle", got)
	}
}

// TestPowerErrors has the completion codes of what goes wrong (table 5-2).
func TestPowerErrors(t *testing.T) {
	hw := &hardware{on: true}
	s := newServer(t, hw)
	s.PowerTime = 50 * time.Millisecond
	c := login(t, serve(t, s))
	fail := func(err error) func(*hardware) {
		return func(h *hardware) { h.hold = func(context.Context) error { return err } }
	}
	tests := []struct {
		name string
		set  func(*hardware)
		want byte
	}{
		{"the hardware fails", fail(errors.New("no memory")), 0xff},
		{"not supported", fail(fmt.Errorf("nmi: %w", machine.ErrUnsupported)), 0xcc},
		{"off meanwhile", fail(machine.ErrOff), 0xd5},
		{"too slow", func(h *hardware) { h.hold = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } }, 0xc3},
		{"not known", func(h *hardware) { h.unknown = errors.New("no answer") }, 0xc0},
	}
	for _, tt := range tests {
		hw.set(tt.set)
		code, _, err := c.do(0x00, 0x02, 3)
		if code != tt.want || err != nil {
			t.Errorf("%s: %02Xh, %v, want %02Xh", tt.name, code, err, tt.want)
		}
	}
	wantCode(t, c, 0xc0, 0x00, 0x01) // the state is not known: busy, not off
	for _, n := range []byte{6, 15} {
		wantCode(t, c, 0xcc, 0x00, 0x02, n)
	}
	wantCode(t, c, 0xc7, 0x00, 0x02)
}

// TestHardwareHangs: a change that does not end, and does not heed its context,
// is answered with C3h, and the machine is busy.
func TestHardwareHangs(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	hw := &hardware{on: true, hold: func(context.Context) error { <-hang; return nil }}
	s := newServer(t, hw)
	s.PowerTime = 20 * time.Millisecond
	c := login(t, serve(t, s))
	wantCode(t, c, 0xc3, 0x00, 0x02, 0)
	wantCode(t, c, 0xc0, 0x00, 0x02, 1)
	must(t, c, 0x00, 0x01)
}

// TestHardwarePanics: a bug behind one machine does not end the BMCs of others.
func TestHardwarePanics(t *testing.T) {
	hw := &hardware{on: true, hold: func(context.Context) error { panic("a bug") }}
	s := newServer(t, hw)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = s.Serve(ctx, conn) }()
	c := login(t, conn.LocalAddr().(*net.UDPAddr))
	wantCode(t, c, 0xff, 0x00, 0x02, 0)
	must(t, c, 0x00, 0x01)
	if s.Panics() != 1 {
		t.Errorf("%d panics counted, want 1", s.Panics())
	}
}

// TestBootFlags: what is written to boot option parameter 5 is read back, and is
// what the machine boots from.
func TestBootFlags(t *testing.T) {
	hw := &hardware{}
	s := newServer(t, hw)
	c := login(t, serve(t, s))
	tests := []struct {
		flags  string
		device machine.Device
	}{
		{"80 00 00 00 00", machine.DeviceDefault},
		{"80 04 00 00 00", machine.DevicePXE},
		{"c0 08 00 00 00", machine.DeviceDisk},
		{"a0 0c 00 00 00", machine.DeviceSafe},
		{"e0 10 00 00 00", machine.DeviceDiag},
		{"a0 14 00 00 00", machine.DeviceCDROM},
		{"80 18 00 00 00", machine.DeviceSetup},
		{"80 3c 00 00 00", machine.DeviceFloppy},
		{"e0 c7 fb 0f 1f", machine.DevicePXE}, // every other bit
	}
	for _, tt := range tests {
		want := unhex(t, tt.flags)
		must(t, c, 0x00, 0x08, append([]byte{5}, want...)...)
		if got := must(t, c, 0x00, 0x09, 5, 0, 0); !bytes.Equal(got, append([]byte{1, 5}, want...)) {
			t.Errorf("wrote % x, read % x", want, got)
		}
		b, _ := s.Machine.Override()
		if b == nil || b.Device != tt.device || b.Persistent != (want[0]&0x40 != 0) || b.EFI != (want[0]&0x20 != 0) {
			t.Errorf("% x makes the override %+v", want, b)
		}
	}
	must(t, c, 0x00, 0x08, 5, 0xe0, 4, 0, 0, 0)
	for _, device := range []byte{7, 8, 9, 0xa, 0xb, 0xc} { // redirected media and reserved
		wantCode(t, c, 0xcc, 0x00, 0x08, 5, 0x80, device<<2, 0, 0, 0)
	}
	must(t, c, 0x00, 0x02, 1)
	if b := hw.booted(); b.Device != machine.DevicePXE || !b.EFI {
		t.Errorf("booted %+v", b)
	}
	if got := must(t, c, 0x00, 0x09, 5, 0, 0); !bytes.Equal(got, []byte{1, 5, 0xe0, 4, 0, 0, 0}) {
		t.Errorf("persistent flags after a boot: % x", got)
	}
	must(t, c, 0x00, 0x08, 5, 0xa0, 0x14, 0, 0, 0)
	must(t, c, 0x00, 0x02, 3)
	if b := hw.booted(); b.Device != machine.DeviceCDROM {
		t.Errorf("booted %+v", b)
	}
	if got := must(t, c, 0x00, 0x09, 5, 0, 0); !bytes.Equal(got, []byte{1, 5, 0, 0, 0, 0, 0}) {
		t.Errorf("flags for one boot after it: % x", got)
	}
}

// TestBootFlagsTime: flags lapse after 60 s, unless parameter 3 says that they
// stay; Chassis Control begins the time anew (table 28-14, parameter 3).
func TestBootFlagsTime(t *testing.T) {
	s := newServer(t, &hardware{})
	c := login(t, serve(t, s))
	lapses := func() time.Duration {
		_, until := s.Machine.Override()
		if until.IsZero() {
			return 0
		}
		return time.Until(until)
	}
	must(t, c, 0x00, 0x08, 5, 0xc0, 4, 0, 0, 0)
	first := lapses()
	if first < 55*time.Second || first > 60*time.Second {
		t.Errorf("flags lapse in %v, want 60s", first)
	}
	_, before := s.Machine.Override()
	time.Sleep(2 * time.Millisecond)
	must(t, c, 0x00, 0x02, 0)
	if _, after := s.Machine.Override(); !after.After(before) {
		t.Errorf("Chassis Control did not begin the time anew: %v, %v", before, after)
	}
	must(t, c, 0x00, 0x08, 3, 8)
	if d := lapses(); d != 0 {
		t.Errorf("parameter 3 bit 3: flags lapse in %v, want never", d)
	}
	must(t, c, 0x00, 0x08, 5, 0xc0, 8, 0, 0, 0)
	if d := lapses(); d != 0 {
		t.Errorf("flags lapse in %v, want never", d)
	}
	if got := must(t, c, 0x00, 0x09, 3, 0, 0); !bytes.Equal(got, []byte{1, 3, 8}) {
		t.Errorf("parameter 3 reads % x", got)
	}
}

// TestBootOptions has the parameters other than the flags (table 28-14).
func TestBootOptions(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	a, b := login(t, addr), login(t, addr)
	must(t, a, 0x00, 0x08, 0, 1)
	must(t, a, 0x00, 0x08, 0, 1)           // sent again
	wantCode(t, b, 0x81, 0x00, 0x08, 0, 1) // set in progress
	if got := must(t, b, 0x00, 0x09, 0, 0, 0); !bytes.Equal(got, []byte{1, 0, 1}) {
		t.Errorf("set in progress reads % x", got)
	}
	if err := a.logout(); err != nil {
		t.Fatal(err)
	}
	if got := must(t, b, 0x00, 0x09, 0, 0, 0); !bytes.Equal(got, []byte{1, 0, 0}) {
		t.Errorf("set in progress of a session that ended reads % x", got)
	}
	must(t, b, 0x00, 0x08, 0, 1)
	must(t, b, 0x00, 0x08, 0, 0)
	must(t, b, 0x00, 0x08, 4, 0x0f, 0x05)
	must(t, b, 0x00, 0x08, 4, 0x01, 0x00)
	for param, want := range map[byte]string{1: "01 01 00", 2: "01 02 00", 4: "01 04 00 04", 6: "01 06 000000000000000000", 7: "01 07 00 00000000000000000000000000000000"} {
		if got := must(t, b, 0x00, 0x09, param, 0, 0); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("parameter %d reads % x, want %s", param, got, want)
		}
	}
	wantCode(t, b, 0x80, 0x00, 0x09, 8, 0, 0)
	wantCode(t, b, 0x80, 0x00, 0x08, 8, 0)
	wantCode(t, b, 0xc7, 0x00, 0x08, 6, 0)
	wantCode(t, b, 0xcc, 0x00, 0x08, 7, 5, 1)
	wantCode(t, b, 0xcc, 0x00, 0x09, 7, 5, 0)
	must(t, b, 0x00, 0x08, 7, 1, 'a', 'b')
	must(t, b, 0x00, 0x08, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	must(t, b, 0x00, 0x08, 1, 7)
	must(t, b, 0x00, 0x08, 2, 3)
	for param, want := range map[byte]string{1: "01 01 07", 2: "01 02 03", 6: "01 06 010203040506070809"} {
		if got := must(t, b, 0x00, 0x09, param, 0, 0); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("parameter %d reads % x, want %s", param, got, want)
		}
	}
	if got := must(t, b, 0x00, 0x09, 7, 1, 0); !bytes.Equal(got, unhex(t, "01 07 01 6162 0000000000000000000000000000")) {
		t.Errorf("mailbox reads % x", got)
	}
	wantCode(t, b, 0xc7, 0x00, 0x08, 5, 0x80, 4)
	wantCode(t, b, 0xcc, 0x00, 0x08, 0x85, 0x80, 4, 0, 0, 0)
	must(t, b, 0x00, 0x08, 5) // nothing is changed
}

// TestCommands has responses byte by byte.
func TestCommands(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	c := login(t, addr)
	tests := []struct {
		name       string
		netFn, cmd byte
		in, want   string
	}{
		{"Get Device ID (§20.1)", 0x06, 0x01, "", "20 01 01 00 02 8f 000000 0000 00000000"},
		{"Get Self Test Results (§20.4)", 0x06, 0x04, "", "55 00"},
		{"Get Device GUID (§20.8)", 0x06, 0x08, "", "550e005b02105f8a6e5c0e3d5c217a9b"},
		{"Get Channel Cipher Suites (§22.15)", 0x06, 0x54, "0e 00 80", "01 c0 11 03 44 81 c0 03 01 41 81"},
		{"Get Channel Access (§22.23)", 0x06, 0x41, "0e 40", "22 04"},
		{"Get Channel Info (§22.24)", 0x06, 0x42, "0e", "01 04 01 81 f2 1b 00 00 00"},
		{"Get User Access, user 2 (§22.27)", 0x06, 0x44, "01 02", "0f 41 01 14"},
		{"Get User Access, null user", 0x06, 0x44, "01 01", "0f 81 01 0f"},
		{"Get User Name, user 2 (§22.29)", 0x06, 0x46, "02", "61646d696e 0000000000000000000000"},
		{"Get User Name, null user", 0x06, 0x46, "01", "00000000000000000000000000000000"},
		{"Get Chassis Capabilities (§28.1)", 0x00, 0x00, "", "04 20 20 20 20"},
		{"Get Chassis Status (§28.2)", 0x00, 0x01, "", "00 00 40 00"},
		{"Get System Restart Cause (§28.11)", 0x00, 0x07, "", "00 00"},
		{"Set Power Restore Policy (§28.8)", 0x00, 0x06, "03", "07"},
		{"Get LAN Configuration Parameters, address (§23.2)", 0x0c, 0x02, "01 03 00 00", "11 7f000001"},
		{"Get LAN Configuration Parameters, suites", 0x0c, 0x02, "01 17 00 00", "11 00 11 03"},
		{"Get SEL Info (§31.2)", 0x0a, 0x40, "", "51 0000 0020 00000000 00000000 0b"},
		{"Get SDR Repository Info (§33.9)", 0x0a, 0x20, "", "51 0c00 0000 00000000 00000000 03"},
		{"Get SDR (§33.12)", 0x0a, 0x23, "0000 0000 00 ff", "0200 0100 51 12 0e 20 00 00 8f 000000 06 01 00 c3 424d43"},
	}
	for _, tt := range tests {
		if got := must(t, c, tt.netFn, tt.cmd, unhex(t, tt.in)...); !bytes.Equal(got, unhex(t, tt.want)) {
			t.Errorf("%s: % x, want %s", tt.name, got, tt.want)
		}
	}
	wantCode(t, c, 0xc1, 0x06, 0x99)
	wantCode(t, c, 0xc1, 0x2c, 0x00, 0) // PICMG
	wantCode(t, c, 0xc7, 0x06, 0x3c, 1)
	wantCode(t, c, 0xcc, 0x06, 0x46, 16)
	wantCode(t, c, 0xcc, 0x06, 0x46, 0)
	wantCode(t, c, 0xcb, 0x0a, 0x43, 0, 0, 0, 0, 0, 0xff)
	wantCode(t, c, 0x80, 0x0c, 0x02, 1, 9, 0, 0)
	c.seq++
	msg := message(nil, 0x06, 5, 0x01)
	msg[1] |= 1 // LUN 1
	msg[2] = checksum(msg[:2])
	r, err := c.exchange(c.seal(c.seq, msg))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, code, _, err := c.unseal(r); code != 0xc2 || err != nil {
		t.Errorf("LUN 1: %02Xh, %v, want C2h", code, err)
	}
}

// TestPacketConn: a net.PacketConn need not be a UDP socket of package net.
func TestPacketConn(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().(*net.UDPAddr)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- newServer(t, &hardware{}).Serve(ctx, struct{ net.PacketConn }{conn}) }()
	if err := mustDial(t, addr).session(testUser.Name, testUser.Password); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
