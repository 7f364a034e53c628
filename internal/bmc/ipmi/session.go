package ipmi

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
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
	account   account.Account
	leaving   bool // its account has gone by its own command: it may only be closed
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
	byID  map[uint32]*session
	ended func(*session) // called for every session that is removed
}

func (t *sessions) init(ended func(*session)) { t.byID, t.ended = map[uint32]*session{}, ended }

// remove ends a session.
func (t *sessions) remove(v *session) {
	delete(t.byID, v.id)
	t.ended(v)
}

// find returns the session, or nil.
func (t *sessions) find(id uint32, now time.Time) *session {
	v := t.byID[id]
	if v != nil && now.Sub(v.used) > idleTime {
		t.remove(v)
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
		t.remove(oldest)
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
	for _, v := range t.byID {
		if del(v) {
			t.remove(v)
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
