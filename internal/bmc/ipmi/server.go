// Package ipmi is the IPMI 2.0 BMC of one machine, over LAN (RMCP+). It keeps
// sessions, checks who may do what, and turns commands into calls of
// machine.Machine. Which commands there are is the table in commands.go; the
// packets are those of package wire.
//
// Only IPMI 2.0 sessions with cipher suites 17 and 3 are offered. IPMI 1.5
// sessions, the null user and in-band interfaces are not there.
//
// Sections named in comments are those of the "Intelligent Platform Management
// Interface Specification, Second Generation, v2.0, revision 1.1".
package ipmi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/bmc/fault"
	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// Server is the BMC of one machine. The exported fields must not be changed
// while it serves.
type Server struct {
	Machine  *machine.Machine
	Accounts *account.Table // who may log in; sessions of accounts that change end
	Gate     fault.Gate     // asked before every answer; nil lets all pass
	Log      *slog.Logger   // nil discards

	// BMCKey is Kg (§13.31), at most 20 bytes, that consoles need besides a
	// password; "" means that they need none.
	BMCKey string

	// PowerTime is the longest that a Chassis Control command may take; 0
	// means 60 seconds. Then the answer is C3h (time-out).
	PowerTime time.Duration

	// ResetTime is how long the BMC answers nothing after a Cold Reset; after
	// a Warm Reset it is a third of that. 0 means 3 seconds.
	ResetTime time.Duration

	panics atomic.Uint64
	stale  atomic.Bool // accounts have changed since sessions were last compared with them

	mu       sync.Mutex // guards what follows, and the order of packets sent
	ctx      context.Context
	link     link
	guid     [16]byte
	address  netip.Addr // that it listens on
	port     uint16
	sessions sessions
	failures limiter        // of log-ins
	work     sync.WaitGroup // goroutines that end with Serve
	closing  bool           // none may be started any more
	silent   time.Time      // until then the BMC restarts and answers nothing,
	spared   uint32         // but to this session, if it is not 0
	delayed  int            // requests that wait because the gate wants so
	kept     kept
	chassis  chassis
	changing bool // a Chassis Control command has not been answered yet
	sol      *sol // nil: Serial over LAN is not active
	watchdog watchdog
	storage  storage
	access   channelAccess
	dcmi     dcmiPower

	in   request // the request that is being answered
	data []byte  // buffers of the response that is being made
	body []byte
	out  []byte
}

var errRestarts = errors.New("the BMC restarts")

// readMax is more than any packet of IPMI over LAN has; what is longer is cut,
// and then dropped because its lengths do not fit.
const readMax = 1024

// Serve answers packets on conn until ctx is done, then returns nil. It owns
// conn. Packets are handled in order by the caller's goroutine; power changes
// have their own, and those under way are cancelled when ctx is done. A Server
// serves one conn at a time.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	defer func() { _ = conn.Close() }()
	guid, err := parseGUID(s.Machine.Identity.UUID)
	if err != nil {
		return fmt.Errorf("BMC of %s: %w", s.Machine.Identity.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.work.Wait()
	defer cancel()
	if err := s.begin(ctx, conn, guid); err != nil {
		return fmt.Errorf("BMC of %s: %w", s.Machine.Identity.Name, err)
	}
	defer s.end()
	defer s.Accounts.Watch(func() {
		s.stale.Store(true) // for the next packet; and now, as there may be none
		go s.locked(func() {})
	})()

	// A deadline in the past is the only thing that wakes a blocked read.
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, readMax)
	for {
		n, from, err := s.link.read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("BMC of %s: %w", s.Machine.Identity.Name, err)
		case err != nil: // lack of memory, for example: it passes
			s.log().LogAttrs(ctx, slog.LevelWarn, "read failed", slog.Any("err", err))
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		default:
			s.handle(buf[:n], from)
		}
	}
}

// begin makes the server ready for its first packet.
func (s *Server) begin(ctx context.Context, conn net.PacketConn, guid [16]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.link, s.guid, s.closing = ctx, newLink(conn), guid, false
	at := addrOf(conn.LocalAddr())
	s.address, s.port = at.Addr(), at.Port()
	s.sessions.init(s.sessionEnded)
	s.access = channelAccess{limit: administrator}
	if err := s.recall(); err != nil {
		return err
	}
	s.resumeIdentify()
	return nil
}

// end ends all sessions, and lets nothing new begin.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions.deleteFunc(func(*session) bool { return true })
	s.watchdog.stop()
	s.chassis.identifyEnd.stop()
	s.closing = true
}

// locked calls f with s.mu held and sessions compared with the accounts.
func (s *Server) locked(f func()) {
	defer s.rescue()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.compareAccounts()
	f()
}

// spawn runs f in a goroutine that Serve waits for, and tells whether it does.
// s.mu is held.
func (s *Server) spawn(f func()) bool {
	if s.closing {
		return false
	}
	s.work.Go(func() {
		defer s.rescue()
		f()
	})
	return true
}

// compareAccounts ends the sessions of accounts that are gone or have changed.
func (s *Server) compareAccounts() {
	if !s.stale.Swap(false) {
		return
	}
	accounts := s.Accounts.List()
	s.sessions.deleteFunc(func(v *session) bool {
		return v.state != opened && !v.leaving && !slices.Contains(accounts, v.account)
	})
}

// Panics is how many packets have made the server panic, since it was made.
// Each is a bug, and has been logged.
func (s *Server) Panics() uint64 { return s.panics.Load() }

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// rescue keeps a bug that one packet finds from ending the BMCs of all machines
// in the process. It is the last resort: no known input gets here.
func (s *Server) rescue() {
	if r := recover(); r != nil {
		s.panics.Add(1)
		s.log().Error("panic while answering a packet", "panic", r, "stack", string(debug.Stack()))
	}
}

// handle answers one datagram. It may change b.
func (s *Server) handle(b []byte, from peer) {
	defer s.rescue()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.compareAccounts()
	if err := s.answer(b, from, now); err != nil {
		s.dropped(from, err)
	}
}

// dropped notes why a packet was not answered.
func (s *Server) dropped(from peer, err error) {
	// Anyone can send rubbish to a UDP port: that is not a warning.
	if log := s.log(); log.Enabled(s.ctx, slog.LevelDebug) {
		log.LogAttrs(s.ctx, slog.LevelDebug, "packet dropped", slog.Any("from", from), slog.Any("err", err))
	}
}

// answer answers one datagram; an error says why it was dropped.
func (s *Server) answer(b []byte, from peer, now time.Time) error {
	r, err := wire.DecodeRMCP(b)
	if err != nil {
		return err
	}
	restarts := now.Before(s.silent)
	switch {
	case r.Ack:
		return nil
	case restarts && (s.spared == 0 || r.Class != wire.ClassIPMI):
		return errRestarts
	case r.Class == wire.ClassASF:
		a, err := wire.DecodeASF(r.Data)
		if err == nil && a.Type == wire.ASFPing {
			s.pong(a.Tag, from)
		}
		return err
	case r.Class != wire.ClassIPMI:
		return fmt.Errorf("RMCP class %d: %w", r.Class, wire.ErrFormat)
	}
	p, err := wire.DecodePacket(r.Data)
	if err != nil {
		return err
	}
	switch {
	case restarts && p.SessionID != s.spared:
		return errRestarts
	case p.SessionID != 0:
		return s.inSession(p, from, now)
	case p.Encrypted || p.Authenticated:
		return fmt.Errorf("protected packet outside of a session: %w", wire.ErrFormat)
	}
	switch p.Type {
	case wire.PayloadIPMI:
		return s.message(p.Payload, request{plus: p.Plus, from: from, now: now})
	case wire.PayloadOpenRequest, wire.PayloadRAKP1, wire.PayloadRAKP3:
		return s.login(p.Type, p.Payload, from, now)
	}
	return fmt.Errorf("payload type %#x outside of a session: %w", uint8(p.Type), wire.ErrFormat)
}

// pong answers a presence ping, as the gate wants it.
func (s *Server) pong(tag uint8, from peer) {
	answer := func() {
		s.sendRMCP(wire.ClassASF, wire.Pong(tag).Append(s.body[:0]), from)
	}
	if s.Gate == nil {
		answer()
		return
	}
	v := s.visit("Presence Ping", "", from)
	switch {
	case v.effect.Delay > 0:
		s.delay(v, func() { answer(); s.leave(v, "pong") })
	case v.effect.Drop:
		s.leave(v, "no answer")
	default:
		answer()
		s.leave(v, "pong")
	}
}

// inSession answers a packet of a session.
func (s *Server) inSession(p wire.Packet, from peer, now time.Time) error {
	v := s.sessions.find(p.SessionID, now)
	if v == nil || v.state != active || !p.Plus {
		return fmt.Errorf("session %#x: %w", p.SessionID, errNoSession)
	}
	payload, err := v.cipher.Open(p)
	if err != nil {
		return err
	}
	// Only now: a forged packet must not move the window.
	if !v.window.accept(p.Sequence) {
		return fmt.Errorf("session sequence number %d was there already, or is out of the window", p.Sequence)
	}
	v.used, v.from = now, from
	switch p.Type {
	case wire.PayloadIPMI:
		return s.message(payload, request{session: v, from: from, now: now})
	case wire.PayloadSOL:
		return s.solPacket(v, payload, now)
	}
	return fmt.Errorf("payload type %#x: %w", uint8(p.Type), wire.ErrFormat)
}

// message answers an IPMI message.
func (s *Server) message(b []byte, q request) error {
	m, err := wire.DecodeMessage(b)
	if err != nil {
		return err
	}
	if m.To != wire.AddressBMC || m.NetFn&1 != 0 {
		return fmt.Errorf("message to %#x, network function %#x: %w", m.To, m.NetFn, wire.ErrFormat)
	}
	q.message = m
	s.in = q
	if s.Gate == nil || s.enter(&s.in) {
		s.perform(&s.in)
	}
	s.in = request{}
	return nil
}

// perform answers q.
func (s *Server) perform(q *request) {
	code, data := s.dispatch(q, append(s.data[:0], 0))
	s.data = data
	if code != noReply {
		s.reply(q, code, data)
	} else if !q.later {
		s.leave(q.visit, "no answer")
	}
	if q.after != nil {
		q.after()
	}
}

// reply sends the response to q; data[0] is kept free for the code. s.mu is held.
func (s *Server) reply(q *request, c code, data []byte) {
	s.body = q.message.Response(uint8(c), data).Append(s.body[:0])
	if q.session != nil {
		s.sendIn(q.session, wire.PayloadIPMI, s.body, q.from)
	} else {
		s.send(wire.Packet{Plus: q.plus, Payload: s.body}, q.from)
	}
	if q.visit != nil {
		s.leave(q.visit, c.String())
	}
}

// sendIn sends a packet of session v.
func (s *Server) sendIn(v *session, t wire.PayloadType, payload []byte, to peer) {
	v.sent++
	if v.sent == 0 { // 0 is not a sequence number of a session (§6.12.8)
		v.sent++
	}
	s.out = v.cipher.Seal(s.out[:0], v.exchange.ConsoleID, v.sent, t, payload)
	s.write(s.out, to)
}

// send sends a packet outside of a session.
func (s *Server) send(p wire.Packet, to peer) {
	s.out = p.Append(wire.RMCP{Sequence: wire.NoAck, Class: wire.ClassIPMI}.Append(s.out[:0]))
	s.write(s.out, to)
}

func (s *Server) sendRMCP(class uint8, data []byte, to peer) {
	s.body = data
	s.out = wire.RMCP{Sequence: wire.NoAck, Class: class, Data: data}.Append(s.out[:0])
	s.write(s.out, to)
}

func (s *Server) write(b []byte, to peer) {
	if err := s.link.write(b, to); err != nil { // the client will ask again
		s.log().LogAttrs(s.ctx, slog.LevelDebug, "write failed", slog.Any("to", to), slog.Any("err", err))
	}
}

// parseGUID turns a UUID into a GUID as IPMI sends it: the least significant
// byte first (§20.8, table 20-10). An empty UUID is all zeros.
func parseGUID(uuid string) ([16]byte, error) {
	var g [16]byte
	if uuid == "" {
		return g, nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil || len(b) != len(g) {
		return g, fmt.Errorf("UUID %q is not 32 hexadecimal digits", uuid)
	}
	slices.Reverse(b)
	return [16]byte(b), nil
}
