package machine

import (
	"slices"
	"sync"
	"time"
)

// Event is something that has happened to a machine. IPMI shows it in the
// System Event Log, Redfish in a LogService.
type Event struct {
	ID   uint16    `json:"id"`   // 1 and up; 0 is for Log.Add to fill in
	Time time.Time `json:"time"` // by the BMC's clock; zero is for Log.Add to fill in
	Kind Kind      `json:"kind"`
	Text string    `json:"text,omitempty"` // what differs from one event of a kind to the next: a boot device, a user's name
	Raw  []byte    `json:"raw,omitempty"`  // ClientEvent: an IPMI SEL record (IPMI v2.0 §32.1), 16 bytes
}

// Kind is a kind of event.
type Kind string

// The kinds of events.
const (
	PoweredOn        Kind = "powered on"
	PoweredOff       Kind = "powered off"
	WasReset         Kind = "reset"
	Interrupted      Kind = "diagnostic interrupt"
	ShutdownAsked    Kind = "shutdown asked"
	Booting          Kind = "booting" // Text: the device of the boot override
	LoggedIn         Kind = "logged in"
	LoginFailed      Kind = "log-in failed"
	MediaInserted    Kind = "media inserted"
	MediaEjected     Kind = "media ejected"
	WatchdogExpired  Kind = "watchdog expired"
	LogCleared       Kind = "log cleared"
	BMCRestarted     Kind = "BMC restarted"
	ClientEvent      Kind = "added by a client"
	SettingsRestored Kind = "settings restored"
)

// LogSize is how many events a log holds. When it is full the oldest goes.
const LogSize = 512

// EventStore is a [Store] that keeps a log too. Losing the last second of a log
// in a crash is acceptable; losing all of it is not.
type EventStore interface {
	LoadEvents() ([]Event, error)
	// AppendEvent adds an event to those that are kept.
	AppendEvent(Event) error
	// ReplaceEvents keeps these events and no others. It does not hold on
	// to the slice.
	ReplaceEvents([]Event) error
}

// Log is the list of a machine's events. All methods are safe for concurrent
// use. Adding never fails: a log that cannot be written is kept in memory.
type Log struct {
	now   func() time.Time
	store EventStore // nil: in memory only

	mu       sync.Mutex
	events   []Event
	last     uint16 // the highest ID so far
	added    time.Time
	erased   time.Time
	watchers []*watcher
}

type watcher struct{ f func(Event) }

// Log is the machine's log.
func (m *Machine) Log() *Log { return &m.log }

// load reads what the store has.
func (l *Log) load() error {
	if l.store == nil {
		return nil
	}
	events, err := l.store.LoadEvents()
	if err != nil {
		return err
	}
	l.events = events[max(0, len(events)-LogSize):]
	if n := len(l.events); n > 0 {
		l.last, l.added = l.events[n-1].ID, l.events[n-1].Time
	}
	return nil
}

// Add adds an event and returns its ID.
func (l *Log) Add(e Event) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	e.Raw = slices.Clone(e.Raw)
	l.last++
	if l.last == 0 || l.last == 0xffff { // both have a meaning in IPMI (§31.5)
		l.last = 1
	}
	e.ID = l.last
	l.added = e.Time
	full := len(l.events) >= LogSize
	if full {
		l.events = slices.Delete(l.events, 0, len(l.events)-LogSize+1)
	}
	l.events = append(l.events, e)
	l.keep(e, full && e.ID%64 == 0) // now and then, so that the file stays small
	for _, w := range l.watchers {
		w.f(e)
	}
	return e.ID
}

// keep stores an event that has been added; all of them anew if rewrite is set.
func (l *Log) keep(e Event, rewrite bool) {
	if l.store == nil || rewrite && l.store.ReplaceEvents(l.events) == nil {
		return
	}
	_ = l.store.AppendEvent(e) // a log that cannot be written is kept in memory
}

// Events returns the events, oldest first.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// Clear removes all events.
func (l *Log) Clear() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store != nil {
		if err := l.store.ReplaceEvents(nil); err != nil {
			return err
		}
	}
	l.events, l.erased = nil, l.now()
	return nil
}

// Delete removes one event and tells whether it was there.
func (l *Log) Delete(id uint16) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.events, func(e Event) bool { return e.ID == id })
	if i < 0 {
		return false, nil
	}
	rest := slices.Delete(slices.Clone(l.events), i, i+1)
	if l.store != nil {
		if err := l.store.ReplaceEvents(rest); err != nil {
			return false, err
		}
	}
	l.events, l.erased = rest, l.now()
	return true, nil
}

// Changed tells when an event was last added and when one was last removed,
// by the BMC's clock; zero if never as far as is known.
func (l *Log) Changed() (added, erased time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.added, l.erased
}

// Watch has f called with every event that is added, in order, until stop is
// called. f must not wait, nor call the log.
func (l *Log) Watch(f func(Event)) (stop func()) {
	w := &watcher{f}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers = append(l.watchers, w)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers = slices.DeleteFunc(l.watchers, func(o *watcher) bool { return o == w })
	}
}
