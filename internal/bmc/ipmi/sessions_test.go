package ipmi_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
)

// TestLostAnswers: a console that does not get RAKP 2 or RAKP 4 sends RAKP 1 or 3
// again, and gets the same answer; another RAKP 1 gets another random number.
func TestLostAnswers(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	c := mustDial(t, addr)
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	rakp1 := func(random byte) []byte {
		b := append([]byte{1, 0, 0, 0}, le32(c.system)...)
		b = append(b, bytes.Repeat([]byte{random}, 16)...)
		return append(b, 0x14, 0, 0, 5, 'a', 'd', 'm', 'i', 'n')
	}
	ask := func(typ byte, b []byte) []byte {
		t.Helper()
		r, err := c.exchange(plain(typ, b))
		if err != nil {
			t.Fatal(err)
		}
		if r[17] != 0 {
			t.Fatalf("status %02Xh", r[17])
		}
		return bytes.Clone(r)
	}
	other := ask(0x12, rakp1(1))
	first := ask(0x12, rakp1(2))
	if !bytes.Equal(ask(0x12, rakp1(2)), first) {
		t.Error("the same RAKP 1 has another answer")
	}
	random := first[24:40]
	if bytes.Equal(other[24:40], random) || bytes.Equal(random, make([]byte, 16)) {
		t.Errorf("random numbers % x and % x", other[24:40], random)
	}
	h := hmac.New(sha1.New, []byte(testUser.Password))
	h.Write(slices.Concat(random, le32(c.console), []byte{0x14, 5}, []byte("admin")))
	rakp3 := h.Sum(append([]byte{2, 0, 0, 0}, le32(c.system)...))
	last := ask(0x14, rakp3)
	if !bytes.Equal(ask(0x14, rakp3), last) {
		t.Error("the same RAKP 3 has another answer")
	}
	// A wrong one does not end a session that is active.
	rakp3[8] ^= 1
	if r, err := c.exchange(plain(0x14, rakp3)); err != nil || r[17] != 0x0f {
		t.Errorf("wrong RAKP 3: % x, %v", r, err)
	}
	rakp3[8] ^= 1
	ask(0x14, rakp3)
	if info := must(t, login(t, addr), 0x06, 0x3d, 0); info[2] != 2 {
		t.Errorf("%d sessions, want 2", info[2])
	}
}

// TestSessions: the table is bounded, half-open sessions lock nobody out, closed
// ones make room, and a source port may be used again and again.
func TestSessions(t *testing.T) {
	s := newServer(t, &hardware{})
	addr := serve(t, s)
	first := login(t, addr)
	flood := mustDial(t, addr)
	for range 1000 {
		if err := flood.open(); err != nil {
			t.Fatal(err)
		}
	}
	must(t, first, 0x06, 0x01)
	c := mustDial(t, addr)
	for range 500 { // from one port
		if err := c.login(testUser.Name, testUser.Password); err != nil {
			t.Fatal(err)
		}
		if err := c.logout(); err != nil {
			t.Fatal(err)
		}
	}
	var open []*client
	for {
		c := mustDial(t, addr)
		err := c.login(testUser.Name, testUser.Password)
		if errors.Is(err, statusError(0x01)) { // insufficient resources
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if open = append(open, c); len(open) > 100 {
			t.Fatal("more than 100 sessions")
		}
	}
	if len(open) < 16 {
		t.Errorf("%d sessions at a time, want at least 16", len(open))
	}
	if err := open[0].logout(); err != nil {
		t.Fatal(err)
	}
	last := login(t, addr)
	info := must(t, last, 0x06, 0x3d, 0)
	if int(info[2]) != len(open)+1 || info[3] != 2 || info[4] != 4 || info[5] != 0x11 || !bytes.Equal(info[6:10], []byte{127, 0, 0, 1}) ||
		int(binary.LittleEndian.Uint16(info[16:])) != last.conn.LocalAddr().(*net.UDPAddr).Port {
		t.Errorf("session info % x", info)
	}
	// Another session can be closed by an administrator, and then is gone.
	must(t, last, 0x06, 0x3c, le32(open[1].system)...)
	open[1].timeout = 30 * time.Millisecond
	if _, _, err := open[1].do(0x06, 0x01); !errors.Is(err, errSilent) {
		t.Errorf("closed session: %v", err)
	}
	wantCode(t, last, 0x87, 0x06, 0x3c, le32(open[1].system)...)
}

// TestAccountsChange: sessions of accounts that are gone, or have changed, end;
// others stay.
func TestAccountsChange(t *testing.T) {
	change := account.Account{ID: 3, Name: "b", Password: "b1", Role: account.Administrator, Enabled: true}
	gone := account.Account{ID: 4, Name: "c", Password: "c1", Role: account.Operator, Enabled: true}
	s := newServer(t, &hardware{}, change, gone)
	addr := serve(t, s)
	sessions := map[string]*client{}
	for _, u := range []account.Account{testUser, change, gone} {
		c := mustDial(t, addr)
		c.role = 0x12
		if err := c.login(u.Name, u.Password); err != nil {
			t.Fatal(err)
		}
		sessions[u.Name] = c
	}
	change.Password = "b2"
	for _, a := range []account.Account{change, {ID: 4, Role: account.NoAccess}} {
		if err := s.Accounts.Set(a); err != nil {
			t.Fatal(err)
		}
	}
	must(t, sessions[testUser.Name], 0x06, 0x01)
	for _, name := range []string{"b", "c"} {
		sessions[name].timeout = 30 * time.Millisecond
		if _, _, err := sessions[name].do(0x06, 0x01); !errors.Is(err, errSilent) {
			t.Errorf("session of %s: %v", name, err)
		}
	}
	if err := mustDial(t, addr).login("b", "b2"); err != nil {
		t.Error(err)
	}
	if err := mustDial(t, addr).login("c", "c1"); !errors.Is(err, statusError(0x0d)) {
		t.Errorf("user c: %v", err)
	}
	// The file's account.
	if err := s.Accounts.Reset("admin", "new"); err != nil {
		t.Fatal(err)
	}
	sessions[testUser.Name].timeout = 30 * time.Millisecond
	if _, _, err := sessions[testUser.Name].do(0x06, 0x01); !errors.Is(err, errSilent) {
		t.Errorf("session of the file's account: %v", err)
	}
}

// TestConcurrent: many clients at the same time, none is refused.
func TestConcurrent(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	var wait sync.WaitGroup
	for i := range 24 {
		wait.Go(func() {
			c, err := dial(addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.conn.Close() }()
			c.suite = []int{3, 17}[i%2]
			for range 10 {
				if err := c.session(testUser.Name, testUser.Password); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// TestMemory: sessions leave nothing behind, whether they are closed or not.
func TestMemory(t *testing.T) {
	addr := serve(t, newServer(t, &hardware{}))
	heap := func(n int) uint64 {
		c := mustDial(t, addr)
		for range n {
			if err := c.session(testUser.Name, testUser.Password); err != nil {
				t.Fatal(err)
			}
			if err := c.open(); err != nil { // and never goes on
				t.Fatal(err)
			}
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap(300)
	after := heap(3000)
	if after > before+256<<10 {
		t.Errorf("heap grew from %d to %d bytes in 3,000 sessions", before, after)
	}
}

// TestColdReset: it is answered, and ends all sessions.
func TestColdReset(t *testing.T) {
	s := newServer(t, &hardware{})
	s.ResetTime = 150 * time.Millisecond
	addr := serve(t, s)
	c, other := login(t, addr), login(t, addr)
	must(t, other, 0x06, 0x03) // warm: ends those of others
	time.Sleep(60 * time.Millisecond)
	c.timeout = 30 * time.Millisecond
	if _, _, err := c.do(0x06, 0x01); !errors.Is(err, errSilent) {
		t.Errorf("session after somebody's warm reset: %v", err)
	}
	must(t, other, 0x06, 0x02)
	other.timeout = 30 * time.Millisecond
	if _, _, err := other.do(0x06, 0x01); !errors.Is(err, errSilent) {
		t.Errorf("session after a cold reset: %v", err)
	}
	// It is silent for a while.
	early := mustDial(t, addr)
	early.timeout = 5 * time.Millisecond
	if err := early.open(); !errors.Is(err, errSilent) {
		t.Errorf("log-in right after a cold reset: %v", err)
	}
	time.Sleep(150 * time.Millisecond)
	login(t, addr)
}
