package ipmi

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// chassis is what the BMC remembers of its chassis until it is reset.
type chassis struct {
	startedHere   bool      // the power was last switched on by a command of IPMI
	restartCause  uint8     // table 28-11; 0: unknown
	identify      bool      // the light is on until it is switched off
	identifyUntil time.Time // it blinks until then
	options       options
}

func getChassisCapabilities(_ *Server, _ *request, out []byte) (code, []byte) {
	const bmc = 0x20            // address of all of the devices below
	const noLockoutNoNMI = 0x00 // no intrusion sensor, front panel lockout, interlock
	return ok, append(out, noLockoutNoNMI, bmc, bmc, bmc, bmc)
}

func getChassisStatus(s *Server, q *request, out []byte) (code, []byte) {
	const (
		powerOn           = 0x01
		policyOff         = 0x00 // stays off when the hypervisor has been started again
		byCommand         = 0x10
		identifySupported = 0x40
		identifyTimed     = 0x10
		identifyOn        = 0x20
	)
	on, err := s.Machine.On()
	if err != nil {
		return codeFor(err), out
	}
	power, event, misc := uint8(policyOff), uint8(0), uint8(identifySupported)
	if on {
		power |= powerOn
	}
	if s.chassis.startedHere {
		event |= byCommand
	}
	switch {
	case s.chassis.identify:
		misc |= identifyOn
	case q.now.Before(s.chassis.identifyUntil):
		misc |= identifyTimed
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
	later := *q
	later.message.Data = bytes.Clone(q.message.Data)
	s.power.Go(func() { s.control(&later, actions[n&0x0f]) })
	return noReply, out // not yet
}

// control changes the power and sends the response when it has happened. It
// runs in a goroutine of its own, without s.mu.
func (s *Server) control(q *request, a machine.Action) {
	defer s.rescue()
	limit := s.PowerTime
	if limit == 0 {
		limit = 60 * time.Second
	}
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	start := time.Now()
	err := s.do(ctx, a)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing = false
	c := codeFor(err)
	level := slog.LevelInfo
	if c == unspecified || c == timedOut {
		level = slog.LevelError
	}
	s.log().LogAttrs(s.ctx, level, "chassis control", slog.String("action", string(a)), slog.String("user", q.session.user.Name),
		slog.Duration("took", time.Since(start)), slog.Any("err", err))
	if c == ok {
		s.noteStart(a)
	}
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

// noteStart remembers why the machine runs.
func (s *Server) noteStart(a machine.Action) {
	const byControl = 0x01 // table 28-11
	switch a {
	case machine.PowerOn, machine.PowerCycle:
		s.chassis.startedHere, s.chassis.restartCause = true, byControl
	case machine.HardReset:
		s.chassis.restartCause = byControl
	}
}

func chassisIdentify(s *Server, q *request, out []byte) (code, []byte) {
	const usual, force = 15 * time.Second, 0x01
	d := q.message.Data
	interval := usual
	if len(d) >= 1 {
		interval = time.Duration(d[0]) * time.Second
	}
	s.chassis.identify = len(d) >= 2 && d[1]&force != 0
	s.chassis.identifyUntil = q.now.Add(interval)
	return ok, out
}

// setPowerRestorePolicy supports the one policy that is true: a machine stays
// off when its hypervisor has been started again.
func setPowerRestorePolicy(_ *Server, q *request, out []byte) (code, []byte) {
	const supported, stayOff, noChange = 0x01, 0x00, 0x03
	switch q.message.Data[0] & 0x07 {
	case stayOff, noChange:
		return ok, append(out, supported)
	}
	return invalidField, out
}

func getRestartCause(s *Server, _ *request, out []byte) (code, []byte) {
	channel := uint8(0)
	if s.chassis.restartCause != 0 {
		channel = lanChannel
	}
	return ok, append(out, s.chassis.restartCause, channel)
}
