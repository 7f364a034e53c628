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

// Hardware is a computer as a BMC's wires see it. Implementations are safe for
// concurrent use. Every method that changes the power returns when the change
// has happened, or with an error when it has not.
type Hardware interface {
	// On tells whether the computer is on. It answers from memory, in
	// microseconds; an error means that the truth is not known at the moment.
	On() (bool, error)

	// Start switches the computer on and boots it as boot says. It does
	// nothing if the computer is on.
	Start(ctx context.Context, boot Boot) error

	// Stop switches the computer off at once. It does nothing if it is off.
	Stop(ctx context.Context) error

	// Reset restarts a running computer without switching it off, and boots
	// it as boot says. [ErrOff] if it is off.
	Reset(ctx context.Context, boot Boot) error

	// Shutdown presses the power button of a running computer (ACPI). It
	// returns when the button was pressed. [ErrOff] if it is off.
	Shutdown(ctx context.Context) error

	// Interrupt sends a diagnostic interrupt (NMI). [ErrOff] if it is off.
	Interrupt(ctx context.Context) error
}

// Device is what a machine boots from.
type Device string

// Boot devices. The zero value leaves the choice to the machine's own order.
const (
	DeviceDefault Device = ""
	DevicePXE     Device = "pxe"
	DeviceDisk    Device = "disk"
	DeviceCDROM   Device = "cdrom"
	DeviceSetup   Device = "setup"
	DeviceSafe    Device = "safe"   // disk, in safe mode
	DeviceDiag    Device = "diag"   // diagnostic partition
	DeviceFloppy  Device = "floppy" // floppy, or primary removable media
)

// Boot is how a machine boots next.
type Boot struct {
	Device     Device `json:"device"`
	Persistent bool   `json:"persistent"` // every boot from now on, not just the next
	EFI        bool   `json:"efi"`        // the one who set it asked for a UEFI boot

	// Extra is the rest of what the protocol that set it wants to read back
	// (IPMI: the lesser boot flags). It has no effect.
	Extra [4]byte `json:"extra,omitzero"`
}

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

// Memory is what a Machine remembers while nobody runs it.
type Memory struct {
	Override   *Boot     `json:"override,omitempty"` // nil: none set
	ValidUntil time.Time `json:"valid_until"`        // zero: for ever
}

// Store keeps a Machine's memory. Save returns when it is safe.
type Store interface {
	Load() (Memory, error)
	Save(Memory) error
}

// Machine is a node as its BMC sees it. All methods are safe for concurrent use.
type Machine struct {
	Identity Identity

	hw    Hardware
	store Store

	busy atomic.Bool // a power change is under way

	mu     sync.Mutex
	memory Memory
}

// New returns the machine of hw, with the memory that store holds.
func New(id Identity, hw Hardware, store Store) (*Machine, error) {
	m := &Machine{Identity: id, hw: hw, store: store}
	var err error
	if m.memory, err = store.Load(); err != nil {
		return nil, fmt.Errorf("machine %s: %w", id.Name, err)
	}
	return m, nil
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
		return m.boot(ctx, m.hw.Start)
	case PowerOff:
		return m.hw.Stop(ctx)
	case SoftOff:
		if !on {
			return nil
		}
		return m.hw.Shutdown(ctx)
	case PowerCycle:
		if !on {
			return ErrOff
		}
		if err := m.hw.Stop(ctx); err != nil {
			return err
		}
		return m.boot(ctx, m.hw.Start)
	case HardReset:
		if !on {
			return ErrOff
		}
		return m.boot(ctx, m.hw.Reset)
	case Diagnostic:
		if !on {
			return ErrOff
		}
		return m.hw.Interrupt(ctx)
	}
	return fmt.Errorf("power action %q: %w", a, ErrUnsupported)
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
	if err := how(ctx, b); err != nil {
		return err
	}
	if used == nil || used.Persistent {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.memory.Override != used {
		return nil
	}
	// It has been used, whatever the store says.
	m.memory = Memory{}
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
	mem := Memory{}
	if b != nil {
		c := *b
		mem.Override = &c
		if valid > 0 {
			mem.ValidUntil = time.Now().Add(valid)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
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
	mem := Memory{Override: b}
	if valid > 0 {
		mem.ValidUntil = time.Now().Add(valid)
	}
	return m.remember(mem)
}

// remember replaces the memory; m.mu is held.
func (m *Machine) remember(mem Memory) error {
	if err := m.store.Save(mem); err != nil {
		return fmt.Errorf("machine %s: %w", m.Identity.Name, err)
	}
	m.memory = mem
	return nil
}
