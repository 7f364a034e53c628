package ipmi

import (
	"time"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// bootFlagsTime is how long boot flags are valid without a Chassis Control
// command, unless keepAfterTime is set (§28.13, table 28-14, parameter 3).
const bootFlagsTime = 60 * time.Second

// keepAfterTime is the bit of parameter 3 that makes boot flags stay.
const keepAfterTime = 0x08

// Boot option parameters (§28.13, table 28-14).
const (
	paramInProgress       = 0
	paramPartition        = 1
	paramPartitionScan    = 2
	paramValidClearing    = 3
	paramAcknowledge      = 4
	paramFlags            = 5
	paramInitiatorInfo    = 6
	paramInitiatorMailbox = 7
)

// mailboxBlocks is how many blocks parameter 7 has.
const mailboxBlocks = 5

// options is the volatile part of the boot options. The flags are not here: they
// are the machine's override; parameter 3 is kept.
type options struct {
	setBy         uint32 // session that has "set in progress"; 0: none
	partition     uint8  // parameter 1
	partitionScan uint8  // parameter 2
	acknowledge   uint8  // parameter 4
	initiator     [9]uint8
	mailbox       [mailboxBlocks][16]uint8
}

// devices pairs boot device selectors with what machines know. Others, such as
// those for redirected media, are not supported.
var devices = map[wire.BootDevice]machine.Device{
	wire.BootNone:           machine.DeviceDefault,
	wire.BootPXE:            machine.DevicePXE,
	wire.BootDisk:           machine.DeviceDisk,
	wire.BootSafe:           machine.DeviceSafe,
	wire.BootDiagnostic:     machine.DeviceDiag,
	wire.BootCD:             machine.DeviceCDROM,
	wire.BootSetup:          machine.DeviceSetup,
	wire.BootFloppyOrRemove: machine.DeviceFloppy,
}

func selectorOf(d machine.Device) wire.BootDevice {
	for selector, device := range devices {
		if device == d {
			return selector
		}
	}
	return wire.BootNone
}

func setBootOptions(s *Server, q *request, out []byte) (code, []byte) {
	const invalidBit = 0x80
	d := q.message.Data
	if d[0]&invalidBit != 0 { // locking of parameters is not supported
		return invalidField, out
	}
	param, d := d[0]&^invalidBit, d[1:]
	lengths := [...]int{
		paramInProgress: 1, paramPartition: 1, paramPartitionScan: 1, paramValidClearing: 1, paramAcknowledge: 2,
		paramFlags: wire.BootFlagsLen, paramInitiatorInfo: 9, paramInitiatorMailbox: 17,
	}
	switch {
	case param > paramInitiatorMailbox:
		return paramUnsupported, out
	case len(d) == 0: // "do not change the parameter" (§28.12)
		return ok, out
	case param == paramInitiatorMailbox && len(d) < lengths[param]: // the rest of the block stays
	case len(d) != lengths[param]:
		return invalidLength, out
	}
	o := &s.chassis.options
	switch param {
	case paramInProgress:
		return s.setInProgress(q, d[0]), out
	case paramPartition:
		o.partition = d[0]
	case paramPartitionScan:
		o.partitionScan = d[0] & 0x03
	case paramValidClearing:
		return s.setClearing(d[0] & 0x1f), out
	case paramAcknowledge:
		mask := d[0]
		o.acknowledge = o.acknowledge&^mask | d[1]&mask
	case paramFlags:
		return s.setBootFlags(d), out
	case paramInitiatorInfo:
		copy(o.initiator[:], d)
	case paramInitiatorMailbox:
		if d[0] >= mailboxBlocks {
			return invalidField, out
		}
		copy(o.mailbox[d[0]][:], d[1:])
	}
	return ok, out
}

// setClearing sets parameter 3.
func (s *Server) setClearing(bits uint8) code {
	if err := s.keep(func(k *kept) { k.BootFlagClearing = bits }); err != nil {
		return codeFor(err)
	}
	if bits&keepAfterTime != 0 {
		return codeFor(s.Machine.KeepOverride(0))
	}
	return ok
}

// setInProgress sets parameter 0. It ends with the session that set it: a client
// that died must not keep others out.
func (s *Server) setInProgress(q *request, value uint8) code {
	const complete, inProgress = 0, 1
	o := &s.chassis.options
	switch value & 0x03 {
	case complete:
		o.setBy = 0
	case inProgress:
		if s.inProgress(q.now) && o.setBy != q.session.id {
			return alreadyInProgress
		}
		o.setBy = q.session.id
	default: // commit write: nothing is kept back, so there is nothing to commit
		return invalidField
	}
	return ok
}

func (s *Server) inProgress(now time.Time) bool {
	id := s.chassis.options.setBy
	return id != 0 && s.sessions.find(id, now) != nil
}

func (s *Server) setBootFlags(data []byte) code {
	f, err := wire.DecodeBootFlags(data)
	if err != nil {
		return invalidLength
	}
	if !f.Valid {
		return codeFor(s.Machine.SetOverride(nil, 0))
	}
	device, known := devices[f.Device]
	if !known {
		return invalidField
	}
	valid := bootFlagsTime
	if s.kept.BootFlagClearing&keepAfterTime != 0 {
		valid = 0
	}
	return codeFor(s.Machine.SetOverride(&machine.Boot{
		Device: device, Persistent: f.Persistent, EFI: f.EFI, Extra: f.Rest,
	}, valid))
}

func getBootOptions(s *Server, q *request, out []byte) (code, []byte) {
	const version = 0x01
	param := q.message.Data[0] & 0x7f
	out = append(out, version, param)
	o := &s.chassis.options
	switch param {
	case paramInProgress:
		var value uint8
		if s.inProgress(q.now) {
			value = 1
		}
		return ok, append(out, value)
	case paramPartition:
		return ok, append(out, o.partition)
	case paramPartitionScan:
		return ok, append(out, o.partitionScan)
	case paramValidClearing:
		return ok, append(out, s.kept.BootFlagClearing)
	case paramAcknowledge:
		return ok, append(out, 0, o.acknowledge) // the mask reads as 0
	case paramFlags:
		var f wire.BootFlags
		if b, _ := s.Machine.Override(); b != nil {
			f = wire.BootFlags{Valid: true, Persistent: b.Persistent, EFI: b.EFI, Device: selectorOf(b.Device), Rest: b.Extra}
		}
		return ok, f.Append(out)
	case paramInitiatorInfo:
		return ok, append(out, o.initiator[:]...)
	case paramInitiatorMailbox:
		block := q.message.Data[1]
		if block >= mailboxBlocks {
			return invalidField, out[:1]
		}
		return ok, append(append(out, block), o.mailbox[block][:]...)
	}
	return paramUnsupported, out[:1]
}
