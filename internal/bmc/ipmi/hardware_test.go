package ipmi_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/bmc/ipmi"
	"github.com/tenks/tenks/internal/machine"
)

// testUUID is the UUID of the machine of all tests. No two of its bytes are the
// same, so that a wrong byte order shows.
const testUUID = "9b7a215c-3d0e-5c6e-8a5f-10025b000e55"

var testUser = account.Account{ID: 2, Name: "admin", Password: "s3cret", Role: account.Administrator, Enabled: true}

// hardware is a computer in memory.
type hardware struct {
	mu      sync.Mutex
	on      bool
	unknown error                       // what On returns
	hold    func(context.Context) error // called by every change, without mu
	done    []string                    // the changes
	boot    machine.Boot                // of the last start or reset
}

func (h *hardware) On() (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on, h.unknown
}

func (h *hardware) change(ctx context.Context, what string, on bool, boot machine.Boot) error {
	h.mu.Lock()
	hold := h.hold
	h.mu.Unlock()
	if hold != nil {
		if err := hold(ctx); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on, h.boot, h.done = on, boot, append(h.done, what)
	return nil
}

func (h *hardware) Start(ctx context.Context, b machine.Boot) error {
	return h.change(ctx, "start", true, b)
}
func (h *hardware) Stop(ctx context.Context) error {
	return h.change(ctx, "stop", false, machine.Boot{})
}
func (h *hardware) Reset(ctx context.Context, b machine.Boot) error {
	return h.change(ctx, "reset", true, b)
}
func (h *hardware) Shutdown(ctx context.Context) error {
	return h.change(ctx, "shutdown", false, machine.Boot{})
}
func (h *hardware) Interrupt(ctx context.Context) error {
	return h.change(ctx, "interrupt", true, machine.Boot{})
}

// changes returns what has been done to the computer since the last call.
func (h *hardware) changes() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.done
	h.done = nil
	return d
}

// booted is how the computer booted last.
func (h *hardware) booted() machine.Boot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.boot
}

func (h *hardware) set(f func(*hardware)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// store keeps a machine's memory in memory.
type store struct {
	mu  sync.Mutex
	mem machine.Memory
}

func (s *store) Load() (machine.Memory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mem, nil
}

func (s *store) Save(m machine.Memory) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mem = m
	return nil
}

// newServer returns a server that does not serve yet. Its accounts are testUser
// and others.
func newServer(t testing.TB, hw machine.Hardware, others ...account.Account) *ipmi.Server {
	t.Helper()
	return serverOf(t, hw, &store{}, others...)
}

// serverOf is newServer with a memory that others may have, too.
func serverOf(t testing.TB, hw machine.Hardware, st machine.Store, others ...account.Account) *ipmi.Server {
	t.Helper()
	m, err := machine.New(machine.Identity{Name: "tk0", UUID: testUUID, Serial: "TK000017"}, hw, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	accounts, err := account.New(m, testUser.Name, testUser.Password)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range others {
		if err := accounts.Set(a); err != nil {
			t.Fatal(err)
		}
	}
	return &ipmi.Server{Machine: m, Accounts: accounts, ResetTime: 30 * time.Millisecond}
}

// serve serves s on a free port of 127.0.0.1 until the test ends.
func serve(t testing.TB, s *ipmi.Server) *net.UDPAddr {
	t.Helper()
	return serveAt(t, s, "127.0.0.1:0")
}

// serveAt serves s on an address until the test ends.
func serveAt(t testing.TB, s *ipmi.Server, address string) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve does not return")
		}
		if n := s.Panics(); n != 0 {
			t.Errorf("%d packets made the server panic", n)
		}
	})
	return conn.LocalAddr().(*net.UDPAddr)
}
