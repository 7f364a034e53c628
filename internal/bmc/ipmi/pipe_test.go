package ipmi_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/bmc/ipmi"
)

// cable joins one client and a server without a network, so that tests can turn
// the clock (testing/synctest). Datagrams are never lost on it.
type cable struct {
	toServer, toClient chan []byte
	once               sync.Once
	closed             chan struct{}
	stop               chan struct{} // closed by a deadline in the past
	mu                 sync.Mutex
	deadline           time.Time // of the client's reads
}

func newCable() *cable {
	return &cable{toServer: make(chan []byte, 100), toClient: make(chan []byte, 1000), closed: make(chan struct{}), stop: make(chan struct{})}
}

var cableAddr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 623}

// serverEnd is the server's net.PacketConn.
type serverEnd struct{ *cable }

func (c serverEnd) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.toServer:
		return copy(b, d), cableAddr, nil
	case <-c.stop:
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c serverEnd) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.toClient <- append([]byte(nil), b...)
	return len(b), nil
}
func (c serverEnd) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c serverEnd) LocalAddr() net.Addr              { return cableAddr }
func (c serverEnd) SetDeadline(time.Time) error      { return nil }
func (c serverEnd) SetWriteDeadline(time.Time) error { return nil }
func (c serverEnd) SetReadDeadline(t time.Time) error {
	if t.Before(time.Now()) {
		close(c.stop)
	}
	return nil
}

// clientEnd is the client's net.Conn.
type clientEnd struct{ *cable }

func (c clientEnd) Write(b []byte) (int, error) {
	c.toServer <- append([]byte(nil), b...)
	return len(b), nil
}

func (c clientEnd) Read(b []byte) (int, error) {
	c.mu.Lock()
	t := time.NewTimer(time.Until(c.deadline))
	c.mu.Unlock()
	defer t.Stop()
	select {
	case d := <-c.toClient:
		return copy(b, d), nil
	case <-t.C:
		return 0, os.ErrDeadlineExceeded
	}
}
func (c clientEnd) Close() error                     { return nil }
func (c clientEnd) LocalAddr() net.Addr              { return cableAddr }
func (c clientEnd) RemoteAddr() net.Addr             { return cableAddr }
func (c clientEnd) SetDeadline(time.Time) error      { return nil }
func (c clientEnd) SetWriteDeadline(time.Time) error { return nil }
func (c clientEnd) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

// serveCable serves s on a cable, and returns its only client, in a session of
// an administrator, and a function that ends the server.
func serveCable(t *testing.T, s *ipmi.Server) (*client, func()) {
	t.Helper()
	w := newCable()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, serverEnd{w}) }()
	c := &client{conn: clientEnd{w}, suite: 3}
	if err := c.login(testUser.Name, testUser.Password); err != nil {
		t.Fatal(err)
	}
	must(t, c, 0x06, 0x3b, 4)
	return c, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := s.Panics(); n != 0 {
			t.Errorf("%d packets made the server panic", n)
		}
	}
}
