package ipmi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/bmc/fault"
	"github.com/tenks/tenks/internal/machine"
)

func pad(text string, n int) []byte { return append([]byte(text), make([]byte, n-len(text))...) }

// TestUserCommands makes an account, uses it and removes it (§22.26 to §22.30).
func TestUserCommands(t *testing.T) {
	s := newServer(t, &hardware{on: true})
	addr := serve(t, s)
	c := login(t, addr)
	wantCode(t, c, 0xd5, 0x06, 0x47, append([]byte{3, 2}, pad("x", 16)...)...) // there is nobody yet
	wantCode(t, c, 0xd5, 0x06, 0x43, 0x91, 3, 3)
	must(t, c, 0x06, 0x45, append([]byte{3}, pad("bob", 16)...)...)
	must(t, c, 0x06, 0x47, append([]byte{3, 2}, pad("secret", 16)...)...)
	must(t, c, 0x06, 0x43, 0x91, 3, 3)
	if got := must(t, c, 0x06, 0x44, 1, 3); !bytes.Equal(got, []byte{15, 0x81, 1, 0x13}) {
		t.Errorf("access before it is enabled: % x", got)
	}
	must(t, c, 0x06, 0x47, 3, 1)
	if got := must(t, c, 0x06, 0x44, 1, 3); !bytes.Equal(got, []byte{15, 0x42, 1, 0x13}) {
		t.Errorf("access: % x", got)
	}
	must(t, c, 0x06, 0x47, append([]byte{3, 3}, pad("secret", 16)...)...)
	wantCode(t, c, 0x80, 0x06, 0x47, append([]byte{3, 3}, pad("secreT", 16)...)...)
	must(t, c, 0x06, 0x47, append([]byte{0x83, 2}, pad("12345678901234567890", 20)...)...)
	wantCode(t, c, 0x81, 0x06, 0x47, append([]byte{3, 3}, pad("1234567890123456", 16)...)...)
	must(t, c, 0x06, 0x47, append([]byte{0x83, 3}, pad("12345678901234567890", 20)...)...)
	wantCode(t, c, 0xc7, 0x06, 0x47, 3, 2, 'a')
	wantCode(t, c, 0xcc, 0x06, 0x45, append([]byte{4}, pad("bob", 16)...)...) // taken
	wantCode(t, c, 0xcc, 0x06, 0x45, append([]byte{1}, pad("root", 16)...)...)
	wantCode(t, c, 0xcc, 0x06, 0x45, append([]byte{16}, pad("root", 16)...)...)
	wantCode(t, c, 0xcc, 0x06, 0x43, 0x91, 3, 1) // callback
	wantCode(t, c, 0xd5, 0x06, 0x47, 2, 0)       // the last administrator

	bob := mustDial(t, addr)
	bob.role = 0x13
	if err := bob.login("bob", "12345678901234567890"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, bob, 0x81, 0x06, 0x3b, 4)
	must(t, bob, 0x06, 0x3b, 3)
	must(t, bob, 0x00, 0x02, 0)
	wantCode(t, bob, 0xd4, 0x06, 0x47, 3, 0)
	must(t, c, 0x06, 0x45, append([]byte{3}, pad("", 16)...)...)
	bob.timeout = 30 * time.Millisecond
	if _, _, err := bob.do(0x06, 0x01); !errors.Is(err, errSilent) {
		t.Errorf("session of somebody who is gone: %v", err)
	}
}

// TestOwnAccount: who changes the account of its own session can still close it.
func TestOwnAccount(t *testing.T) {
	other := account.Account{ID: 3, Name: "boss", Password: "b", Role: account.Administrator, Enabled: true}
	addr := serve(t, newServer(t, &hardware{}, other))
	c := login(t, addr)
	must(t, c, 0x06, 0x47, append([]byte{2, 2}, pad("new", 16)...)...)
	must(t, c, 0x06, 0x01)
	must(t, c, 0x06, 0x43, 0x91, 2, 3) // operator from now on
	wantCode(t, c, 0xd4, 0x06, 0x47, 2, 1)
	must(t, c, 0x00, 0x02, 0)
	if err := c.logout(); err != nil {
		t.Error(err)
	}
	c = mustDial(t, addr)
	if err := c.login("boss", "b"); err != nil {
		t.Fatal(err)
	}
	must(t, c, 0x06, 0x3b, 4)
	must(t, c, 0x06, 0x43, 0x91, 2, 4)
	must(t, c, 0x06, 0x47, 3, 0) // disable oneself
	wantCode(t, c, 0xd4, 0x06, 0x01)
	if err := c.logout(); err != nil {
		t.Error(err)
	}
}

// TestChannelAccess: a limit of the channel holds until the BMC restarts (§22.22).
func TestChannelAccess(t *testing.T) {
	s := newServer(t, &hardware{})
	addr := serve(t, s)
	c := login(t, addr)
	must(t, c, 0x06, 0x40, 1, 0x42, 0x44)
	wantCode(t, c, 0x83, 0x06, 0x40, 1, 0x40, 0x44) // disabled
	wantCode(t, c, 0xcc, 0x06, 0x40, 1, 0x42, 0x42) // for ever
	must(t, c, 0x06, 0x40, 1, 0x82, 0x83)
	if got := must(t, c, 0x06, 0x41, 1, 0x80); !bytes.Equal(got, []byte{0x22, 3}) {
		t.Errorf("volatile access % x", got)
	}
	if err := mustDial(t, addr).login(testUser.Name, testUser.Password); !errors.Is(err, statusError(0x0a)) {
		t.Errorf("administrator over the limit: %v", err)
	}
	must(t, c, 0x06, 0x02)
	time.Sleep(2 * s.ResetTime)
	login(t, addr)
}

// TestFailedLogins: many failures from one address hold that address up, and not
// for long; only some are in the log.
func TestFailedLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &hardware{})
		c, end := serveCable(t, s)
		defer end()
		bad := &client{conn: c.conn, suite: 3}
		held, n := false, 0
		for ; n < 100 && !held; n++ {
			err := bad.login(testUser.Name, "wrong")
			held = errors.Is(err, statusError(0x01))
			if !held && !errors.Is(err, statusError(0x0f)) {
				t.Fatal(err)
			}
		}
		if !held || n < 10 {
			t.Errorf("held up: %v, after %d failures", held, n)
		}
		must(t, c, 0x06, 0x01) // a session goes on
		good := &client{conn: c.conn, suite: 3}
		if err := good.login(testUser.Name, testUser.Password); !errors.Is(err, statusError(0x01)) {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(1100 * time.Millisecond)
		if err := good.login(testUser.Name, testUser.Password); err != nil {
			t.Errorf("a second later: %v", err)
		}
		events := s.Machine.Log().Events()
		if len(events) != 1 || events[0].Kind != machine.LoginFailed || !strings.Contains(events[0].Text, "admin") {
			t.Errorf("events %+v", events)
		}
	})
}

// gate is a fault.Gate that answers with what rules has for an operation.
type gate struct {
	mu    sync.Mutex
	rules map[string]fault.Effect
	left  []string
}

func (g *gate) Enter(_ context.Context, r fault.Request) fault.Effect {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rules[r.Operation]
}

func (g *gate) Leave(_ context.Context, r fault.Request, answer string, _ time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = append(g.left, strings.Join([]string{r.Protocol, r.Operation, r.Detail, answer}, "|"))
}

func (g *gate) set(operation string, e fault.Effect) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = map[string]fault.Effect{operation: e}
}

// seen returns what was answered, and forgets it. The gate is told when the
// client has its answer already: seen waits for n entries, but not for long.
func (g *gate) seen(n int) []string {
	for range 400 {
		g.mu.Lock()
		if l := g.left; len(l) >= n {
			g.left = nil
			g.mu.Unlock()
			return l
		}
		g.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left
}

// TestGate: the BMC misbehaves as it is told, and says what was asked and
// answered, without passwords.
func TestGate(t *testing.T) {
	hw := &hardware{on: true}
	s := newServer(t, hw)
	g := &gate{}
	s.Gate = g
	addr := serve(t, s)
	c := login(t, addr)
	if got := g.seen(4); !slices.Equal(got, []string{"ipmi|Open Session||00h", "ipmi|RAKP 1||00h", "ipmi|RAKP 3||00h", "ipmi|Set Session Privilege Level|04|00h"}) {
		t.Errorf("a log-in is %q", got)
	}
	for _, tt := range []struct {
		effect fault.Effect
		code   byte
	}{{fault.Effect{Busy: true}, 0xc0}, {fault.Effect{Fail: true}, 0xff}, {fault.Effect{Pretend: true}, 0}} {
		g.set("Chassis Control", tt.effect)
		wantCode(t, c, tt.code, 0x00, 0x02, 0)
		if got := hw.changes(); got != nil {
			t.Errorf("%+v: the computer saw %q", tt.effect, got)
		}
	}
	g.seen(3)
	g.set("Chassis Control", fault.Effect{Drop: true})
	c.timeout = 30 * time.Millisecond
	if _, _, err := c.do(0x00, 0x02, 0); !errors.Is(err, errSilent) {
		t.Errorf("drop: %v", err)
	}
	c.timeout = 0
	must(t, c, 0x06, 0x47, append([]byte{2, 3}, pad(testUser.Password, 16)...)...)
	wantCode(t, c, 0xc1, 0x06, 0x99, 7)
	want := []string{"ipmi|Chassis Control|00|no answer", "ipmi|Set User Password||00h", "ipmi|command 06h/99h|07|C1h"}
	if got := g.seen(len(want)); !slices.Equal(got, want) {
		t.Errorf("seen %q, want %q", got, want)
	}

	// One that is delayed delays nobody else.
	g.set("Chassis Control", fault.Effect{Delay: 100 * time.Millisecond})
	start := time.Now()
	slow := bytes.Clone(c.request(0x00, 0x02, 0))
	if _, err := c.conn.Write(slow); err != nil {
		t.Fatal(err)
	}
	must(t, login(t, addr), 0x00, 0x01)
	if d := time.Since(start); d > 80*time.Millisecond {
		t.Errorf("others were answered after %v", d)
	}
	if got := hw.changes(); got != nil {
		t.Errorf("before the delay the computer saw %q", got)
	}
	r, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	if _, cmd, code, _, err := c.unseal(r); cmd != 2 || code != 0 || err != nil || time.Since(start) < 100*time.Millisecond {
		t.Errorf("after %v: %d %02Xh %v", time.Since(start), cmd, code, err)
	}
	if got := hw.changes(); !slices.Equal(got, []string{"stop"}) {
		t.Errorf("the computer saw %q", got)
	}

	for operation, want := range map[string]struct {
		effect fault.Effect
		status statusError
	}{
		"RAKP 3":       {fault.Effect{Deny: true}, 0x0f},
		"Open Session": {fault.Effect{Busy: true}, 0x01},
		"RAKP 1":       {fault.Effect{Fail: true}, 0x01},
	} {
		g.set(operation, want.effect)
		if err := mustDial(t, addr).login(testUser.Name, testUser.Password); !errors.Is(err, want.status) {
			t.Errorf("%s %+v: %v", operation, want.effect, err)
		}
	}
	g.set("RAKP 1", fault.Effect{Delay: 50 * time.Millisecond})
	start = time.Now()
	if err := mustDial(t, addr).login(testUser.Name, testUser.Password); err != nil || time.Since(start) < 50*time.Millisecond {
		t.Errorf("delayed log-in: %v after %v", err, time.Since(start))
	}
	g.set("Presence Ping", fault.Effect{Drop: true})
	silent := mustDial(t, addr)
	silent.timeout = 30 * time.Millisecond
	if _, err := silent.exchange(unhex(t, "06 00 ff 06 000011be 80 2a 00 00")); !errors.Is(err, errSilent) {
		t.Errorf("dropped ping: %v", err)
	}
	g.set("RAKP 1", fault.Effect{Drop: true})
	if err := silent.login(testUser.Name, testUser.Password); !errors.Is(err, errSilent) {
		t.Errorf("dropped log-in: %v", err)
	}
}

// TestWatchdog: it counts down, interrupts before, acts, and says so (§27).
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hw := &hardware{on: true}
		s := newServer(t, hw)
		c, end := serveCable(t, s)
		defer end()
		wantCode(t, c, 0x80, 0x06, 0x22)                         // never set
		wantCode(t, c, 0xcc, 0x06, 0x24, 0, 1, 0, 0, 100, 0)     // no use
		wantCode(t, c, 0xcc, 0x06, 0x24, 4, 0x21, 11, 0, 100, 0) // pre-timeout after the end
		must(t, c, 0x06, 0x24, 4, 0x21, 2, 0x10, 100, 0)         // 10 s; NMI 2 s before; hard reset
		if got := must(t, c, 0x06, 0x25); !bytes.Equal(got, unhex(t, "04 21 02 00 6400 6400")) {
			t.Errorf("set: % x", got)
		}
		must(t, c, 0x06, 0x22)
		time.Sleep(3 * time.Second)
		if got := must(t, c, 0x06, 0x25); !bytes.Equal(got, unhex(t, "44 21 02 00 6400 4600")) {
			t.Errorf("running: % x", got)
		}
		must(t, c, 0x06, 0x22)
		time.Sleep(7 * time.Second)
		if got := hw.changes(); got != nil {
			t.Errorf("after 7 of 10 s: %q", got)
		}
		time.Sleep(1500 * time.Millisecond)
		if got := hw.changes(); !slices.Equal(got, []string{"interrupt"}) {
			t.Errorf("after 8.5 of 10 s: %q", got)
		}
		time.Sleep(1600 * time.Millisecond)
		if got := hw.changes(); !slices.Equal(got, []string{"reset"}) {
			t.Errorf("after 10.1 of 10 s: %q", got)
		}
		if got := must(t, c, 0x06, 0x25); !bytes.Equal(got, unhex(t, "04 21 02 10 6400 0000")) {
			t.Errorf("expired: % x", got)
		}
		if got := must(t, c, 0x00, 0x07); !bytes.Equal(got, []byte{4, 0}) { // table 28-11: watchdog
			t.Errorf("restart cause % x", got)
		}
		var kinds []machine.Kind
		for _, e := range s.Machine.Log().Events() {
			kinds = append(kinds, e.Kind)
		}
		if !slices.Equal(kinds, []machine.Kind{machine.Interrupted, machine.WatchdogExpired, machine.WasReset}) {
			t.Errorf("events %q", kinds)
		}
		// A restart by other means stops it.
		must(t, c, 0x06, 0x24, 4, 1, 0, 0x10, 100, 0)
		must(t, c, 0x06, 0x22)
		time.Sleep(time.Second)
		must(t, c, 0x00, 0x02, 3)
		synctest.Wait()
		if got := must(t, c, 0x06, 0x25); !bytes.Equal(got, unhex(t, "04 01 00 00 6400 5a00")) {
			t.Errorf("after a reset: % x", got)
		}
	})
}

// TestIdentify: the light blinks for some time, for ever or not, also after the
// BMC is started again (§28.5).
func TestIdentify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &store{}
		s := serverOf(t, &hardware{}, st)
		c, end := serveCable(t, s)
		state := func() byte { return must(t, c, 0x00, 0x01)[2] & 0x30 }
		must(t, c, 0x00, 0x04)
		time.Sleep(14 * time.Second)
		if got := state(); got != 0x10 || s.Machine.Settings().Indicator != machine.IndicatorBlinking {
			t.Errorf("after 14 s: %02x, %q", got, s.Machine.Settings().Indicator)
		}
		time.Sleep(2 * time.Second)
		if got := state(); got != 0 || s.Machine.Settings().Indicator != machine.IndicatorOff {
			t.Errorf("after 16 s: %02x, %q", got, s.Machine.Settings().Indicator)
		}
		must(t, c, 0x00, 0x04, 0, 1)
		time.Sleep(30 * time.Second)
		if got := state(); got != 0x20 {
			t.Errorf("for ever: %02x", got)
		}
		must(t, c, 0x00, 0x04, 20)
		end()
		s = serverOf(t, &hardware{}, st)
		c, end = serveCable(t, s)
		defer end()
		if got := state(); got != 0x10 {
			t.Errorf("started again: %02x", got)
		}
		time.Sleep(21 * time.Second)
		if got := state(); got != 0 {
			t.Errorf("started again, after its time: %02x", got)
		}
	})
}

// TestKept: what a client sets is there when the BMC is started again.
func TestKept(t *testing.T) {
	st := &store{}
	c := login(t, serve(t, serverOf(t, &hardware{}, st)))
	must(t, c, 0x00, 0x08, 3, 8)
	must(t, c, 0x00, 0x06, 2)
	must(t, c, 0x0a, 0x5d, 60, 0)
	must(t, c, 0x0a, 0x12, 0, 0xf0, 1, 1, 2, 3)
	must(t, c, 0x06, 0x58, append([]byte{3, 0, 0, 3}, pad("BSD", 14)...)...)
	must(t, c, 0x06, 0x58, append([]byte{2, 0, 0, 20}, "tenks-tenks-te"...)...)
	must(t, c, 0x06, 0x58, append([]byte{2, 1}, pad("nks-01", 16)...)...)
	must(t, c, 0x2c, 0x08, append([]byte{0xdc, 0, 5}, "rack7"...)...)
	must(t, c, 0x2c, 0x0a, append([]byte{0xdc, 0, 3}, "me\x00"...)...)
	must(t, c, 0x0c, 0x01, append([]byte{1, 16}, pad("tenks", 18)...)...)
	must(t, c, 0x00, 0x02, 1)
	s := serverOf(t, &hardware{on: true}, st)
	c = login(t, serve(t, s))
	for _, tt := range []struct {
		name       string
		netFn, cmd byte
		in, want   string
	}{
		{"boot option parameter 3", 0x00, 0x09, "03 00 00", "01 03 08"},
		{"chassis status", 0x00, 0x01, "", "41 10 40 00"},
		{"restart cause", 0x00, 0x07, "", "01 01"},
		{"UTC offset", 0x0a, 0x5c, "", "3c00"},
		{"FRU", 0x0a, 0x11, "00 f001 04", "04 01020300"},
		{"OS name", 0x06, 0x59, "00 03 00 00", "11 00 00 03 42534400 00000000 00000000 0000"},
		{"system name", 0x06, 0x59, "00 02 01 00", "11 01 6e6b732d3031 00000000000000000000"},
		{"asset tag", 0x2c, 0x06, "dc 00 10", "dc 05 7261636b37"},
		{"controller id", 0x2c, 0x09, "dc 00 10", "dc 03 6d6500"},
		{"community", 0x0c, 0x02, "01 10 00 00", "11 74656e6b73 00000000000000000000000000"},
	} {
		if got := must(t, c, tt.netFn, tt.cmd, unhex(t, tt.in)...); !bytes.Equal(got, unhex(t, tt.want)) {
			t.Errorf("%s: % x, want %s", tt.name, got, tt.want)
		}
	}
	if set := s.Machine.Settings(); set.HostName != "tenks-tenks-tenks-01" || set.AssetTag != "rack7" || set.Policy != machine.PolicyOn {
		t.Errorf("settings %+v", set)
	}
}

// TestSetLAN: addresses are the cluster file's, and can only be set to what they are.
func TestSetLAN(t *testing.T) {
	c := login(t, serve(t, newServer(t, &hardware{})))
	must(t, c, 0x0c, 0x01, 1, 3, 127, 0, 0, 1)
	must(t, c, 0x0c, 0x01, 1, 4, 1)
	must(t, c, 0x0c, 0x01, 1, 0, 1)
	wantCode(t, c, 0x82, 0x0c, 0x01, 1, 3, 10, 0, 0, 1)
	wantCode(t, c, 0x82, 0x0c, 0x01, 1, 4, 2)
	wantCode(t, c, 0x82, 0x0c, 0x01, 1, 12, 10, 0, 0, 1)
	wantCode(t, c, 0x82, 0x0c, 0x01, 1, 20, 1, 0x80)
	wantCode(t, c, 0x80, 0x0c, 0x01, 1, 99, 1)
	wantCode(t, c, 0xc7, 0x0c, 0x01, 1, 7, 1)
	mac := must(t, c, 0x0c, 0x02, 1, 5, 0, 0)
	if len(mac) != 7 || mac[1]&3 != 2 { // locally administered, not a group
		t.Errorf("MAC address % x", mac[1:])
	}
}

// TestSensors compares what records and readings mean, as a console computes it
// (§36.3), with what the machine says.
func TestSensors(t *testing.T) {
	s := newServer(t, &hardware{on: true})
	c := login(t, serve(t, s))
	for i, want := range s.Machine.Sensors() {
		r := must(t, c, 0x0a, 0x23, 0, 0, byte(i+2), 0, 0, 0xff)[2:]
		if r[3] != 1 || int(r[4])+5 != len(r) || r[7] != byte(i+1) || string(r[48:]) != want.Name {
			t.Fatalf("record % x of %+v", r, want)
		}
		m := int(r[24]) | int(r[25]&0xc0)<<2
		exponent := int(int8(r[29])) >> 4
		value := func(raw byte) float64 { return float64(m*int(raw)) * math.Pow10(exponent) }
		got := must(t, c, 0x04, 0x2d, byte(i+1))
		step := value(1)
		if d := math.Abs(value(got[0]) - want.Value); d > step*0.51+1e-3*want.Value || got[1] != 0x40 || got[2] != 0xc0 {
			t.Errorf("%s: reading % x is %v, want %v", want.Name, got, value(got[0]), want.Value)
		}
		limits := must(t, c, 0x04, 0x27, byte(i+1))
		for bit, limit := range []float64{want.LowWarning, want.LowCritical, math.NaN(), want.HighWarning, want.HighCritical, math.NaN()} {
			there := limits[0]&(1<<bit) != 0
			if there == math.IsNaN(limit) || there && math.Abs(value(limits[1+bit])-limit) > 1e-6 {
				t.Errorf("%s: threshold %d is %v (%v), want %v", want.Name, bit, value(limits[1+bit]), there, limit)
			}
		}
		if kind := must(t, c, 0x04, 0x2f, byte(i+1)); kind[0] != r[12] || kind[1] != 1 {
			t.Errorf("%s: type % x", want.Name, kind)
		}
	}
	for _, tt := range []struct {
		on   byte
		want [2]string
	}{{1, [2]string{"00 40 00 80", "00 40 01 80"}}, {0, [2]string{"00 40 01 80", "00 40 20 80"}}} {
		must(t, c, 0x00, 0x02, tt.on)
		for i, sensor := range []byte{0x40, 0x41} {
			if got := must(t, c, 0x04, 0x2d, sensor); !bytes.Equal(got, unhex(t, tt.want[i])) {
				t.Errorf("sensor %02x while on is %d: % x, want %s", sensor, tt.on, got, tt.want[i])
			}
		}
	}
	if got := must(t, c, 0x04, 0x2d, 2); got[1] != 0x60 { // unavailable
		t.Errorf("CPU of a machine that is off: % x", got)
	}
	wantCode(t, c, 0xcb, 0x04, 0x2d, 0x7f)
	wantCode(t, c, 0xcb, 0x0a, 0x23, 0, 0, 99, 0, 0, 16)
	// In parts, as ipmitool reads.
	whole := must(t, c, 0x0a, 0x23, 1, 0, 3, 0, 0, 0xff)[2:]
	var parts []byte
	for len(parts) < len(whole) {
		parts = append(parts, must(t, c, 0x0a, 0x23, 1, 0, 3, 0, byte(len(parts)), 16)[2:]...)
	}
	if !bytes.Equal(parts, whole) {
		t.Errorf("in parts % x\nwhole % x", parts, whole)
	}
}

// TestSEL: what happened, as records (§32.1, table 42-3).
func TestSEL(t *testing.T) {
	s := newServer(t, &hardware{on: true})
	c := login(t, serve(t, s))
	when := time.Date(2031, 4, 5, 6, 7, 8, 0, time.UTC)
	must(t, c, 0x0a, 0x49, binary.LittleEndian.AppendUint32(nil, uint32(when.Unix()))...)
	stamp := func() uint32 { return binary.LittleEndian.Uint32(must(t, c, 0x0a, 0x48)) }
	if d := int64(stamp()) - when.Unix(); d < 0 || d > 2 {
		t.Errorf("the clock is %d s off", d)
	}
	kinds := []struct {
		e    machine.Event
		want string // from the generator on
	}{
		{machine.Event{Kind: machine.PoweredOff}, "2000 04 09 40 6f 00 ff ff"},
		{machine.Event{Kind: machine.PoweredOn}, "2000 04 09 40 ef 00 ff ff"},
		{machine.Event{Kind: machine.WasReset}, "2000 04 1d 50 6f 01 ff ff"},
		{machine.Event{Kind: machine.Booting, Text: "pxe"}, "2000 04 1d 50 6f 03 ff ff"},
		{machine.Event{Kind: machine.Booting, Text: "disk"}, "2000 04 1d 50 6f c7 01 ff"},
		{machine.Event{Kind: machine.Interrupted}, "2000 04 13 51 6f 00 ff ff"},
		{machine.Event{Kind: machine.ShutdownAsked}, "2000 04 14 52 6f 00 ff ff"},
		{machine.Event{Kind: machine.LoginFailed}, "2000 04 2a 53 6f f2 00 01"},
		{machine.Event{Kind: machine.MediaInserted}, "2000 04 21 54 6f 02 ff ff"},
		{machine.Event{Kind: machine.MediaEjected}, "2000 04 21 54 ef 02 ff ff"},
		{machine.Event{Kind: machine.WatchdogExpired, Text: "hard reset"}, "2000 04 23 55 6f 01 ff ff"},
		{machine.Event{Kind: machine.LogCleared}, "2000 04 10 56 6f 02 ff ff"},
	}
	for _, k := range kinds {
		s.Machine.Log().Add(k.e)
	}
	id := must(t, c, 0x0a, 0x44, unhex(t, "ffff c5 00000000 010203 0a0b0c0d0e0f")...)
	last := must(t, c, 0x0a, 0x43, 0, 0, 0xff, 0xff, 0, 0xff)
	if !bytes.Equal(last[:5], append([]byte{0xff, 0xff, id[0], id[1]}, 0xc5)) || !bytes.Equal(last[9:], unhex(t, "010203 0a0b0c0d0e0f")) {
		t.Errorf("a client's record reads % x", last)
	}
	must(t, c, 0x04, 0x02, 4, 1, 0x30, 1, 0x59, 0, 0) // Platform Event
	next := []byte{0, 0}
	for i := 0; ; i++ {
		r := must(t, c, 0x0a, 0x43, 0, 0, next[0], next[1], 0, 0xff)
		next = r[:2]
		if i < len(kinds) {
			d := int64(binary.LittleEndian.Uint32(r[5:])) - when.Unix()
			if r[4] != 2 || d < 0 || d > 2 || !bytes.Equal(r[9:], unhex(t, kinds[i].want)) {
				t.Errorf("%s: % x, want %s", kinds[i].e.Kind, r, kinds[i].want)
			}
		}
		if bytes.Equal(next, []byte{0xff, 0xff}) {
			if i != len(kinds)+1 || !bytes.Equal(r[9:], unhex(t, "8100 04 01 30 01 59 00 00")) {
				t.Errorf("record %d, the last: % x", i, r)
			}
			break
		}
	}
	info := must(t, c, 0x0a, 0x40)
	if n := binary.LittleEndian.Uint16(info[1:]); int(n) != len(kinds)+2 || binary.LittleEndian.Uint32(info[5:]) == 0 {
		t.Errorf("info % x", info)
	}
	reserve := func() []byte { return must(t, c, 0x0a, 0x42) }
	res := reserve()
	wantCode(t, c, 0xc5, 0x0a, 0x46, res[0]+1, res[1], 1, 0)
	if got := must(t, c, 0x0a, 0x46, res[0], res[1], 1, 0); !bytes.Equal(got, []byte{1, 0}) {
		t.Errorf("deleted % x", got)
	}
	wantCode(t, c, 0xcb, 0x0a, 0x43, 0, 0, 1, 0, 0, 0xff)
	wantCode(t, c, 0xc5, 0x0a, 0x46, res[0], res[1], 2, 0) // cancelled by the deletion
	wantCode(t, c, 0xc5, 0x0a, 0x43, res[0], res[1], 2, 0, 4, 4)
	res = reserve()
	must(t, c, 0x0a, 0x43, res[0], res[1], 2, 0, 4, 4)
	wantCode(t, c, 0xcc, 0x0a, 0x47, res[0], res[1], 'C', 'L', 'X', 0xaa)
	if got := must(t, c, 0x0a, 0x47, res[0], res[1], 'C', 'L', 'R', 0xaa); !bytes.Equal(got, []byte{1}) {
		t.Errorf("clear % x", got)
	}
	wantCode(t, c, 0xcb, 0x0a, 0x43, 0, 0, 0, 0, 0, 0xff)
}

// TestBMCKey: with Kg, the password alone is not enough (§13.31).
func TestBMCKey(t *testing.T) {
	s := newServer(t, &hardware{})
	s.BMCKey = "12345678901234567890"
	addr := serve(t, s)
	c := mustDial(t, addr)
	if err := c.login(testUser.Name, testUser.Password); err == nil {
		t.Error("logged in without the key")
	}
	c = mustDial(t, addr)
	c.bmcKey = s.BMCKey
	if err := c.login(testUser.Name, testUser.Password); err != nil {
		t.Fatal(err)
	}
	if got := must(t, c, 0x06, 0x38, 0x8e, 4); got[2] != 0x24 {
		t.Errorf("authentication status %02x, want the bit of Kg", got[2])
	}
}

// TestPowerReading: DCMI's power is the sensor's (DCMI v1.5 §6.6.1).
func TestPowerReading(t *testing.T) {
	s := newServer(t, &hardware{on: true})
	c := login(t, serve(t, s))
	got := must(t, c, 0x2c, 0x02, 0xdc, 1, 0, 0)
	watts := float64(binary.LittleEndian.Uint16(got[1:]))
	if len(got) != 18 || got[0] != 0xdc || math.Abs(watts-s.Machine.Watts()) > 2 || got[17] != 0x40 {
		t.Errorf("power reading % x, want %v W", got, s.Machine.Watts())
	}
	wantCode(t, c, 0xc1, 0x2c, 0x02, 0xdd, 1, 0, 0) // another group
	wantCode(t, c, 0xc1, 0x2c, 0x02)
}
