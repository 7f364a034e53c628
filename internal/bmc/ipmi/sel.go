package ipmi

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// storage is what the BMC remembers of its repositories until it is started again.
type storage struct {
	changes uint16 // of the SEL: a reservation is valid until the next
}

// cancel cancels the reservations of the SEL.
func (t *storage) cancel() { t.changes++ }

// reservation is the reservation that is valid now; never 0.
func (t *storage) reservation() uint16 { return t.changes%0xfffe + 1 }

// Parts of a SEL record (§32.1, table 32-1).
const (
	selRecordLen   = 16
	selSystemEvent = 0x02
	selNoTime      = 0xe0 // records of this type and above have no timestamp
	selTimeAt      = 3
	selEventRev    = 0x04 // event message format of IPMI 1.5 and 2.0
	selDeassertion = 0x80 // in the event type
	unspecifiedED  = 0xff // event data byte
)

// happening is how the SEL shows an event (table 42-3).
type happening struct {
	sensorType, sensor uint8
	off                bool     // a deassertion
	data               [3]uint8 // event data: the offset, and what its upper bits announce
}

// Numbers of the sensors of events that no sensor can be asked for.
const (
	sensorBoot = 0x50 + iota
	sensorInterrupt
	sensorButton
	sensorAudit
	sensorSlot
	sensorWatchdog
	sensorLog
	sensorHealth
	sensorSystem
)

// show says how the SEL shows an event that is not a client's own record.
func show(e machine.Event) happening {
	const (
		typeInterrupt, typeButton, typeLog, typeSystem, typeBoot = 0x13, 0x14, 0x10, 0x12, 0x1d
		typeSlot, typeWatchdog2, typeHealth, typeAudit           = 0x21, 0x23, 0x28, 0x2a
		extended2, extended3                                     = 0xc0, 0x30 // event data 2 or 3 is the sensor type's own
		none                                                     = unspecifiedED
		chassisControl                                           = 0x01
	)
	plain := func(sensorType, sensor, offset uint8) happening {
		return happening{sensorType, sensor, false, [3]uint8{offset, none, none}}
	}
	off := func(h happening) happening { h.off = true; return h }
	switch e.Kind {
	case machine.PoweredOff:
		return plain(typePowerUnit, sensorPowerUnit, 0)
	case machine.PoweredOn:
		return off(plain(typePowerUnit, sensorPowerUnit, 0))
	case machine.WasReset:
		return plain(typeBoot, sensorBoot, 1)
	case machine.Booting:
		switch machine.Device(e.Text) {
		case machine.DevicePXE:
			return plain(typeBoot, sensorBoot, 3)
		case machine.DeviceDiag:
			return plain(typeBoot, sensorBoot, 4)
		}
		return happening{typeBoot, sensorBoot, false, [3]uint8{7 | extended2, chassisControl, none}}
	case machine.Interrupted:
		return plain(typeInterrupt, sensorInterrupt, 0)
	case machine.ShutdownAsked:
		return plain(typeButton, sensorButton, 0)
	case machine.LoggedIn:
		return happening{typeAudit, sensorAudit, false, [3]uint8{0 | extended2 | extended3, 0, lanChannel}}
	case machine.LoginFailed:
		return happening{typeAudit, sensorAudit, false, [3]uint8{2 | extended2 | extended3, 0, lanChannel}}
	case machine.MediaInserted:
		return plain(typeSlot, sensorSlot, 2)
	case machine.MediaEjected:
		return off(plain(typeSlot, sensorSlot, 2))
	case machine.WatchdogExpired:
		offsets := map[string]uint8{"hard reset": 1, "power off": 2, "power cycle": 3}
		return plain(typeWatchdog2, sensorWatchdog, offsets[e.Text])
	case machine.LogCleared:
		return plain(typeLog, sensorLog, 2)
	case machine.BMCRestarted:
		return off(plain(typeHealth, sensorHealth, 3)) // no longer unavailable
	case machine.SettingsRestored:
		return plain(typeSystem, sensorSystem, 0)
	}
	return plain(typeSystem, sensorSystem, 3) // the log of the other protocols says more
}

// record is the SEL record of an event.
func record(e machine.Event) [selRecordLen]byte {
	var r [selRecordLen]byte
	if len(e.Raw) == selRecordLen {
		copy(r[:], e.Raw)
	} else {
		h := show(e)
		r[2], r[7], r[9] = selSystemEvent, wire.AddressBMC, selEventRev
		r[10], r[11], r[12] = h.sensorType, h.sensor, wire.ReadingSpecific
		if h.off {
			r[12] |= selDeassertion
		}
		copy(r[13:], h.data[:])
	}
	binary.LittleEndian.PutUint16(r[:], e.ID)
	if r[2] < selNoTime {
		binary.LittleEndian.PutUint32(r[selTimeAt:], seconds(e.Time))
	}
	return r
}

// seconds is a time as IPMI has it (§37); 0 for the zero time.
func seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(t.Unix())
}

func getSELInfo(s *Server, _ *request, out []byte) (code, []byte) {
	const deletes, reserve, allocation = 0x08, 0x02, 0x01
	n := len(s.Machine.Log().Events())
	added, erased := s.Machine.Log().Changed()
	out = append(out, wire.SDRVersion)
	out = binary.LittleEndian.AppendUint16(out, uint16(n))
	out = binary.LittleEndian.AppendUint16(out, uint16((machine.LogSize-n)*selRecordLen))
	out = binary.LittleEndian.AppendUint32(out, seconds(added))
	out = binary.LittleEndian.AppendUint32(out, seconds(erased))
	return ok, append(out, deletes|reserve|allocation)
}

func getSELAllocation(s *Server, _ *request, out []byte) (code, []byte) {
	free := uint16(machine.LogSize - len(s.Machine.Log().Events()))
	out = binary.LittleEndian.AppendUint16(out, machine.LogSize)
	out = binary.LittleEndian.AppendUint16(out, selRecordLen)
	out = binary.LittleEndian.AppendUint16(out, free)
	out = binary.LittleEndian.AppendUint16(out, free)
	return ok, append(out, 1) // a record is one unit
}

// reserveSEL gives a reservation, which a deletion cancels, and nothing else: two
// clients may read at the same time.
func reserveSEL(s *Server, _ *request, out []byte) (code, []byte) {
	return ok, binary.LittleEndian.AppendUint16(out, s.storage.reservation())
}

// reserved tells whether a command has a valid reservation.
func (s *Server) reserved(d []byte) bool {
	return binary.LittleEndian.Uint16(d) == s.storage.reservation()
}

// find returns the place of the event that a command names: 0 is the first,
// FFFFh the last.
func find(events []machine.Event, id uint16) int {
	switch {
	case len(events) == 0:
		return -1
	case id == 0:
		return 0
	case id == lastRecord:
		return len(events) - 1
	}
	return slices.IndexFunc(events, func(e machine.Event) bool { return e.ID == id })
}

func getSELEntry(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	events := s.Machine.Log().Events()
	i := find(events, binary.LittleEndian.Uint16(d[2:]))
	offset, count := int(d[4]), int(d[5])
	switch {
	case i < 0:
		return notPresent, out
	case offset != 0 && !s.reserved(d):
		return reservationGone, out
	case offset > selRecordLen:
		return outOfRange, out
	}
	next := uint16(lastRecord)
	if i+1 < len(events) {
		next = events[i+1].ID
	}
	r := record(events[i])
	end := min(offset+count, selRecordLen) // FFh: all of it
	return ok, append(binary.LittleEndian.AppendUint16(out, next), r[offset:end]...)
}

func addSELEntry(s *Server, q *request, out []byte) (code, []byte) {
	return ok, s.add(bytes.Clone(q.message.Data[:selRecordLen]), out)
}

// add adds a client's record, and appends its ID to out.
func (s *Server) add(raw, out []byte) []byte {
	id := s.Machine.Log().Add(machine.Event{Kind: machine.ClientEvent, Raw: raw})
	return binary.LittleEndian.AppendUint16(out, id)
}

// platformEvent adds the event that a client tells of (§29.3, table 29-6).
func platformEvent(s *Server, q *request, out []byte) (code, []byte) {
	const message = 7
	d, generator := q.message.Data, q.message.From
	if len(d) > message { // as from in-band software: who it is comes first
		generator, d = d[0], d[1:]
	}
	raw := make([]byte, selRecordLen)
	raw[2], raw[7] = selSystemEvent, generator
	copy(raw[9:], d[:message])
	s.add(raw, nil)
	return ok, out
}

func deleteSELEntry(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	if !s.reserved(d) {
		return reservationGone, out
	}
	log := s.Machine.Log()
	events := log.Events()
	i := find(events, binary.LittleEndian.Uint16(d[2:]))
	if i < 0 {
		return notPresent, out
	}
	there, err := log.Delete(events[i].ID)
	switch {
	case err != nil:
		return codeFor(err), out
	case !there:
		return notPresent, out
	}
	s.storage.cancel()
	return ok, binary.LittleEndian.AppendUint16(out, events[i].ID)
}

func clearSEL(s *Server, q *request, out []byte) (code, []byte) {
	const initiate, status, completed = 0xaa, 0x00, 0x01
	d := q.message.Data
	switch {
	case !s.reserved(d):
		return reservationGone, out
	case string(d[2:5]) != "CLR", d[5] != initiate && d[5] != status:
		return invalidField, out
	case d[5] == initiate:
		if err := s.Machine.Log().Clear(); err != nil {
			return codeFor(err), out
		}
		// Its status is asked for with the same reservation.
	}
	return ok, append(out, completed)
}

func getTime(s *Server, _ *request, out []byte) (code, []byte) {
	return ok, binary.LittleEndian.AppendUint32(out, seconds(s.Machine.Now()))
}

func setTime(s *Server, q *request, out []byte) (code, []byte) {
	return codeFor(s.Machine.SetClock(time.Unix(int64(binary.LittleEndian.Uint32(q.message.Data)), 0))), out
}

// Limits of the offset of the SEL's time from UTC, in minutes (§31.11b).
const (
	offsetMax         = 1440
	offsetUnspecified = 0x07ff
)

func getUTCOffset(s *Server, _ *request, out []byte) (code, []byte) {
	offset := uint16(offsetUnspecified)
	if s.kept.UTCOffset != nil {
		offset = uint16(*s.kept.UTCOffset)
	}
	return ok, binary.LittleEndian.AppendUint16(out, offset)
}

func setUTCOffset(s *Server, q *request, out []byte) (code, []byte) {
	offset := int16(binary.LittleEndian.Uint16(q.message.Data))
	set := &offset
	switch {
	case offset == offsetUnspecified:
		set = nil
	case offset < -offsetMax || offset > offsetMax:
		return invalidField, out
	}
	return codeFor(s.keep(func(k *kept) { k.UTCOffset = set })), out
}
