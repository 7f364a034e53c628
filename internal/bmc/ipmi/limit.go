package ipmi

import (
	"net/netip"
	"time"
)

// Limits of failed log-ins from one address. A client with a right password
// behind an address that fails all the time is let in after a second or two.
const (
	failuresAtOnce = 20          // may fail without being held up
	failureTime    = time.Second // forgets one failure
	limiterSources = 128         // addresses that are remembered
)

// limiter counts the failed log-ins of each address. An address cannot be
// forged here: a log-in only fails after an answer has got there.
type limiter struct {
	sources map[netip.Addr]time.Time // when all failures of an address are forgotten
	noted   time.Time                // when one was last written to the machine's log
}

// allows tells whether a client may try to log in now.
func (l *limiter) allows(from peer, now time.Time) bool {
	until, known := l.sources[from.addrPort().Addr()]
	return !known || until.Sub(now) <= (failuresAtOnce-1)*failureTime
}

// failed counts a failure.
func (l *limiter) failed(from peer, now time.Time) {
	at := from.addrPort().Addr()
	until := l.sources[at]
	if until.Before(now) {
		until = now
	}
	if l.sources == nil {
		l.sources = make(map[netip.Addr]time.Time)
	}
	l.makeRoom(at, now)
	l.sources[at] = until.Add(failureTime)
}

// makeRoom forgets addresses whose time is over, and, if there are too many
// still, the one that has failed least.
func (l *limiter) makeRoom(at netip.Addr, now time.Time) {
	if _, known := l.sources[at]; known || len(l.sources) < limiterSources {
		return
	}
	var least netip.Addr
	for a, until := range l.sources {
		if until.Before(now) {
			delete(l.sources, a)
			continue
		}
		if u, some := l.sources[least]; !some || until.Before(u) {
			least = a
		}
	}
	if len(l.sources) >= limiterSources {
		delete(l.sources, least)
	}
}
