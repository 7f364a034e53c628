package ipmi

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// chassis is what the BMC remembers of its chassis until it is started again.
type chassis struct {
	identifyEnd timer // switches the light off
	options     options
}

func getChassisCapabilities(_ *Server, _ *request, out []byte) (code, []byte) {
	const bmc = 0x20              // address of all of the devices below
	const diagnosticInterrupt = 4 // no intrusion sensor, front panel lockout, interlock
	return ok, append(out, diagnosticInterrupt, bmc, bmc, bmc, bmc)
}

func getChassisStatus(s *Server, q *request, out []byte) (code, []byte) {
	const (
		powerOn           = 0x01
		policyShift       = 5
		byCommand         = 0x10
		identifySupported = 0x40
		identifyTimed     = 0x10
		identifyOn        = 0x20
	)
	on, err := s.Machine.On()
	if err != nil {
		return codeFor(err), out
	}
	settings := s.Machine.Settings()
	power, event, misc := policyNumber(settings.Policy)<<policyShift, uint8(0), uint8(identifySupported)
	if on {
		power |= powerOn
	}
	switch settings.LastCause {
	case machine.CauseCommand, machine.CauseWatchdog:
		event |= byCommand
	}
	switch {
	case settings.Indicator == machine.IndicatorBlinking && q.now.Before(s.kept.IdentifyUntil):
		misc |= identifyTimed
	case settings.Indicator != machine.IndicatorOff:
		misc |= identifyOn
	}
	return ok, append(out, power, event, misc, 0)
}

// actions are the values of Chassis Control (§28.3, table 28-4).
var actions = [...]machine.Action{
	0: machine.PowerOff,
	1: machine.PowerOn,
	2: machine.PowerCycle,
	3: machine.HardReset,
	4: machine.Diagnostic,
	5: machine.SoftOff,
}

// control is the last Chassis Control of a session. A client that gets no
// answer in time sends its request again; that must not do it again.
type control struct {
	sequence, action uint8
	started          bool // there is one
	done             bool
	code             code      // if done
	at               time.Time // when it was done
	requests         uint64    // the session's requests until then
}

// repeats tells whether q is c sent again, and not a new request that happens to
// have the same number of 6 bits.
func (c *control) repeats(q *request) bool {
	const window, requests = 5 * time.Second, 32
	same := c.started && c.sequence == q.message.Sequence && c.action == q.message.Data[0]
	return same && (!c.done || q.now.Sub(c.at) < window && q.session.requests-c.requests < requests)
}

func chassisControl(s *Server, q *request, out []byte) (code, []byte) {
	n := q.message.Data[0]
	v := q.session
	switch {
	case int(n&0x0f) >= len(actions):
		return invalidField, out
	case v.control.repeats(q) && !v.control.done:
		return noReply, out // the response is to come
	case v.control.repeats(q):
		return v.control.code, out
	case s.changing || s.Machine.Busy():
		return nodeBusy, out
	}
	// The time of the boot flags begins anew (table 28-14, parameter 3).
	if err := s.Machine.KeepOverride(bootFlagsTime); err != nil {
		s.log().LogAttrs(s.ctx, slog.LevelWarn, "boot override not kept", slog.Any("err", err))
	}
	v.control = control{sequence: q.message.Sequence, action: n, started: true}
	s.changing = true // from now on, not only when the goroutine runs
	q.later = true
	later := *q
	later.message.Data = bytes.Clone(q.message.Data)
	if !s.spawn(func() { s.control(&later, actions[n&0x0f]) }) {
		return nodeBusy, out
	}
	return noReply, out // not yet
}

func (s *Server) powerTime() time.Duration {
	if s.PowerTime != 0 {
		return s.PowerTime
	}
	return 60 * time.Second
}

// control changes the power and sends the response when it has happened. It
// runs in a goroutine of its own, without s.mu.
func (s *Server) control(q *request, a machine.Action) {
	ctx, cancel := context.WithTimeout(s.ctx, s.powerTime())
	defer cancel()
	start := time.Now()
	err := s.do(ctx, a)
	if err == nil && (a == machine.PowerOn || a == machine.PowerCycle || a == machine.HardReset) {
		s.noteCause(machine.CauseCommand)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing = false
	c := codeFor(err)
	level := slog.LevelInfo
	if c == unspecified || c == timedOut {
		level = slog.LevelError
	}
	s.log().LogAttrs(s.ctx, level, "chassis control", slog.String("action", string(a)), slog.String("user", q.session.account.Name),
		slog.Duration("took", time.Since(start)), slog.Any("err", err))
	v := q.session
	if c == nodeBusy {
		v.control = control{} // has not been done: may be tried again
	} else {
		v.control.done, v.control.code, v.control.at, v.control.requests = true, c, time.Now(), v.requests
	}
	// Nobody waits if the session, or the server, has ended.
	if s.sessions.byID[v.id] == v && s.ctx.Err() == nil {
		v.used = time.Now() // it has not been idle
		s.reply(q, c, []byte{0})
	} else {
		s.leave(q.visit, "no answer")
	}
}

// do changes the power, but returns when ctx is done even if the hardware goes
// on: the machine is busy until that has ended.
func (s *Server) do(ctx context.Context, a machine.Action) error {
	done := make(chan error, 1)
	go func() {
		err := fmt.Errorf("power %s: the hardware failed", a)
		defer func() { done <- err }()
		defer s.rescue() // then err stays
		err = s.Machine.Do(ctx, a)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("power %s: %w", a, ctx.Err())
	}
}

// noteCause remembers why the machine runs.
func (s *Server) noteCause(cause machine.Cause) {
	if s.Machine.Settings().LastCause == cause {
		return
	}
	if err := s.Machine.ChangeSettings(func(m *machine.Settings) { m.LastCause = cause }); err != nil {
		s.log().LogAttrs(s.ctx, slog.LevelWarn, "restart cause not kept", slog.Any("err", err))
	}
}

// chassisIdentify switches the identification light on for some time, for ever
// or off.
func chassisIdentify(s *Server, q *request, out []byte) (code, []byte) {
	const usual, force = 15 * time.Second, 0x01
	d := q.message.Data
	interval := usual
	if len(d) >= 1 {
		interval = time.Duration(d[0]) * time.Second
	}
	light, until := machine.IndicatorOff, time.Time{}
	switch {
	case len(d) >= 2 && d[1]&force != 0:
		light = machine.IndicatorLit
	case interval > 0:
		light, until = machine.IndicatorBlinking, q.now.Add(interval)
	}
	if err := s.keep(func(k *kept) { k.IdentifyUntil = until }); err != nil {
		return codeFor(err), out
	}
	if err := s.Machine.ChangeSettings(func(m *machine.Settings) { m.Indicator = light }); err != nil {
		return codeFor(err), out
	}
	s.resumeIdentify()
	return ok, out
}

// resumeIdentify sees to it that a light that blinks for some time ends to.
func (s *Server) resumeIdentify() {
	s.chassis.identifyEnd.stop()
	until := s.kept.IdentifyUntil
	if until.IsZero() {
		return
	}
	s.chassis.identifyEnd.set(max(time.Until(until), 0), func() {
		s.locked(func() {
			if !s.kept.IdentifyUntil.Equal(until) {
				return // another command came
			}
			err := s.Machine.ChangeSettings(func(m *machine.Settings) {
				if m.Indicator == machine.IndicatorBlinking {
					m.Indicator = machine.IndicatorOff
				}
			})
			if err == nil {
				err = s.keep(func(k *kept) { k.IdentifyUntil = time.Time{} })
			}
			if err != nil {
				s.log().LogAttrs(s.ctx, slog.LevelWarn, "identification light not kept", slog.Any("err", err))
			}
		})
	})
}

// policies are the power restore policies by their number (§28.8).
var policies = [...]machine.Policy{machine.PolicyOff, machine.PolicyPrevious, machine.PolicyOn}

func policyNumber(p machine.Policy) uint8 {
	for i, o := range policies {
		if o == p {
			return uint8(i)
		}
	}
	return 0
}

func setPowerRestorePolicy(s *Server, q *request, out []byte) (code, []byte) {
	const supported, noChange = 0x07, 0x03
	n := q.message.Data[0] & 0x07
	switch {
	case n == noChange:
	case int(n) < len(policies):
		if err := s.Machine.ChangeSettings(func(m *machine.Settings) { m.Policy = policies[n] }); err != nil {
			return codeFor(err), out
		}
	default:
		return invalidField, out
	}
	return ok, append(out, supported)
}

func getRestartCause(s *Server, _ *request, out []byte) (code, []byte) {
	const unknown, byControl, byButton, byWatchdog = 0x00, 0x01, 0x03, 0x04 // table 28-11
	switch s.Machine.Settings().LastCause {
	case machine.CauseCommand:
		return ok, append(out, byControl, lanChannel)
	case machine.CauseWatchdog:
		return ok, append(out, byWatchdog, 0)
	case machine.CauseOutside: // as somebody who stands beside it would
		return ok, append(out, byButton, 0)
	}
	return ok, append(out, unknown, 0)
}

func getPOHCounter(s *Server, _ *request, out []byte) (code, []byte) {
	const minutesPerCount = 60
	out = append(out, minutesPerCount)
	return ok, binary.LittleEndian.AppendUint32(out, uint32(s.Machine.OnTime().Hours()))
}
