package ipmi

import (
	"bytes"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// Sizes of Serial over LAN, in bytes.
const (
	solPayloadMax = 255                               // of a payload, in both directions
	solDataMax    = solPayloadMax - wire.SOLHeaderLen // characters in a packet
	solHistory    = 2 << 10                           // shown when it is activated
	solPendingMax = 4 << 10                           // taken from the console and not sent yet; the rest waits there
	solTyped      = 32                                // packets from the client that the machine has not taken yet
)

// solConnect is how long what is typed waits for the machine's console.
const solConnect = 2 * time.Second

// solSlow is how often a packet is sent again when the retries that were asked
// for are over, until the session ends: nothing is lost while there is a client.
const solSlow = time.Second

// sol is Serial over LAN while it is active (§15). One packet is under way at a
// time, as the specification wants it. The server's mu guards all of it.
type sol struct {
	session *session
	viewer  *machine.Viewer
	config  solConfig
	timer   timer
	room    *sync.Cond // there is room in pending, or it has ended

	pending []byte    // said by the machine, not sent yet
	since   time.Time // when the first of it came
	lost    int       // of the viewer, that the client was told of

	flight   []byte // sent, not acknowledged
	waiting  bool   // there is a flight
	sequence uint8  // of the flight
	overrun  bool   // the flight says that characters were lost
	tries    int
	again    time.Time // when it is sent again
	hold     time.Time // the client wants nothing before that

	typed    chan []byte // to the machine
	received uint8       // sequence number of the last packet that was taken
	length   int         // of its data
}

// startSOL activates Serial over LAN for the session of q.
func (s *Server) startSOL(q *request) code {
	viewer, err := s.Machine.Console().Attach(solHistory)
	if err != nil { // there is no console
		return payloadDisabled
	}
	p := &sol{
		session: q.session, viewer: viewer, config: s.solConfig(), room: sync.NewCond(&s.mu),
		typed: make(chan []byte, solTyped),
	}
	if !s.spawn(func() { s.readConsole(p) }) {
		_ = viewer.Close()
		return payloadDisabled
	}
	// The machine may never take what is typed: nobody waits for this one.
	go p.write(s.Machine)
	s.sol = p
	s.armSOL(p, q.now)
	s.log().LogAttrs(s.ctx, slog.LevelInfo, "console activated", slog.String("user", q.session.account.Name), slog.Any("from", q.from))
	return ok
}

// endSOL deactivates Serial over LAN. Its client is told why, unless notice is "".
func (s *Server) endSOL(notice string) {
	p := s.sol
	s.sol = nil
	p.timer.stop()
	_ = p.viewer.Close()
	close(p.typed)
	p.room.Broadcast()
	s.log().LogAttrs(s.ctx, slog.LevelInfo, "console deactivated", slog.String("user", p.session.account.Name), slog.String("because", notice))
	if notice == "" {
		return
	}
	line := "\r\n[console " + notice + "]\r\n"
	s.sendSOL(p, wire.SOL{Sequence: p.sequence%15 + 1, Flags: wire.SOLDeactivated, Data: []byte(line[:min(len(line), solDataMax)])})
}

// sessionEnded is called for every session that has ended.
func (s *Server) sessionEnded(v *session) {
	if s.sol != nil && s.sol.session == v {
		s.endSOL("session ended")
	}
}

// write types what comes from the client on m's console.
func (p *sol) write(m *machine.Machine) {
	for b := range p.typed {
		for start := time.Now(); ; time.Sleep(solConnect / 100) {
			n, err := p.viewer.Write(b)
			b = b[n:]
			// The console of a machine that runs is there in a moment.
			// What one that is off or has none now cannot take is lost,
			// as on a real line.
			on, _ := m.On()
			if !errors.Is(err, machine.ErrOff) || !on || time.Since(start) > solConnect {
				break
			}
		}
	}
}

// forget drops what was typed and not written yet.
func (p *sol) forget() {
	for {
		select {
		case <-p.typed:
		default:
			return
		}
	}
}

// readConsole takes what the machine says until p ends.
func (s *Server) readConsole(p *sol) {
	buf := make([]byte, 2<<10)
	for {
		n, err := p.viewer.Read(buf)
		if err != nil {
			return
		}
		if !s.said(p, buf[:n]) {
			return
		}
	}
}

// said adds what the machine has said, when there is room, and tells whether p
// goes on.
func (s *Server) said(p *sol, b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.sol == p && len(p.pending) > solPendingMax {
		p.room.Wait()
	}
	if s.sol != p {
		return false
	}
	now := time.Now()
	if len(p.pending) == 0 {
		p.since = now
	}
	p.pending = append(p.pending, b...)
	s.advanceSOL(p, now)
	return true
}

// advanceSOL sends what is due and sets the timer for what is not.
func (s *Server) advanceSOL(p *sol, now time.Time) {
	switch {
	case p.waiting && !now.Before(p.again):
		p.tries++
		s.transmit(p, now)
	case !p.waiting && p.due(now):
		n := min(len(p.pending), solDataMax)
		p.flight = append(p.flight[:0], p.pending[:n]...)
		p.pending = append(p.pending[:0], p.pending[n:]...)
		p.since = now // the rest has waited as long
		p.waiting, p.tries, p.sequence = true, 0, p.sequence%15+1
		lost := p.viewer.Lost()
		p.overrun, p.lost = lost > p.lost, lost
		p.room.Broadcast()
		s.transmit(p, now)
	}
	s.armSOL(p, now)
}

// due tells whether pending is to be sent now.
func (p *sol) due(now time.Time) bool {
	if len(p.pending) == 0 || now.Before(p.hold) {
		return false
	}
	return len(p.pending) >= min(int(p.config.Threshold), solDataMax) || !now.Before(p.accumulated())
}

// accumulated is when pending is to be sent even if there is little of it.
func (p *sol) accumulated() time.Time {
	return p.since.Add(time.Duration(p.config.Accumulate) * 5 * time.Millisecond)
}

// transmit sends the flight, for the first time or again.
func (s *Server) transmit(p *sol, now time.Time) {
	d := wire.SOL{Sequence: p.sequence, Data: p.flight}
	if p.overrun {
		d.Flags = wire.SOLOverrun
	}
	interval := solSlow
	if p.tries < int(p.config.Retries) {
		interval = max(p.retryInterval(), time.Millisecond)
	}
	p.again = now.Add(interval)
	s.sendSOL(p, d)
}

func (p *sol) retryInterval() time.Duration {
	return time.Duration(p.config.RetryInterval) * 10 * time.Millisecond
}

func (s *Server) sendSOL(p *sol, d wire.SOL) {
	s.body = d.Append(s.body[:0])
	s.sendIn(p.session, wire.PayloadSOL, s.body, p.session.from)
}

// armSOL sets the timer for what happens next: at the latest, the end of a
// session whose client is gone, so that the console does not stay open.
func (s *Server) armSOL(p *sol, now time.Time) {
	next := p.session.used.Add(idleTime + 1)
	at := next
	switch {
	case p.waiting:
		at = p.again
	case len(p.pending) > 0:
		at = p.accumulated()
		if at.Before(p.hold) {
			at = p.hold
		}
	}
	if at.After(next) {
		at = next
	}
	p.timer.set(max(at.Sub(now), 0), func() {
		s.locked(func() {
			now := time.Now()
			if s.sol == p && s.sessions.find(p.session.id, now) != nil {
				s.advanceSOL(p, now)
			}
		})
	})
}

// solPacket takes a packet of Serial over LAN from a client.
func (s *Server) solPacket(v *session, payload []byte, now time.Time) error {
	d, err := wire.DecodeSOL(payload)
	if err != nil {
		return err
	}
	p := s.sol
	if p == nil || p.session != v {
		if d.Sequence != 0 {
			s.sendSOL(&sol{session: v}, wire.SOL{Ack: d.Sequence, Flags: wire.SOLNack | wire.SOLDeactivated})
		}
		return nil
	}
	if d.Ack != 0 && p.waiting && d.Ack == p.sequence {
		p.acknowledged(d, now)
	}
	if d.Flags&wire.SOLFlushOutbound != 0 {
		p.pending = p.pending[:0]
	}
	if d.Flags&wire.SOLFlushInbound != 0 {
		p.forget()
	}
	if d.Sequence != 0 {
		accepted, flags := s.typed(p, d)
		s.sendSOL(p, wire.SOL{Ack: d.Sequence, Accepted: uint8(accepted), Flags: flags})
	}
	p.room.Broadcast()
	s.advanceSOL(p, now)
	return nil
}

// acknowledged notes how much of the flight the client has accepted. The rest
// is sent again in a new packet; a client that accepts nothing gets a pause.
func (p *sol) acknowledged(d wire.SOL, now time.Time) {
	n := min(int(d.Accepted), len(p.flight))
	if rest := p.flight[n:]; len(rest) > 0 {
		p.pending = append(bytes.Clone(rest), p.pending...)
		p.since = time.Time{} // it has waited long enough
		if n == 0 || d.Flags&wire.SOLNack != 0 {
			p.hold = now.Add(max(p.retryInterval(), 10*time.Millisecond))
		}
	}
	p.waiting = false
}

// typed takes the characters of a packet, and returns how many were accepted and
// what to say of them. A packet that is sent again is not taken twice. No
// console here can send a break.
func (s *Server) typed(p *sol, d wire.SOL) (accepted int, flags uint8) {
	if d.Sequence == p.received && len(d.Data) == p.length {
		return p.length, 0
	}
	p.received = 0 // the client goes on: that one will not come again
	if d.Flags&wire.SOLBreak != 0 {
		return 0, wire.SOLNack
	}
	if len(d.Data) > 0 {
		if on, err := s.Machine.On(); err == nil && !on {
			return 0, wire.SOLNack | wire.SOLUnavailable
		}
		select {
		case p.typed <- bytes.Clone(d.Data):
		default: // the machine does not take what was typed before
			return 0, wire.SOLNack
		}
	}
	p.received, p.length = d.Sequence, len(d.Data)
	return len(d.Data), 0
}
