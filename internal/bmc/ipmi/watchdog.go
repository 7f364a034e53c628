package ipmi

import (
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// watchdog is the watchdog timer (§27). A machine that is switched or restarted
// by other means stops it, as on a real one.
type watchdog struct {
	initialized bool
	use         uint8 // first byte of Set Watchdog Timer, without "don't stop"
	actions     uint8
	pretimeout  uint8 // seconds
	expired     uint8 // expiration flags
	initial     uint16
	running     bool
	warned      bool      // the pre-timeout interrupt has been sent
	end         time.Time // of the countdown, if running
	left        time.Duration

	next    timer
	unwatch func()
}

// Units and bits of the watchdog (§27.6, table 27-3).
const (
	watchdogTick     = 100 * time.Millisecond
	watchdogNoLog    = 0x80
	watchdogGoOn     = 0x40 // in Set: do not stop; in Get: it is running
	watchdogUse      = 0x07
	watchdogActions  = 0x07
	watchdogPreShift = 4
)

// stop stops the countdown.
func (w *watchdog) stop() {
	if w.running {
		w.left = max(time.Until(w.end), 0)
	}
	w.running = false
	w.next.stop()
	if w.unwatch != nil {
		w.unwatch()
		w.unwatch = nil
	}
}

func resetWatchdog(s *Server, q *request, out []byte) (code, []byte) {
	const neverSet code = 0x80
	if !s.watchdog.initialized {
		return neverSet, out
	}
	s.startWatchdog(q.now)
	return ok, out
}

// startWatchdog begins the countdown anew.
func (s *Server) startWatchdog(now time.Time) {
	w := &s.watchdog
	w.stop()
	w.running, w.warned = true, false
	w.end = now.Add(time.Duration(w.initial) * watchdogTick)
	w.unwatch = s.Machine.Log().Watch(func(e machine.Event) {
		switch e.Kind {
		case machine.PoweredOn, machine.PoweredOff, machine.WasReset:
			// Not here, where the log and maybe s.mu are held.
			go s.locked(func() {
				if s.watchdog.running && s.watchdog.end.After(time.Now()) {
					s.watchdog.stop()
				}
			})
		}
	})
	s.armWatchdog(now)
}

// armWatchdog sets the timer for what happens next.
func (s *Server) armWatchdog(now time.Time) {
	w := &s.watchdog
	at := w.end
	if pre := w.end.Add(-time.Duration(w.pretimeout) * time.Second); !w.warned && w.actions>>watchdogPreShift&watchdogActions != 0 {
		at = pre
	}
	w.next.set(at.Sub(now), func() { s.locked(s.watchdogTicks) })
}

// watchdogTicks does what is due. s.mu is held.
func (s *Server) watchdogTicks() {
	const interruptNMI = 2
	now, w := time.Now(), &s.watchdog
	if !w.running {
		return
	}
	interrupt := w.actions >> watchdogPreShift & watchdogActions
	if !w.warned && interrupt != 0 && !now.Before(w.end.Add(-time.Duration(w.pretimeout)*time.Second)) {
		w.warned = true
		if interrupt == interruptNMI {
			s.watchdogDoes(machine.Diagnostic)
		}
	}
	if now.Before(w.end) {
		s.armWatchdog(now)
		return
	}
	w.stop()
	w.left = 0
	w.expired |= 1 << (w.use & watchdogUse)
	names := [...]string{"timer expired", "hard reset", "power off", "power cycle"}
	actions := [...]machine.Action{0: "", 1: machine.HardReset, 2: machine.PowerOff, 3: machine.PowerCycle}
	n := int(w.actions & watchdogActions)
	if w.use&watchdogNoLog == 0 {
		s.Machine.Log().Add(machine.Event{Kind: machine.WatchdogExpired, Text: names[n]})
	}
	if actions[n] != "" {
		s.watchdogDoes(actions[n])
	}
}

// watchdogDoes changes the power in a goroutine of its own.
func (s *Server) watchdogDoes(a machine.Action) {
	ctx, cancel := context.WithTimeout(s.ctx, s.powerTime())
	if !s.spawn(func() {
		defer cancel()
		err := s.do(ctx, a)
		if err == nil && a != machine.Diagnostic && a != machine.PowerOff {
			s.noteCause(machine.CauseWatchdog)
		}
		s.log().LogAttrs(ctx, slog.LevelInfo, "watchdog", slog.String("action", string(a)), slog.Any("err", err))
	}) {
		cancel()
	}
}

func setWatchdog(s *Server, q *request, out []byte) (code, []byte) {
	const lastUse, lastAction, lastInterrupt = 5, 3, 3
	d := q.message.Data
	use, action, interrupt := d[0]&watchdogUse, d[1]&watchdogActions, d[1]>>watchdogPreShift&watchdogActions
	initial := binary.LittleEndian.Uint16(d[4:])
	switch {
	case use == 0 || use > lastUse, action > lastAction, interrupt > lastInterrupt:
		return invalidField, out
	case interrupt != 0 && time.Duration(d[2])*time.Second > time.Duration(initial)*watchdogTick:
		return invalidField, out
	}
	w := &s.watchdog
	goOn := d[0]&watchdogGoOn != 0 && w.running
	w.stop()
	w.initialized, w.use, w.actions, w.pretimeout, w.initial = true, d[0]&^watchdogGoOn, d[1], d[2], initial
	w.expired &^= d[3]
	w.left = time.Duration(initial) * watchdogTick
	if goOn {
		s.startWatchdog(q.now)
	}
	return ok, out
}

func getWatchdog(s *Server, q *request, out []byte) (code, []byte) {
	w := &s.watchdog
	use, left := w.use, w.left
	if w.running {
		use |= watchdogGoOn
		left = max(w.end.Sub(q.now), 0)
	}
	out = append(out, use, w.actions, w.pretimeout, w.expired)
	out = binary.LittleEndian.AppendUint16(out, w.initial)
	return ok, binary.LittleEndian.AppendUint16(out, uint16(left/watchdogTick))
}
