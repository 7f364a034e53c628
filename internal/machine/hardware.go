package machine

import (
	"context"
	"io"
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

// What follows are abilities that some hardware has. A method of [Machine] that
// needs one returns [ErrUnsupported] where it is missing.

// Watcher is hardware that tells when its power changes, whoever changed it.
type Watcher interface {
	// Watch has changed called after every change, one call at a time and
	// in order, until stop is called: for a change that a method of Hardware
	// makes, before that method returns. What has changed while the truth
	// was not known is told when it is known again. changed does not wait,
	// and calls neither the hardware nor stop.
	Watch(changed func(on bool)) (stop func())
}

// Inventoried is hardware that says what it is made of.
type Inventoried interface {
	// Inventory answers from memory wherever it can: it is asked for every
	// request of a client.
	Inventory(ctx context.Context) (Inventory, error)
}

// Consoler is hardware with a serial console.
type Consoler interface {
	// Console connects to the console of a running machine; [ErrOff] if it
	// is off. Reading ends with io.EOF when it is switched off. [Console]
	// is the only caller: there is one connection at a time.
	Console(ctx context.Context) (io.ReadWriteCloser, error)
}

// MediaDrive is hardware with a CD drive for virtual media.
type MediaDrive interface {
	// Insert puts the image in the drive, running or not; it replaces one
	// that is there. path is of a regular file on the machine's host.
	Insert(ctx context.Context, path string) error
	// Eject empties the drive. An empty drive is no error.
	Eject(ctx context.Context) error
}

// Configurable is hardware whose firmware can be chosen.
type Configurable interface {
	// Configure changes the firmware of a machine that is off, and leaves it
	// off. Errors wrap [ErrUnsupported] if it cannot have that firmware. One
	// that it has already is no change.
	Configure(ctx context.Context, f Firmware) error
}
