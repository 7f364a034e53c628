package ipmi

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/bmc/fault"
	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// step is a step of the session set-up. It answers b, with the status force
// unless that is StatusOK, and returns the status that was sent.
type step struct {
	name   string
	answer func(s *Server, b []byte, from peer, now time.Time, force wire.Status) (wire.Status, error)
}

// stepOf returns the step that answers payloads of type t.
func stepOf(t wire.PayloadType) step {
	switch t {
	case wire.PayloadOpenRequest:
		return step{"Open Session", (*Server).open}
	case wire.PayloadRAKP1:
		return step{"RAKP 1", (*Server).rakp1}
	}
	return step{"RAKP 3", (*Server).rakp3}
}

// login answers a step of the session set-up, as the gate wants it.
func (s *Server) login(t wire.PayloadType, b []byte, from peer, now time.Time) error {
	st := stepOf(t)
	if s.Gate == nil {
		_, err := st.answer(s, b, from, now, wire.StatusOK)
		return err
	}
	v := s.visit(st.name, "", from)
	finish := func(b []byte, now time.Time) {
		status, err := st.answer(s, b, from, now, statusFor(v.effect, t))
		if err != nil {
			s.leave(v, "no answer")
			s.dropped(from, err)
			return
		}
		s.leave(v, fmt.Sprintf("%02Xh", uint8(status)))
	}
	switch {
	case v.effect.Delay > 0:
		b = bytes.Clone(b)
		s.delay(v, func() { finish(b, time.Now()) })
	case v.effect.Drop:
		s.leave(v, "no answer")
	default:
		finish(b, now)
	}
	return nil
}

// statusFor is how a step of the session set-up says what the gate wants.
// RMCP+ has no status for "busy" nor for "internal error".
func statusFor(e fault.Effect, t wire.PayloadType) wire.Status {
	switch {
	case e.Busy, e.Fail:
		return wire.StatusNoResources
	case e.Deny && t == wire.PayloadRAKP3:
		return wire.StatusInvalidCheckValue
	}
	return wire.StatusOK
}

// open answers an RMCP+ Open Session Request (§13.17).
func (s *Server) open(b []byte, from peer, now time.Time, force wire.Status) (wire.Status, error) {
	r, err := wire.DecodeOpenRequest(b)
	if err != nil {
		return 0, err
	}
	out := wire.OpenResponse{Tag: r.Tag, ConsoleID: r.ConsoleID, Status: force}
	suite, ok := chooseSuite(r)
	var v *session
	switch {
	case force != wire.StatusOK:
	case r.Privilege > uint8(administrator): // 0 asks for the highest
		out.Status = wire.StatusInvalidRole
	case !ok:
		out.Status = wire.StatusNoSuite
	case !s.failures.allows(from, now): // a client that asks again later is let in
		out.Status = wire.StatusNoResources
	default:
		if v = s.sessions.add(now); v == nil {
			out.Status = wire.StatusNoResources
		}
	}
	if v != nil {
		v.from, v.limit = from, privilege(r.Privilege)
		if v.limit == 0 {
			v.limit = administrator
		}
		v.exchange = wire.Exchange{Suite: suite, BMCKey: s.BMCKey, ConsoleID: r.ConsoleID, SystemID: v.id, GUID: s.guid}
		out.Privilege, out.SystemID = uint8(v.limit), v.id
		out.Auth, out.Integrity, out.Confidentiality = suite.Algorithms()
	}
	s.body = out.Append(s.body[:0])
	s.send(wire.Packet{Plus: true, Type: wire.PayloadOpenResponse, Payload: s.body}, from)
	return out.Status, nil
}

// suites are the cipher suites on offer, the best first.
var suites = [...]wire.Suite{wire.Suite17, wire.Suite3}

// chooseSuite returns the best suite with the algorithms that r asks for.
func chooseSuite(r wire.OpenRequest) (wire.Suite, bool) {
	fits := func(asked, has uint8) bool { return asked == has || asked == wire.Wildcard }
	for _, suite := range suites {
		a, i, c := suite.Algorithms()
		if fits(r.Auth, a) && fits(r.Integrity, i) && fits(r.Confidentiality, c) {
			return suite, true
		}
	}
	return 0, false
}

// rakp1 answers RAKP message 1 (§13.20) with RAKP message 2.
func (s *Server) rakp1(b []byte, from peer, now time.Time, force wire.Status) (wire.Status, error) {
	r, err := wire.DecodeRAKP1(b)
	if err != nil {
		return 0, err
	}
	out := wire.RAKP2{Tag: r.Tag, GUID: s.guid, Status: force}
	v := s.sessions.find(r.SystemID, now)
	if v == nil || v.state == active {
		out.Status = wire.StatusInvalidSession
	} else {
		out.ConsoleID = v.exchange.ConsoleID
		if force == wire.StatusOK {
			out.Status = s.challenge(v, r)
		}
	}
	switch {
	case out.Status == wire.StatusOK:
		out.Random, out.Code = v.exchange.SystemRandom, v.exchange.Code2()
	case v != nil && v.state != active:
		s.sessions.remove(v) // the console has to begin again
	}
	if out.Status == wire.StatusUnauthorizedName {
		s.loginFailed(from, string(r.Name), now)
	}
	s.body = out.Append(s.body[:0])
	s.send(wire.Packet{Plus: true, Type: wire.PayloadRAKP2, Payload: s.body}, from)
	return out.Status, nil
}

// challenge notes in v what RAKP 1 says, and chooses the BMC's random number. A
// RAKP 1 that is sent again gets the same number, as the console cannot know
// which of its copies was answered first.
func (s *Server) challenge(v *session, r wire.RAKP1) wire.Status {
	// No two accounts have one name, so that the look-up by name and
	// privilege and that by name alone (RoleNameOnly) find the same one.
	role := privilege(r.Role & wire.RolePrivilege)
	switch {
	case role < callback || role > administrator:
		return wire.StatusInvalidRole
	case role > v.limit:
		return wire.StatusUnauthorizedRole
	case len(r.Name) > wire.NameMax:
		return wire.StatusInvalidNameLength
	}
	// The null user, and one without password, are not allowed in.
	a, found := s.Accounts.Named(string(r.Name))
	switch {
	case !found || a.NoIPMI:
		return wire.StatusUnauthorizedName
	case role > levelOf(a.Role) || role > s.access.limit:
		return wire.StatusUnauthorizedRole
	}
	x := &v.exchange
	again := v.state == challenged && x.ConsoleRandom == r.Random && x.Role == r.Role && x.Name == string(r.Name)
	if !again {
		_, _ = rand.Read(x.SystemRandom[:]) // never fails
	}
	v.state, v.account = challenged, a
	x.ConsoleRandom, x.Role, x.Name, x.Password = r.Random, r.Role, a.Name, a.Password
	return wire.StatusOK
}

// levelOf is the highest privilege level of a role.
func levelOf(r account.Role) privilege {
	switch r {
	case account.ReadOnly:
		return user
	case account.Operator:
		return operator
	case account.Administrator:
		return administrator
	}
	return none
}

// rakp3 answers RAKP message 3 (§13.22) with RAKP message 4. If it is right the
// session is active.
func (s *Server) rakp3(b []byte, from peer, now time.Time, force wire.Status) (wire.Status, error) {
	r, err := wire.DecodeRAKP3(b)
	if err != nil {
		return 0, err
	}
	v := s.sessions.find(r.SystemID, now)
	out := wire.RAKP4{Tag: r.Tag}
	switch {
	case v == nil, v.state == opened:
		out.Status = wire.StatusInvalidSession
	case r.Status != wire.StatusOK:
		// The console gives up and expects no answer (§13.22). It does so
		// when the code of RAKP 2 is not that of its own password.
		if v.state == challenged {
			s.sessions.remove(v)
			s.loginFailed(from, v.account.Name, now)
		}
		return 0, fmt.Errorf("console gave up the log-in, status %#x", uint8(r.Status))
	case force != wire.StatusOK:
		out.ConsoleID, out.Status = v.exchange.ConsoleID, force
		if v.state == challenged {
			s.sessions.remove(v)
		}
	default:
		out.ConsoleID = v.exchange.ConsoleID
		out.Status, out.Code = s.activate(v, r.Code, from, now)
	}
	s.body = out.Append(s.body[:0])
	s.send(wire.Packet{Plus: true, Type: wire.PayloadRAKP4, Payload: s.body}, from)
	return out.Status, nil
}

// activate makes a session of a challenge if the code proves the password. A
// RAKP 3 that is sent again, because its answer was lost, gets it again.
func (s *Server) activate(v *session, code []byte, from peer, now time.Time) (wire.Status, []byte) {
	if !wire.EqualCodes(code, v.exchange.Code3()) {
		if v.state == challenged {
			s.sessions.remove(v)
			s.loginFailed(from, v.account.Name, now)
		}
		return wire.StatusInvalidCheckValue, nil
	}
	key := v.exchange.SessionKey()
	if v.state == active {
		return wire.StatusOK, v.exchange.Code4(key)
	}
	v.handle = s.sessions.freeHandle()
	if v.handle == 0 { // others were faster
		s.sessions.remove(v)
		return wire.StatusNoResources, nil
	}
	v.state, v.used, v.from = active, now, from
	v.limit = privilege(v.exchange.Role & wire.RolePrivilege)
	v.privilege = min(v.limit, user) // until Set Session Privilege (§22.18)
	v.cipher = wire.NewCipher(v.exchange.Suite, key)
	if log := s.log(); log.Enabled(s.ctx, slog.LevelDebug) {
		log.LogAttrs(s.ctx, slog.LevelDebug, "session began", slog.Any("from", from), slog.String("user", v.account.Name))
	}
	return wire.StatusOK, v.exchange.Code4(key)
}

// loginFailed counts a failure of a client, and notes some of them in the
// machine's log: anyone can cause them, and must not fill it.
func (s *Server) loginFailed(from peer, name string, now time.Time) {
	const between = 10 * time.Second
	s.failures.failed(from, now)
	if !s.failures.noted.IsZero() && now.Sub(s.failures.noted) < between {
		return
	}
	s.failures.noted = now
	if len(name) > wire.NameMax {
		name = name[:wire.NameMax]
	}
	s.Machine.Log().Add(machine.Event{Kind: machine.LoginFailed, Text: fmt.Sprintf("%q from %s by IPMI", name, from.addrPort().Addr())})
}
