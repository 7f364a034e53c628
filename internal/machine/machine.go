// Package machine is what a BMC may do to a computer. A [Machine] is the one
// truth about a node that all protocols share: its power, its boot override,
// its identity. Protocols (bmc/ipmi, later Redfish and SNMP) call a Machine;
// providers (provider/libvirt, provider/synthetic) implement [Hardware].
//
// The package knows neither libvirt nor IPMI.
package machine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that a protocol translates into its own words.
var (
	// ErrBusy: another power change is under way; ask again.
	ErrBusy = errors.New("a power change is under way")
	// ErrOff: the action needs a machine that is on.
	ErrOff = errors.New("the machine is off")
	// ErrUnknown: whether the machine is on is not known at the moment.
	ErrUnknown = errors.New("the power state is not known")
	// ErrUnsupported: this hardware cannot do that, now or ever.
	ErrUnsupported = errors.New("not supported by this machine")
)

// Action is a change of power.
type Action string

// What can be done to a machine's power.
const (
	PowerOn    Action = "on"
	PowerOff   Action = "off"
	PowerCycle Action = "cycle" // off, and on again; [ErrOff] if it is off
	HardReset  Action = "reset" // [ErrOff] if it is off
	SoftOff    Action = "soft"  // press the button
	Diagnostic Action = "diag"  // NMI
)

// Identity is what a machine says of itself.
type Identity struct {
	Name   string
	UUID   string // 8-4-4-4-12 hexadecimal digits
	Serial string
}

// Power is what a machine's power does at a moment.
type Power string

// The states of power.
const (
	Off        Power = "off"
	TurningOn  Power = "turning on"
	On         Power = "on"
	TurningOff Power = "turning off"
)

// Machine is a node as its BMC sees it. All methods are safe for concurrent use.
type Machine struct {
	Identity Identity

	hw      Hardware
	store   Store
	log     Log
	console Console
	unwatch func()

	busy  atomic.Bool // a power change is under way
	phase phase
	news  news

	mu     sync.Mutex
	memory Memory
}

// New returns the machine of hw, with the memory that store holds, and its log
// if store is an [EventStore]. Call Close when it is no longer used.
func New(id Identity, hw Hardware, store Store) (*Machine, error) {
	m := &Machine{Identity: id, hw: hw, store: store}
	var err error
	if m.memory, err = store.Load(); err != nil {
		return nil, fmt.Errorf("machine %s: %w", id.Name, err)
	}
	m.log.now = m.Now
	m.log.store, _ = store.(EventStore)
	if err := m.log.load(); err != nil {
		return nil, fmt.Errorf("machine %s: log: %w", id.Name, err)
	}
	m.console.init(m)
	if w, able := hw.(Watcher); able {
		m.unwatch = w.Watch(m.powered)
	}
	return m, nil
}

// Close lets go of the hardware, and ends all viewers of the console; the
// machine itself goes on.
func (m *Machine) Close() {
	if m.unwatch != nil {
		m.unwatch()
	}
	m.console.close()
}

// On tells whether the machine is on. It answers at once, also while the power
// changes: then with what is true at that moment. Errors wrap [ErrUnknown].
func (m *Machine) On() (bool, error) {
	on, err := m.hw.On()
	if err != nil {
		return false, fmt.Errorf("machine %s: %w: %w", m.Identity.Name, ErrUnknown, err)
	}
	return on, nil
}

// Busy tells whether a power change is under way.
func (m *Machine) Busy() bool { return m.busy.Load() }

// Power is [Machine.On] in more words: it also tells that the machine is being
// switched on or off by its BMC.
func (m *Machine) Power() (Power, error) {
	for {
		now := m.phase.now()
		on, err := m.On()
		if m.phase.now() != now {
			continue // what on belongs to is over
		}
		switch {
		case err != nil:
			return "", err
		case on && now.is(stopping):
			return TurningOff, nil
		case !on && now.is(starting):
			return TurningOn, nil
		case on:
			return On, nil
		}
		return Off, nil
	}
}

// Do changes the power and returns when it has changed. While another change
// is under way it returns [ErrBusy] and does nothing; while it is not known
// whether the machine is on it returns [ErrUnknown] and does nothing.
//
// A boot override is applied by the actions that boot the machine (on, cycle,
// reset); one that is not persistent is forgotten when such an action succeeded,
// and stays when it failed.
func (m *Machine) Do(ctx context.Context, a Action) error {
	if !m.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer m.busy.Store(false)

	on, err := m.On()
	if err != nil {
		return err
	}
	switch a {
	case PowerOn:
		if on {
			return nil
		}
		return m.start(ctx)
	case PowerOff:
		return m.stop(ctx)
	case SoftOff:
		if !on {
			return nil
		}
		err := m.noted(Event{Kind: ShutdownAsked}, m.hw.Shutdown(ctx))
		if errors.Is(err, ErrOff) {
			return nil // since just now
		}
		return err
	case PowerCycle:
		if !on {
			return ErrOff
		}
		if err := m.stop(ctx); err != nil {
			return err
		}
		return m.start(ctx)
	case HardReset:
		if !on {
			return ErrOff
		}
		return m.reset(ctx)
	case Diagnostic:
		if !on {
			return ErrOff
		}
		return m.noted(Event{Kind: Interrupted}, m.hw.Interrupt(ctx))
	}
	return fmt.Errorf("power action %q: %w", a, ErrUnsupported)
}

// noted adds e to the log unless err says that it has not happened.
func (m *Machine) noted(e Event, err error) error {
	if err == nil {
		m.log.Add(e)
	}
	return err
}

// stop switches the machine off.
func (m *Machine) stop(ctx context.Context) error {
	m.phase.set(stopping)
	defer m.phase.set(resting)
	err := m.hw.Stop(ctx)
	m.news.wait()
	return err
}

// start boots a machine that is off.
func (m *Machine) start(ctx context.Context) error {
	m.phase.set(starting)
	defer m.phase.set(resting)
	if err := m.configure(ctx); err != nil {
		return err
	}
	return m.boot(ctx, m.hw.Start)
}

// reset boots a machine that is on. Firmware cannot be changed under a machine:
// if another one was chosen, the machine is off for a moment.
func (m *Machine) reset(ctx context.Context) error {
	if m.Settings().Firmware != nil {
		if err := m.stop(ctx); err != nil {
			return err
		}
		return m.start(ctx)
	}
	return m.noted(Event{Kind: WasReset}, m.boot(ctx, m.hw.Reset))
}

// boot starts the machine with how, and forgets an override that was for one
// boot only, unless a new one has been set meanwhile.
func (m *Machine) boot(ctx context.Context, how func(context.Context, Boot) error) error {
	m.mu.Lock()
	used, _ := m.valid()
	m.mu.Unlock()
	b := Boot{}
	if used != nil {
		b = *used
	}
	err := how(ctx, b)
	m.news.wait()
	if err != nil {
		return err
	}
	if used == nil {
		return nil
	}
	m.log.Add(Event{Kind: Booting, Text: string(used.Device)})
	if used.Persistent {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.memory.Override != used {
		return nil
	}
	// It has been used, whatever the store says.
	m.memory.Override, m.memory.ValidUntil = nil, time.Time{}
	if err := m.store.Save(m.memory); err != nil {
		return fmt.Errorf("machine %s: booted, but its boot override could not be removed: %w", m.Identity.Name, err)
	}
	return nil
}

// Override returns the boot override, and until when it is valid (zero: until
// it is used or changed). It returns nil if there is none or its time is over.
func (m *Machine) Override() (*Boot, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, until := m.valid()
	if b != nil {
		c := *b
		b = &c
	}
	return b, until
}

// valid is Override without the lock, and without a copy.
func (m *Machine) valid() (*Boot, time.Time) {
	if u := m.memory.ValidUntil; !u.IsZero() && time.Now().After(u) {
		return nil, time.Time{}
	}
	return m.memory.Override, m.memory.ValidUntil
}

// SetOverride sets the boot override; nil removes it. If valid is not zero, the
// override lapses when the machine has not been booted in that time.
func (m *Machine) SetOverride(b *Boot, valid time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	mem := m.memory
	mem.Override, mem.ValidUntil = nil, time.Time{}
	if b != nil {
		c := *b
		mem.Override = &c
		if valid > 0 {
			mem.ValidUntil = time.Now().Add(valid)
		}
	}
	return m.remember(mem)
}

// KeepOverride gives an override that would lapse a new time: valid from now,
// or, if valid is 0, until it is used or changed. It does nothing if there is
// no override, or if it does not lapse.
func (m *Machine) KeepOverride(valid time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, until := m.valid()
	if b == nil || until.IsZero() {
		return nil
	}
	mem := m.memory
	mem.ValidUntil = time.Time{}
	if valid > 0 {
		mem.ValidUntil = time.Now().Add(valid)
	}
	return m.remember(mem)
}
