package fault

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a [Trace].
const (
	TraceKeep    = 100 // requests that are kept when Trace.Keep is 0
	TraceText    = 200 // bytes of each text of an Entry
	TraceBacklog = 256 // entries that wait for a slow follower
)

// Entry is a request, and what became of it: either what was answered, or what
// faults were done to it. As JSON, Took is in nanoseconds.
type Entry struct {
	Time    time.Time     `json:"time"`
	Request Request       `json:"request"`
	Answer  string        `json:"answer,omitempty"` // in the protocol's own words
	Took    time.Duration `json:"took,omitempty"`   // from the request to the answer
	Fault   string        `json:"fault,omitempty"`  // which rules struck, and what they do
	Lost    int           `json:"lost,omitempty"`   // entries before this one that a slow follower has missed
}

// String is the entry as `tenks bmc trace` shows it, in one line.
func (e Entry) String() string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s %-7s %s %s", e.Time.Format("15:04:05.000"), e.Request.Protocol, e.Request.From, e.Request.Operation)
	if e.Request.Detail != "" {
		fmt.Fprintf(&w, " (%s)", e.Request.Detail)
	}
	if e.Fault != "" {
		fmt.Fprintf(&w, " ! %s", e.Fault)
	} else {
		fmt.Fprintf(&w, " → %s, %s", e.Answer, e.Took.Round(time.Microsecond))
	}
	if e.Lost > 0 {
		fmt.Fprintf(&w, " [%d before this one were lost]", e.Lost)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?' // a client's text may not move the cursor
		}
		return r
	}, w.String())
}

// Trace is the last requests of a BMC. An idle one has no memory of its own. The
// zero value is usable. All methods are safe for concurrent use.
type Trace struct {
	Keep int // how many requests are kept; 0: TraceKeep; below 0: only what followers wait for

	mu        sync.Mutex
	ring      []Entry
	next      int // in ring, when it is full
	followers []*follower
}

type follower struct {
	entries chan Entry
	lost    int
}

// Recent returns the requests that are kept, oldest first.
func (t *Trace) Recent() []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent()
}

func (t *Trace) recent() []Entry {
	return slices.Concat(t.ring[t.next:], t.ring[:t.next])
}

// Follow returns the requests so far and those to come, until stop is called;
// then entries is closed. A follower that does not read misses some, and is told
// how many.
func (t *Trace) Follow() (past []Entry, entries <-chan Entry, stop func()) {
	f := &follower{entries: make(chan Entry, TraceBacklog)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.followers = append(t.followers, f)
	return t.recent(), f.entries, sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.followers = slices.DeleteFunc(t.followers, func(o *follower) bool { return o == f })
		close(f.entries)
	})
}

func (t *Trace) add(e Entry) {
	for _, text := range []*string{&e.Request.Protocol, &e.Request.Operation, &e.Request.From, &e.Request.Detail, &e.Answer, &e.Fault} {
		*text = short(*text)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := t.Keep
	if keep == 0 {
		keep = TraceKeep
	}
	switch {
	case keep < 0:
	case len(t.ring) < keep:
		t.ring = append(t.ring, e)
	default:
		t.ring[t.next] = e
		t.next = (t.next + 1) % keep
	}
	for _, f := range t.followers {
		e.Lost = f.lost
		select {
		case f.entries <- e:
			f.lost = 0
		default:
			f.lost++
		}
	}
}

// short cuts a text that a client may have made long, and lets go of the rest.
func short(text string) string {
	if len(text) <= TraceText {
		return text
	}
	return strings.ToValidUTF8(text[:TraceText], "") + "…"
}
