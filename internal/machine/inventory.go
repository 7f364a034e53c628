package machine

import (
	"context"
	"fmt"
)

// Inventory is what a machine is made of.
type Inventory struct {
	Architecture    string // "x86_64", "aarch64"
	CPUModel        string
	VCPUs           int
	MemoryMB        int    // mebibytes
	FirmwareVersion string // of the BIOS or UEFI
	Firmware        Firmware
	NICs            []NIC   // in the order that the machine sees them
	Drives          []Drive // likewise, without the CD drive
	Media           string  // file in the CD drive; "" if it is empty
	MediaDrive      bool    // there is a CD drive
	Console         bool    // there is a serial console
}

// Boot modes of a [Firmware].
const (
	BootBIOS = "bios"
	BootUEFI = "uefi"
)

// Firmware is what can be chosen of a machine's firmware.
type Firmware struct {
	BootMode   string `json:"boot_mode"` // BootBIOS, BootUEFI
	SecureBoot bool   `json:"secure_boot,omitempty"`
}

// NIC is a network interface.
type NIC struct {
	MAC  string // six pairs of lower-case hexadecimal digits with colons
	Link bool   // its other end is up
	MTU  int    // 0: not known
}

// Drive is a disk.
type Drive struct {
	Name   string // of its volume, unique in the machine
	Serial string
	Bytes  int64
	Bus    string // "virtio", "scsi", "sata", "nvme"
}

// Inventory says what the machine is made of. Errors wrap [ErrUnsupported] if
// its hardware does not tell, and [ErrUnknown] if it does not answer.
func (m *Machine) Inventory(ctx context.Context) (Inventory, error) {
	hw, able := m.hw.(Inventoried)
	if !able {
		return Inventory{}, fmt.Errorf("inventory: %w", ErrUnsupported)
	}
	i, err := hw.Inventory(ctx)
	if err != nil {
		return Inventory{}, fmt.Errorf("machine %s: %w: %w", m.Identity.Name, ErrUnknown, err)
	}
	return i, nil
}

// InsertMedia puts the image in path into the machine's CD drive; "" empties
// the drive.
func (m *Machine) InsertMedia(ctx context.Context, path string) error {
	drive, able := m.hw.(MediaDrive)
	if !able {
		return fmt.Errorf("virtual media: %w", ErrUnsupported)
	}
	var err error
	kind := MediaInserted
	if path == "" {
		kind, err = MediaEjected, drive.Eject(ctx)
	} else {
		err = drive.Insert(ctx, path)
	}
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Identity.Name, err)
	}
	m.log.Add(Event{Kind: kind})
	return nil
}

// SetFirmware chooses the firmware that the machine has when it is next booted
// by its BMC, be it off or on now. What is chosen and not in force yet is in
// [Settings]. Errors wrap [ErrUnsupported] if no machine has such a firmware, or
// this one has no choice.
func (m *Machine) SetFirmware(_ context.Context, f Firmware) error {
	if _, able := m.hw.(Configurable); !able {
		return fmt.Errorf("choice of firmware: %w", ErrUnsupported)
	}
	switch {
	case f.BootMode != BootBIOS && f.BootMode != BootUEFI:
		return fmt.Errorf("boot mode %q: %w", f.BootMode, ErrUnsupported)
	case f.BootMode == BootBIOS && f.SecureBoot:
		return fmt.Errorf("secure boot without UEFI: %w", ErrUnsupported)
	}
	return m.ChangeSettings(func(s *Settings) { s.Firmware = &f })
}

// configure puts a firmware that was chosen in force. The machine is off.
func (m *Machine) configure(ctx context.Context) error {
	want := m.Settings().Firmware
	if want == nil {
		return nil
	}
	hw, able := m.hw.(Configurable)
	if !able {
		return fmt.Errorf("choice of firmware: %w", ErrUnsupported)
	}
	if err := hw.Configure(ctx, *want); err != nil {
		return fmt.Errorf("machine %s: firmware: %w", m.Identity.Name, err)
	}
	return m.ChangeSettings(func(s *Settings) {
		if s.Firmware != nil && *s.Firmware == *want {
			s.Firmware = nil // unless another one has been chosen meanwhile
		}
	})
}
