package machine

import (
	"sync"
	"sync/atomic"
	"time"
)

// phase is what the BMC is doing to the power. Only who has made the machine
// busy sets it.
type phase struct{ word atomic.Uint64 }

// moment is a phase with a number of its own: two equal moments are one.
type moment uint64

// The phases, in the lowest bits of a moment.
const (
	resting moment = iota
	starting
	stopping

	phases = 4
)

func (p *phase) now() moment { return moment(p.word.Load()) }

func (p *phase) set(what moment) {
	p.word.Store((p.word.Load()/phases+1)*phases + uint64(what))
}

func (m moment) is(what moment) bool { return m%phases == what }

// change is a change of the power that has happened.
type change struct {
	on    bool
	at    time.Time
	cause Cause
}

// news are changes that have not been noted in the log and the settings yet.
// Noting them takes time, and who tells them has none.
type news struct {
	mu    sync.Mutex
	queue []change
	noted chan struct{} // closed when all are noted; nil: they are
}

// add adds a change, and starts note if it does not run.
func (n *news) add(c change, note func(change)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queue = append(n.queue, c)
	if n.noted != nil {
		return
	}
	n.noted = make(chan struct{})
	go n.run(note)
}

// run notes changes until there are none.
func (n *news) run(note func(change)) {
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			close(n.noted)
			n.queue, n.noted = nil, nil
			n.mu.Unlock()
			return
		}
		next := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		note(next)
	}
}

// wait returns when all changes have been noted that were told before.
func (n *news) wait() {
	n.mu.Lock()
	noted := n.noted
	n.mu.Unlock()
	if noted != nil {
		<-noted
	}
}

// powered is told that the power has changed, whoever changed it.
func (m *Machine) powered(on bool) {
	c := change{on: on, at: time.Now(), cause: CauseOutside}
	if m.phase.now().is(starting) {
		c.cause = CauseCommand
	}
	m.console.powered()
	m.news.add(c, m.note)
}

// note notes a change of the power.
func (m *Machine) note(c change) {
	// A machine whose times cannot be kept is still on or off.
	_ = m.ChangeSettings(func(s *Settings) {
		if c.on {
			s.LastStart, s.LastCause = c.at, c.cause
		} else if !s.LastStart.IsZero() {
			s.OnTime += c.at.Sub(s.LastStart)
			s.LastStart = time.Time{}
		}
	})
	e := Event{Kind: PoweredOff, Time: c.at.Add(m.Settings().ClockOffset)}
	if c.on {
		e.Kind = PoweredOn
	}
	m.log.Add(e)
}
