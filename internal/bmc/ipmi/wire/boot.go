package wire

// BootDevice is a boot device selector (§28.13, table 28-14, parameter 5).
type BootDevice uint8

// Boot device selectors.
const (
	BootNone           BootDevice = 0x0
	BootPXE            BootDevice = 0x1
	BootDisk           BootDevice = 0x2
	BootSafe           BootDevice = 0x3
	BootDiagnostic     BootDevice = 0x4
	BootCD             BootDevice = 0x5
	BootSetup          BootDevice = 0x6
	BootRemoteFloppy   BootDevice = 0x7
	BootRemoteCD       BootDevice = 0x8
	BootRemoteMedia    BootDevice = 0x9
	BootRemoteDisk     BootDevice = 0xb
	BootFloppyOrRemove BootDevice = 0xf
)

// BootFlagsLen is the length of the data of boot option parameter 5.
const BootFlagsLen = 5

// BootFlags is boot option parameter 5 (§28.13, table 28-14).
type BootFlags struct {
	Valid      bool
	Persistent bool // for all boots from now on, not only the next
	EFI        bool
	Device     BootDevice
	// Rest is data bytes 2 to 5 without the device: clear CMOS, locks,
	// verbosity, console redirection, device instance.
	Rest [4]uint8
}

const (
	bootValid, bootPersistent, bootEFI = 0x80, 0x40, 0x20
	bootDevice                         = 0x3c
)

// DecodeBootFlags decodes the data of boot option parameter 5.
func DecodeBootFlags(b []byte) (BootFlags, error) {
	if len(b) != BootFlagsLen {
		return BootFlags{}, ErrShort
	}
	return BootFlags{
		Valid: b[0]&bootValid != 0, Persistent: b[0]&bootPersistent != 0, EFI: b[0]&bootEFI != 0,
		Device: BootDevice(b[1] & bootDevice >> 2),
		Rest:   [4]uint8{b[1] &^ bootDevice, b[2], b[3], b[4]},
	}, nil
}

// Append appends the data to dst.
func (f BootFlags) Append(dst []byte) []byte {
	var first uint8
	for _, bit := range []struct {
		set  bool
		mask uint8
	}{{f.Valid, bootValid}, {f.Persistent, bootPersistent}, {f.EFI, bootEFI}} {
		if bit.set {
			first |= bit.mask
		}
	}
	second := f.Rest[0]&^bootDevice | uint8(f.Device)<<2&bootDevice
	return append(dst, first, second, f.Rest[1], f.Rest[2], f.Rest[3])
}
