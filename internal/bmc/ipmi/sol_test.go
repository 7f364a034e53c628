package ipmi_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
)

// activate activates Serial over LAN (§24.1), with encryption.
func activate(t testing.TB, c *client) {
	t.Helper()
	got := must(t, c, 0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
	if len(got) != 12 || got[4] != 0xff || got[6] != 0xff || got[10] != 0xff || got[11] != 0xff {
		t.Errorf("activate payload answers % x", got)
	}
}

// nextSOL returns the next packet.
func nextSOL(t testing.TB, c *client) solPacket {
	t.Helper()
	p, err := c.readSOL()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// acknowledge takes all of p.
func acknowledge(t testing.TB, c *client, p solPacket) {
	t.Helper()
	if err := c.sendSOL(solPacket{ack: p.seq, accepted: byte(len(p.data))}); err != nil {
		t.Fatal(err)
	}
}

// hear takes what the machine says until it has said want.
func hear(t testing.TB, c *client, want string) {
	t.Helper()
	got := ""
	for len(got) < len(want) {
		p := nextSOL(t, c)
		got += p.data
		if p.seq != 0 {
			acknowledge(t, c, p)
		}
	}
	if got != want {
		t.Errorf("heard %d bytes %.60q, want %d bytes %.60q", len(got), got, len(want), want)
	}
}

// quiet checks that nothing comes for d.
func quiet(t testing.TB, c *client, d time.Duration) {
	t.Helper()
	old := c.timeout
	c.timeout = d
	if p, err := c.readSOL(); !errors.Is(err, errSilent) {
		t.Errorf("got %+v, %v, want silence for %v", p, err, d)
	}
	c.timeout = old
}

// TestSOL: what is typed reaches the machine, once, and what it says the client,
// all of it.
func TestSOL(t *testing.T) {
	hw := newTalker()
	c := login(t, serve(t, newServer(t, hw)))
	activate(t, c)
	if err := c.sendSOL(solPacket{seq: 1, data: "hello"}); err != nil {
		t.Fatal(err)
	}
	if p := nextSOL(t, c); p != (solPacket{ack: 1, accepted: 5}) {
		t.Errorf("acknowledgement %+v", p)
	}
	if err := c.sendSOL(solPacket{seq: 1, data: "hello"}); err != nil { // again: the acknowledgement was lost
		t.Fatal(err)
	}
	heard := ""
	for acks := 0; acks == 0 || heard == ""; {
		p := nextSOL(t, c)
		switch {
		case p == solPacket{ack: 1, accepted: 5}:
			acks++
		case p.data == "HELLO" && p.seq == 1 && p.flags == 0:
			acknowledge(t, c, p)
			heard += p.data
		default:
			t.Fatalf("got %+v", p)
		}
	}
	must(t, c, 0x06, 0x01)
	if got := hw.input(); got != "hello" {
		t.Errorf("the machine got %q", got)
	}
	var long strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&long, "%08d", i)
	}
	hw.say(long.String())
	hear(t, c, long.String())
	must(t, c, 0x06, 0x49, 1, 1, 0, 0, 0, 0)
	wantCode(t, c, 0x80, 0x06, 0x49, 1, 1, 0, 0, 0, 0) // §24.2: already
	if err := c.sendSOL(solPacket{seq: 2, data: "x"}); err != nil {
		t.Fatal(err)
	}
	if p := nextSOL(t, c); p != (solPacket{ack: 2, flags: 0x50}) { // NACK, deactivated
		t.Errorf("after deactivation: %+v", p)
	}
}

// TestSOLCommands has the codes and answers of the payload commands (§24).
func TestSOLCommands(t *testing.T) {
	reader := account.Account{ID: 3, Name: "reader", Password: "r", Role: account.ReadOnly, Enabled: true}
	noSOL := account.Account{ID: 4, Name: "nosol", Password: "n", Role: account.Administrator, Enabled: true, NoSOL: true}
	s := newServer(t, newTalker(), reader, noSOL)
	addr := serve(t, s)
	a, b := login(t, addr), login(t, addr)
	for _, tt := range []struct {
		name     string
		cmd      byte
		in, want string
	}{
		{"Get Payload Activation Status", 0x4a, "01", "01 0000"},
		{"Get Payload Instance Info", 0x4b, "01 01", "00000000 0100000000000000"},
		{"Get Channel Payload Support", 0x4e, "0e", "03 00 3f 00 00 00 0000"},
		{"Get Channel Payload Version", 0x4f, "0e 01", "10"},
		{"Get User Payload Access", 0x4d, "0e 02", "02 00 00 00"},
		{"Get User Payload Access, no SOL", 0x4d, "0e 04", "00 00 00 00"},
		{"Get User Payload Access, nobody", 0x4d, "0e 05", "00 00 00 00"},
	} {
		if got := must(t, a, 0x06, tt.cmd, unhex(t, tt.in)...); !bytes.Equal(got, unhex(t, tt.want)) {
			t.Errorf("%s: % x, want %s", tt.name, got, tt.want)
		}
	}
	wantCode(t, a, 0x84, 0x06, 0x48, 1, 1, 0, 0, 0, 0)    // without encryption
	wantCode(t, a, 0xcc, 0x06, 0x48, 1, 2, 0xc0, 0, 0, 0) // a second instance
	wantCode(t, a, 0xcc, 0x06, 0x48, 0, 1, 0xc0, 0, 0, 0) // IPMI is no payload to activate
	activate(t, a)
	wantCode(t, b, 0x80, 0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
	wantCode(t, a, 0x80, 0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
	if got := must(t, b, 0x06, 0x4a, 1); !bytes.Equal(got, []byte{1, 1, 0}) {
		t.Errorf("activation status % x", got)
	}
	if got := must(t, b, 0x06, 0x4b, 1, 1); !bytes.Equal(got[:4], le32(a.system)) {
		t.Errorf("instance info % x, want session %x", got, a.system)
	}
	must(t, a, 0x06, 0x55, 1, 1, 1)
	wantCode(t, a, 0x81, 0x06, 0x55, 1, 1, 0)
	wantCode(t, a, 0x80, 0x06, 0x55, 1, 1, 2)
	wantCode(t, b, 0x83, 0x06, 0x55, 1, 1, 1)

	// Another client takes it over: the one that loses is told.
	must(t, b, 0x06, 0x49, 1, 1, 0, 0, 0, 0)
	if p := nextSOL(t, a); p.flags&0x10 == 0 || !strings.Contains(p.data, "[console deactivated by admin from 127.0.0.1]") {
		t.Errorf("notice %+v", p)
	}
	activate(t, b)
	must(t, a, 0x06, 0x3c, le32(b.system)...) // closes b's session
	if p := nextSOL(t, b); p.flags&0x10 == 0 {
		t.Errorf("notice %+v", p)
	}
	if got := must(t, a, 0x06, 0x4a, 1); !bytes.Equal(got, []byte{1, 0, 0}) {
		t.Errorf("activation status % x", got)
	}

	for _, u := range []account.Account{reader, noSOL} {
		c := mustDial(t, addr)
		c.role = 0x12
		if err := c.login(u.Name, u.Password); err != nil {
			t.Fatal(err)
		}
		want := byte(0xd4)
		if u.NoSOL {
			want = 0x81
		}
		wantCode(t, c, want, 0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
	}
	must(t, a, 0x06, 0x4c, 1, 0x42, 2, 0, 0, 0) // disable one's own
	wantCode(t, a, 0x81, 0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
	must(t, a, 0x06, 0x4c, 1, 0x02, 2, 0, 0, 0)
	activate(t, a)
}

// TestSOLWithoutConsole: a machine without console has no Serial over LAN.
func TestSOLWithoutConsole(t *testing.T) {
	c := login(t, serve(t, newServer(t, &hardware{})))
	wantCode(t, c, 0x81, 0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
}

// TestSOLConfig: parameters are read back, also by the next BMC (§26.3).
func TestSOLConfig(t *testing.T) {
	st := &store{}
	s := serverOf(t, newTalker(), st)
	c := login(t, serve(t, s))
	for param, want := range map[byte]string{0: "00", 1: "01", 2: "c3", 5: "0a", 6: "0a", 7: "01"} {
		if got := must(t, c, 0x0c, 0x22, 1, param, 0, 0); !bytes.Equal(got, unhex(t, "11"+want)) {
			t.Errorf("parameter %d reads % x, want %s", param, got, want)
		}
	}
	for param, set := range map[byte]string{1: "00", 2: "c4", 3: "04 50", 4: "03 0a", 6: "09"} {
		must(t, c, 0x0c, 0x21, append([]byte{1, param}, unhex(t, set)...)...)
	}
	wantCode(t, c, 0x80, 0x0c, 0x22, 1, 9, 0, 0)
	wantCode(t, c, 0x80, 0x0c, 0x21, 1, 9, 0)
	wantCode(t, c, 0x82, 0x0c, 0x21, 1, 7, 2)
	wantCode(t, c, 0xcc, 0x0c, 0x21, 1, 3, 0, 1)
	wantCode(t, c, 0x81, 0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
	c = login(t, serve(t, serverOf(t, newTalker(), st)))
	for param, want := range map[byte]string{1: "00", 2: "c4", 3: "04 50", 4: "03 0a", 5: "09", 6: "09"} {
		if got := must(t, c, 0x0c, 0x22, 1, param, 0, 0); !bytes.Equal(got, unhex(t, "11"+want)) {
			t.Errorf("after a restart, parameter %d reads % x, want %s", param, got, want)
		}
	}
}

// TestSOLOff: Serial over LAN stays while the machine is off; what is typed then
// is refused, and says why. Breaks are refused too.
func TestSOLOff(t *testing.T) {
	hw := newTalker()
	c := login(t, serve(t, newServer(t, hw)))
	activate(t, c)
	must(t, c, 0x00, 0x02, 0)
	if err := c.sendSOL(solPacket{seq: 1, data: "x"}); err != nil {
		t.Fatal(err)
	}
	if p := nextSOL(t, c); p != (solPacket{ack: 1, flags: 0x60}) { // NACK, unavailable
		t.Errorf("typed while off: %+v", p)
	}
	must(t, c, 0x00, 0x02, 1)
	if err := c.sendSOL(solPacket{seq: 1, flags: 0x10}); err != nil {
		t.Fatal(err)
	}
	if p := nextSOL(t, c); p != (solPacket{ack: 1, flags: 0x40}) {
		t.Errorf("break: %+v", p)
	}
	if err := c.sendSOL(solPacket{seq: 1, data: "y"}); err != nil {
		t.Fatal(err)
	}
	if p := nextSOL(t, c); p != (solPacket{ack: 1, accepted: 1}) {
		t.Errorf("typed while on: %+v", p)
	}
	hear(t, c, "Y")
}

// TestSOLHistory: who comes later sees what was said before.
func TestSOLHistory(t *testing.T) {
	hw := newTalker()
	s := newServer(t, hw)
	c := login(t, serve(t, s))
	v, err := s.Machine.Console().Attach(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	hw.say("login: ")
	if _, err := v.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	activate(t, c)
	hear(t, c, "login: ")
}

// TestSOLTimes: characters are collected, and sent again until they are
// acknowledged (§26.3, parameters 3 and 4).
func TestSOLTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hw := newTalker()
		c, end := serveCable(t, newServer(t, hw))
		defer end()
		must(t, c, 0x0c, 0x21, 1, 3, 10, 20) // 50 ms, 20 characters
		must(t, c, 0x0c, 0x21, 1, 4, 2, 10)  // twice again, after 100 ms
		activate(t, c)
		start := time.Now()
		after := func(want time.Duration, data string) solPacket {
			t.Helper()
			p := nextSOL(t, c)
			if d := time.Since(start); d != want || p.data != data {
				t.Errorf("after %v: %+v, want %q after %v", d, p, data, want)
			}
			return p
		}
		synctest.Wait()
		hw.say("ab")
		time.Sleep(30 * time.Millisecond)
		hw.say("c")
		p := after(50*time.Millisecond, "abc")
		after(150*time.Millisecond, "abc")
		if again := after(250*time.Millisecond, "abc"); again != p {
			t.Errorf("sent again: %+v, first %+v", again, p)
		}
		after(1250*time.Millisecond, "abc") // and then once a second
		acknowledge(t, c, p)
		quiet(t, c, 5*time.Second)

		start = time.Now()
		hw.say("0123456789")
		time.Sleep(10 * time.Millisecond)
		hw.say("0123456789+")
		p = after(10*time.Millisecond, "01234567890123456789+")
		// A part is accepted: the rest comes in a new packet, at once.
		if err := c.sendSOL(solPacket{ack: p.seq, accepted: 18}); err != nil {
			t.Fatal(err)
		}
		q := after(10*time.Millisecond, "89+")
		if q.seq != p.seq%15+1 {
			t.Errorf("sequence number %d after %d", q.seq, p.seq)
		}
		// Nothing is accepted: it comes again after a pause.
		if err := c.sendSOL(solPacket{ack: q.seq, flags: 0x40}); err != nil {
			t.Fatal(err)
		}
		q = after(110*time.Millisecond, "89+")
		acknowledge(t, c, q)
		quiet(t, c, time.Second)
	})
}

// TestSOLIdle: the console is let go when its client has been silent for 60 s.
func TestSOLIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hw := newTalker()
		s := newServer(t, hw)
		c, end := serveCable(t, s)
		defer end()
		activate(t, c)
		time.Sleep(59 * time.Second)
		if err := c.sendSOL(solPacket{}); err != nil { // as ipmitool does to keep it
			t.Fatal(err)
		}
		quiet(t, c, 59*time.Second)
		c.timeout = 2 * time.Second
		if p := nextSOL(t, c); p.flags&0x10 == 0 {
			t.Errorf("%+v, want the notice that it is over", p)
		}
		synctest.Wait()
		hw.mu.Lock()
		defer hw.mu.Unlock()
		if !hw.ended {
			t.Error("the console is still open")
		}
	})
}

// TestSOLDeaf: a machine that takes no input delays nobody; its BMC refuses more
// after a while, and nothing that was accepted is lost.
func TestSOLDeaf(t *testing.T) {
	hw := newTalker()
	hw.setDeaf(true)
	c := login(t, serve(t, newServer(t, hw)))
	activate(t, c)
	want, refused := "", false
	for i := range 60 {
		text := fmt.Sprint(i, ",")
		if err := c.sendSOL(solPacket{seq: byte(i%15 + 1), data: text}); err != nil {
			t.Fatal(err)
		}
		if p := nextSOL(t, c); p.flags&0x40 != 0 {
			refused = true
		} else {
			want += text
		}
	}
	if !refused {
		t.Error("nothing is refused")
	}
	hw.setDeaf(false)
	for deadline := time.Now().Add(5 * time.Second); len(hw.input()) < len(want) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if got := hw.input(); got != want {
		t.Errorf("the machine got %q, want %q", got, want)
	}
}

// TestSOLEarly: what is typed before the machine's console is there is not lost.
func TestSOLEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hw := newTalker()
		hw.late = 300 * time.Millisecond
		c, end := serveCable(t, newServer(t, hw))
		defer end()
		activate(t, c)
		for i, word := range []string{"early", "bird"} {
			if err := c.sendSOL(solPacket{seq: byte(i + 1), data: word}); err != nil {
				t.Fatal(err)
			}
			if p := nextSOL(t, c); p != (solPacket{ack: byte(i + 1), accepted: byte(len(word))}) {
				t.Errorf("acknowledgement %+v", p)
			}
		}
		hear(t, c, "EARLYBIRD")
	})
}
