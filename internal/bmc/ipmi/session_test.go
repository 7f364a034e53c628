package ipmi

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// TestIdle: a session ends 60 seconds after its last packet (§6.12.15), and
// then makes room for others.
func TestIdle(t *testing.T) {
	var table sessions
	table.init(func(*session) {})
	start := time.Now()
	v := table.add(start)
	if table.find(v.id, start.Add(60*time.Second)) != v {
		t.Error("session ended before 60 s")
	}
	if table.find(v.id, start.Add(60*time.Second+1)) != nil {
		t.Error("session is there after 60 s")
	}
	for range maxActive {
		v := table.add(start)
		v.state = active
		v.handle = table.freeHandle()
	}
	if table.add(start.Add(time.Minute)) != nil {
		t.Errorf("more than %d sessions", maxActive)
	}
	if table.add(start.Add(time.Minute+1)) == nil || len(table.byID) != 1 {
		t.Errorf("%d sessions, want the new one alone", len(table.byID))
	}
}

// TestHalfOpen: those who do not log in push out the oldest of their kind, and
// nobody else.
func TestHalfOpen(t *testing.T) {
	var table sessions
	table.init(func(*session) {})
	now := time.Now()
	user := table.add(now)
	user.state = active
	oldest := table.add(now.Add(1))
	second := table.add(now.Add(2))
	for i := range maxHalfOpen - 1 {
		table.add(now.Add(time.Duration(3 + i)))
	}
	if table.byID[user.id] == nil || table.byID[second.id] == nil {
		t.Error("the wrong session was removed")
	}
	if table.byID[oldest.id] != nil || len(table.byID) != maxHalfOpen+1 {
		t.Errorf("%d sessions, the oldest still there: %v", len(table.byID), table.byID[oldest.id] != nil)
	}
}

// TestWindow: each number once, from 16 below to 15 above the highest (§6.12.13).
func TestWindow(t *testing.T) {
	var w window
	for _, tt := range []struct {
		n    uint32
		want bool
	}{
		{0, false}, {16, false}, {15, true}, {15, false}, {1, true}, {1, false}, {0, false}, {2, true},
		{30, true}, {14, true}, {14, false}, {13, false}, {46, false}, {45, true}, {30, false}, {31, true}, {29, true}, {28, false},
	} {
		if got := w.accept(tt.n); got != tt.want {
			t.Errorf("number %d: %v, want %v", tt.n, got, tt.want)
		}
	}
	w = window{highest: 0xffffffff, seen: 1}
	if !w.accept(1) || !w.accept(0xfffffffe) || w.accept(0xffffffff) || w.accept(0) {
		t.Error("the numbers do not go on after the last")
	}
}

// TestCodeFor has each error's completion code (table 5-2).
func TestCodeFor(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want code
	}{
		{nil, 0x00}, {machine.ErrBusy, 0xc0}, {machine.ErrUnknown, 0xc0}, {machine.ErrOff, 0xd5}, {machine.ErrUnsupported, 0xcc},
		{context.DeadlineExceeded, 0xc3}, {errors.New("disk full"), 0xff},
	} {
		if got := codeFor(tt.err); got != tt.want {
			t.Errorf("%v: %02Xh, want %02Xh", tt.err, got, tt.want)
		}
		if tt.err != nil && codeFor(fmt.Errorf("machine tk0: %w", tt.err)) != tt.want {
			t.Errorf("%v, wrapped, has another code", tt.err)
		}
	}
}
