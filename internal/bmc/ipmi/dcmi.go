package ipmi

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// Sections in this file are those of the "Data Center Manageability Interface
// Specification", version 1.5, revision 1.0. Data begin with its group number.

// dcmiPower are statistics of the readings that clients have asked for.
type dcmiPower struct {
	since     time.Time
	min, max  float64
	sum       float64
	countRead int
}

func getDCMICapabilities(_ *Server, q *request, out []byte) (code, []byte) {
	const major, minor, revision = 1, 5, 2
	const (
		platform, mandatory, optional, access, statistics = 1, 2, 3, 4, 5
		powerManagement                                   = 0x01
		rollover, recordFlush                             = 0x80, 0x10
		assetTag, guid, temperature                       = 0x01, 0x04, 0x01
		samplingSeconds                                   = 1
		noChannel                                         = 0xff
	)
	out = append(out, wire.GroupDCMI, major, minor, revision)
	switch q.message.Data[1] { // §6.1.1, table 6-3
	case platform:
		return ok, append(out, 0, powerManagement, 0)
	case mandatory:
		return ok, append(out, machine.LogSize&0xff, rollover|recordFlush|machine.LogSize>>8, assetTag|guid, temperature, samplingSeconds)
	case optional:
		return ok, append(out, wire.AddressBMC, 0x01) // channel 0, revision 1
	case access:
		return ok, append(out, lanChannel, noChannel, noChannel)
	case statistics:
		return ok, append(out, 0)
	}
	return invalidField, out[:1]
}

// getPowerReading answers what the machine draws, and what it drew whenever
// somebody asked (§6.6.1).
func getPowerReading(s *Server, q *request, out []byte) (code, []byte) {
	const systemStatistics, active = 0x01, 0x40
	if q.message.Data[1] != systemStatistics {
		return invalidField, out
	}
	watts, p := s.Machine.Watts(), &s.dcmi
	if p.countRead == 0 {
		*p = dcmiPower{since: q.now, min: watts, max: watts}
	}
	p.min, p.max, p.sum, p.countRead = min(p.min, watts), max(p.max, watts), p.sum+watts, p.countRead+1
	out = append(out, wire.GroupDCMI)
	for _, w := range []float64{watts, p.min, p.max, p.sum / float64(p.countRead)} {
		out = binary.LittleEndian.AppendUint16(out, uint16(math.Round(w)))
	}
	out = binary.LittleEndian.AppendUint32(out, seconds(s.Machine.Now()))
	out = binary.LittleEndian.AppendUint32(out, uint32(min(q.now.Sub(p.since).Milliseconds(), math.MaxUint32)))
	return ok, append(out, active)
}

// getPowerLimit says that there is none (§6.6.2).
func getPowerLimit(_ *Server, _ *request, out []byte) (code, []byte) {
	const noLimit code = 0x80
	return noLimit, append(append(out, wire.GroupDCMI), make([]byte, 14)...)
}

// Texts of DCMI are read and written in parts of 16 bytes.
const (
	dcmiPart        = 16
	assetTagMax     = 63 // §6.4.3
	controllerIDMax = 64 // §6.4.6.2, with the zero at its end
)

// readPart answers a part of a text.
func readPart(value string, d, out []byte) (code, []byte) {
	offset, count := int(d[1]), int(d[2])
	switch {
	case count > dcmiPart:
		return invalidField, out
	case offset > len(value):
		return outOfRange, out
	}
	end := min(offset+count, len(value))
	return ok, append(append(out, wire.GroupDCMI, uint8(len(value))), value[offset:end]...)
}

// writePart returns value with the part that d has; the text ends there.
func writePart(value string, d []byte, most int) (string, code) {
	offset, count := int(d[1]), int(d[2])
	switch {
	case count > dcmiPart || len(d[3:]) != count:
		return "", invalidLength
	case offset > len(value) || offset+count > most:
		return "", outOfRange
	}
	return value[:offset] + string(d[3:]), ok
}

func getAssetTag(s *Server, q *request, out []byte) (code, []byte) {
	tag := s.Machine.Settings().AssetTag
	return readPart(tag[:min(len(tag), assetTagMax)], q.message.Data, out)
}

func setAssetTag(s *Server, q *request, out []byte) (code, []byte) {
	tag, c := writePart(s.Machine.Settings().AssetTag, q.message.Data, assetTagMax)
	if c != ok {
		return c, out
	}
	if err := s.Machine.ChangeSettings(func(m *machine.Settings) { m.AssetTag = tag }); err != nil {
		return codeFor(err), out
	}
	return ok, append(out, wire.GroupDCMI, uint8(len(tag)))
}

// controllerID is the name of the BMC, with a zero at its end (§6.4.6.1).
func (s *Server) controllerID() string {
	if s.kept.ControllerID != nil {
		return *s.kept.ControllerID
	}
	name := s.Machine.Identity.Name
	return name[:min(len(name), controllerIDMax-1)] + "\x00"
}

func getControllerID(s *Server, q *request, out []byte) (code, []byte) {
	return readPart(s.controllerID(), q.message.Data, out)
}

func setControllerID(s *Server, q *request, out []byte) (code, []byte) {
	id, c := writePart(s.controllerID(), q.message.Data, controllerIDMax)
	if c != ok {
		return c, out
	}
	if err := s.keep(func(k *kept) { k.ControllerID = &id }); err != nil {
		return codeFor(err), out
	}
	return ok, append(out, wire.GroupDCMI, uint8(len(id)))
}

// dcmiEntity is the entity of IPMI that DCMI has a number of its own for
// (§6.5.2, table 6-14).
func dcmiEntity(entity uint8) uint8 {
	switch entity {
	case 0x40:
		return entityInlet
	case 0x41:
		return entityProcessor
	case 0x42:
		return entityBoard
	}
	return entity
}

// temperatures calls f with each sensor of temperatures of the entity that d
// names, and returns how many there are.
func (s *Server) temperatures(d []byte, f func(record uint16, sensor machine.Sensor)) (n uint8, c code) {
	if d[1] != typeTemperature {
		return 0, invalidField
	}
	all := s.Machine.Sensors()
	for i, t := range all {
		r := sensorRecord(all, i)
		if t.Kind != machine.Temperature || r.Entity != dcmiEntity(d[2]) || d[3] != 0 && d[3] != r.EntityInstance {
			continue
		}
		n++
		f(uint16(locatorRecord+1+i), t)
	}
	return n, ok
}

func getDCMISensors(s *Server, q *request, out []byte) (code, []byte) {
	var ids []byte
	n, c := s.temperatures(q.message.Data, func(record uint16, _ machine.Sensor) {
		ids = binary.LittleEndian.AppendUint16(ids, record)
	})
	if c != ok {
		return c, out
	}
	return ok, append(append(out, wire.GroupDCMI, n, n), ids...)
}

func getTemperatures(s *Server, q *request, out []byte) (code, []byte) {
	const negative = 0x80
	var readings []byte
	var valid uint8
	n, c := s.temperatures(q.message.Data, func(_ uint16, t machine.Sensor) {
		if !t.Valid {
			return
		}
		valid++
		b := uint8(min(math.Round(math.Abs(t.Value)), 127))
		if t.Value < 0 {
			b |= negative
		}
		readings = append(readings, b, 1)
	})
	if c != ok {
		return c, out
	}
	return ok, append(append(out, wire.GroupDCMI, n, valid), readings...)
}
