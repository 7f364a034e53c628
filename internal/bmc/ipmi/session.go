package ipmi

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
)

// Limits of the session table of one BMC.
const (
	maxActive   = 60               // sessions with a user logged in; the count has 6 bits on the wire
	maxHalfOpen = 64               // sessions between Open Session and RAKP 3
	idleTime    = 60 * time.Second // then a session ends (§6.12.15)
)

var errNoSession = errors.New("there is no such session")

// state is how far the set-up of a session is.
type state uint8

const (
	opened     state = iota // Open Session answered
	challenged              // RAKP 2 sent
	active                  // RAKP 4 sent
)

// session is a session, or one that is being set up.
type session struct {
	id        uint32 // random, so that nobody can guess it
	handle    uint8  // small and unique among active sessions (§22.20)
	state     state
	used      time.Time // when the last genuine packet came
	from      peer      // where it came from
	privilege privilege // now
	limit     privilege // at most
	user      User
	userID    uint8
	exchange  wire.Exchange
	cipher    *wire.Cipher
	window    window
	sent      uint32 // sequence number of the last packet sent
	requests  uint64 // counts the session's requests
	control   control
}

// sessions is the session table. It needs no timer: a session whose time is
// over is removed when somebody asks for it or when a new one is made.
type sessions struct {
	byID map[uint32]*session
}

func (t *sessions) init() { t.byID = map[uint32]*session{} }

// find returns the session, or nil.
func (t *sessions) find(id uint32, now time.Time) *session {
	v := t.byID[id]
	if v != nil && now.Sub(v.used) > idleTime {
		delete(t.byID, id)
		return nil
	}
	return v
}

// add makes room for a new session and makes it; nil if there is no room. The
// oldest half-open session makes way for a new one, so that nobody can lock
// others out by opening sessions without logging in.
func (t *sessions) add(now time.Time) *session {
	t.expire(now)
	var halfOpen, activeCount int
	var oldest *session
	for _, v := range t.byID {
		if v.state == active {
			activeCount++
			continue
		}
		halfOpen++
		if oldest == nil || v.used.Before(oldest.used) {
			oldest = v
		}
	}
	if activeCount >= maxActive {
		return nil
	}
	if halfOpen >= maxHalfOpen {
		delete(t.byID, oldest.id)
	}
	v := &session{used: now}
	for v.id == 0 || t.byID[v.id] != nil {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		v.id = binary.LittleEndian.Uint32(b[:])
	}
	t.byID[v.id] = v
	return v
}

// expire removes the sessions whose time is over.
func (t *sessions) expire(now time.Time) {
	t.deleteFunc(func(v *session) bool { return now.Sub(v.used) > idleTime })
}

func (t *sessions) deleteFunc(del func(*session) bool) {
	for id, v := range t.byID {
		if del(v) {
			delete(t.byID, id)
		}
	}
}

// active returns the active sessions in the order of their handles.
func (t *sessions) active() []*session {
	var all []*session
	for _, v := range t.byID {
		if v.state == active {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b *session) int { return int(a.handle) - int(b.handle) })
	return all
}

// freeHandle is the least handle that no active session has; 0 if there is no
// room for another active session.
func (t *sessions) freeHandle() uint8 {
	h := uint8(1)
	for _, v := range t.active() {
		if v.handle == h {
			h++
		}
	}
	if h > maxActive {
		return 0
	}
	return h
}

// window keeps track of the sequence numbers of a session, so that each is
// accepted once: up to 15 above the highest so far and 16 below it (§6.12.13).
type window struct {
	highest uint32
	seen    uint32 // bit i: highest-i was there
}

// accept tells whether a packet with this sequence number is new, and notes it.
func (w *window) accept(n uint32) bool {
	const above, below = 15, 16
	d := int32(n - w.highest)
	switch {
	case n == 0: // is for packets outside of a session
		return false
	case d > above, d < -below:
		return false
	case d > 0:
		w.seen = w.seen<<d | 1
		w.highest = n
		return true
	}
	bit := uint32(1) << -d
	if w.seen&bit != 0 {
		return false
	}
	w.seen |= bit
	return true
}

// open answers an RMCP+ Open Session Request (§13.17).
func (s *Server) open(b []byte, from peer, now time.Time) error {
	r, err := wire.DecodeOpenRequest(b)
	if err != nil {
		return err
	}
	out := wire.OpenResponse{Tag: r.Tag, ConsoleID: r.ConsoleID}
	suite, ok := chooseSuite(r)
	var v *session
	switch {
	case r.Privilege > uint8(administrator): // 0 asks for the highest
		out.Status = wire.StatusInvalidRole
	case !ok:
		out.Status = wire.StatusNoSuite
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
		v.exchange = wire.Exchange{Suite: suite, ConsoleID: r.ConsoleID, SystemID: v.id, GUID: s.guid}
		out.Privilege, out.SystemID = uint8(v.limit), v.id
		out.Auth, out.Integrity, out.Confidentiality = suite.Algorithms()
	}
	s.body = out.Append(s.body[:0])
	s.send(wire.Packet{Plus: true, Type: wire.PayloadOpenResponse, Payload: s.body}, from)
	return nil
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
func (s *Server) rakp1(b []byte, from peer, now time.Time) error {
	r, err := wire.DecodeRAKP1(b)
	if err != nil {
		return err
	}
	out := wire.RAKP2{Tag: r.Tag, GUID: s.guid}
	v := s.sessions.find(r.SystemID, now)
	if v == nil || v.state == active {
		out.Status = wire.StatusInvalidSession
	} else {
		out.ConsoleID = v.exchange.ConsoleID
		out.Status = s.challenge(v, r)
	}
	switch {
	case out.Status == wire.StatusOK:
		out.Random, out.Code = v.exchange.SystemRandom, v.exchange.Code2()
	case v != nil && v.state != active:
		delete(s.sessions.byID, v.id) // the console has to begin again
	}
	s.body = out.Append(s.body[:0])
	s.send(wire.Packet{Plus: true, Type: wire.PayloadRAKP2, Payload: s.body}, from)
	return nil
}

// challenge notes in v what RAKP 1 says, and chooses the BMC's random number. A
// RAKP 1 that is sent again gets the same number, as the console cannot know
// which of its copies was answered first.
func (s *Server) challenge(v *session, r wire.RAKP1) wire.Status {
	// All users are administrators, so that the look-up by name and
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
	i := slices.IndexFunc(s.Users, func(u User) bool { return u.Name == string(r.Name) })
	// The null user, and one without password, are not allowed in.
	if i < 0 || len(r.Name) == 0 || s.Users[i].Password == "" {
		return wire.StatusUnauthorizedName
	}
	x := &v.exchange
	again := v.state == challenged && x.ConsoleRandom == r.Random && x.Role == r.Role && x.Name == string(r.Name)
	if !again {
		_, _ = rand.Read(x.SystemRandom[:]) // never fails
	}
	v.state, v.user, v.userID = challenged, s.Users[i], uint8(firstUserID+i)
	x.ConsoleRandom, x.Role, x.Name, x.Password = r.Random, r.Role, v.user.Name, v.user.Password
	return wire.StatusOK
}

// rakp3 answers RAKP message 3 (§13.22) with RAKP message 4. If it is right the
// session is active.
func (s *Server) rakp3(b []byte, from peer, now time.Time) error {
	r, err := wire.DecodeRAKP3(b)
	if err != nil {
		return err
	}
	v := s.sessions.find(r.SystemID, now)
	out := wire.RAKP4{Tag: r.Tag}
	switch {
	case v == nil, v.state == opened:
		out.Status = wire.StatusInvalidSession
	case r.Status != wire.StatusOK:
		// The console gives up and expects no answer (§13.22).
		if v.state == challenged {
			delete(s.sessions.byID, v.id)
		}
		return fmt.Errorf("console gave up the log-in, status %#x", uint8(r.Status))
	default:
		out.ConsoleID = v.exchange.ConsoleID
		out.Status, out.Code = s.activate(v, r.Code, from, now)
	}
	s.body = out.Append(s.body[:0])
	s.send(wire.Packet{Plus: true, Type: wire.PayloadRAKP4, Payload: s.body}, from)
	return nil
}

// activate makes a session of a challenge if the code proves the password. A
// RAKP 3 that is sent again, because its answer was lost, gets it again.
func (s *Server) activate(v *session, code []byte, from peer, now time.Time) (wire.Status, []byte) {
	if !wire.EqualCodes(code, v.exchange.Code3()) {
		if v.state == challenged {
			delete(s.sessions.byID, v.id)
		}
		return wire.StatusInvalidCheckValue, nil
	}
	key := v.exchange.SessionKey()
	if v.state == active {
		return wire.StatusOK, v.exchange.Code4(key)
	}
	v.handle = s.sessions.freeHandle()
	if v.handle == 0 { // others were faster
		delete(s.sessions.byID, v.id)
		return wire.StatusNoResources, nil
	}
	v.state, v.used, v.from = active, now, from
	v.limit = privilege(v.exchange.Role & wire.RolePrivilege)
	v.privilege = min(v.limit, user) // until Set Session Privilege (§22.18)
	v.cipher = wire.NewCipher(v.exchange.Suite, key)
	s.log().LogAttrs(s.ctx, slog.LevelDebug, "session began", slog.Any("from", from), slog.String("user", v.user.Name))
	return wire.StatusOK, v.exchange.Code4(key)
}
