package ipmi

import (
	"encoding/binary"
	"math"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// Sensor types (table 42-3) and units (table 43-15).
const (
	typeTemperature = 0x01
	typeVoltage     = 0x02
	typeFan         = 0x04
	typePowerUnit   = 0x09
	typeOther       = 0x0b
	typeACPI        = 0x22

	unitCelsius = 1
	unitVolts   = 4
	unitWatts   = 6
	unitRPM     = 18
)

// Entities (table 43-13).
const (
	entityProcessor   = 0x03
	entityBoard       = 0x07
	entityPowerSupply = 0x0a
	entityPowerUnit   = 0x13
	entityFan         = 0x1d
	entityInlet       = 0x37
)

// Numbers of the sensors that are not the machine's own: those have 1 and up.
const (
	sensorPowerUnit = 0x40
	sensorACPI      = 0x41
)

// The states of these sensors (table 42-3).
const (
	powerUnitOff = 1 << 0
	acpiWorking  = 1 << 0 // S0/G0
	acpiSoftOff  = 1 << 5 // S5/G2
)

// locatorRecord is the ID of the BMC's own record; those of the sensors follow.
const locatorRecord = 1

// sensorRecord describes the i-th sensor of all.
func sensorRecord(all []machine.Sensor, i int) wire.FullSensor {
	d := all[i]
	r := wire.FullSensor{
		Number: uint8(i + 1), EntityInstance: 1, Reading: wire.ReadingThreshold, Name: d.Name, Scale: scaleOf(d),
		Entity: entityOf(d.Part),
	}
	if d.Part == "fan" {
		for _, o := range all[:i] {
			if o.Part == d.Part {
				r.EntityInstance++
			}
		}
	}
	switch d.Kind {
	case machine.Temperature:
		r.Type, r.Unit = typeTemperature, unitCelsius
	case machine.Fan:
		r.Type, r.Unit = typeFan, unitRPM
	case machine.Voltage:
		r.Type, r.Unit = typeVoltage, unitVolts
	default:
		r.Type, r.Unit = typeOther, unitWatts
	}
	for at, limit := range limitsOf(d) {
		if !math.IsNaN(limit) {
			r.Limits[at] = r.Scale.Raw(limit)
			r.LimitMask |= 1 << at
		}
	}
	return r
}

func entityOf(part string) uint8 {
	switch part {
	case "cpu":
		return entityProcessor
	case "fan":
		return entityFan
	case "inlet":
		return entityInlet
	case "supply":
		return entityPowerSupply
	}
	return entityBoard
}

// limitsOf are a sensor's limits in the order of wire.FullSensor.Limits.
func limitsOf(d machine.Sensor) [6]float64 {
	none := math.NaN()
	return [6]float64{d.LowWarning, d.LowCritical, none, d.HighWarning, d.HighCritical, none}
}

// scaleOf is the finest scale that has room for all of a sensor's values and in
// which its limits are exact; the coarsest that has room if there is none.
func scaleOf(d machine.Sensor) wire.Scale {
	const (
		raw      = 255
		margin   = 1.05 // above the highest limit
		spinning = 9    // a fan's top speed, in multiples of its lower limit
	)
	top := 0.0
	for _, limit := range limitsOf(d) {
		if !math.IsNaN(limit) {
			top = max(top, limit*margin)
		}
	}
	if d.Kind == machine.Fan {
		top = max(top, d.LowWarning*spinning)
	}
	var fits wire.Scale
	for exponent := -4; exponent <= 4; exponent++ {
		for _, m := range [...]int{10, 12, 15, 20, 25, 30, 40, 50, 60, 75} {
			s := wire.Scale{M: m, Exponent: exponent}
			if s.Value(raw) < top {
				continue
			}
			if fits.M == 0 {
				fits = s
			}
			exact := true
			for _, limit := range limitsOf(d) {
				exact = exact && (math.IsNaN(limit) || s.Exact(limit))
			}
			if exact {
				return s
			}
			if s.Value(raw) > 4*top {
				return fits
			}
		}
	}
	return fits
}

// discreteRecords are the sensors of states.
func discreteRecords() []wire.FullSensor {
	return []wire.FullSensor{
		{Number: sensorPowerUnit, Entity: entityPowerUnit, EntityInstance: 1, Type: typePowerUnit, Reading: wire.ReadingSpecific,
			States: powerUnitOff, Name: "Power Unit"},
		{Number: sensorACPI, Entity: entityBoard, EntityInstance: 1, Type: typeACPI, Reading: wire.ReadingSpecific,
			States: acpiWorking | acpiSoftOff, Name: "ACPI State"},
	}
}

// records is the number of sensor data records.
func (s *Server) records() int {
	return locatorRecord + len(s.Machine.Sensors()) + len(discreteRecords())
}

// appendRecord appends the record with that ID, from locatorRecord to records.
func (s *Server) appendRecord(out []byte, id int) []byte {
	if id == locatorRecord {
		return wire.Locator{Record: locatorRecord, Capabilities: deviceSupport, Name: "BMC"}.Append(out)
	}
	all := s.Machine.Sensors()
	i := id - locatorRecord - 1
	var r wire.FullSensor
	if i < len(all) {
		r = sensorRecord(all, i)
	} else {
		r = discreteRecords()[i-len(all)]
	}
	r.Record = uint16(id)
	return r.Append(out)
}

// lastRecord is the ID of the record after the last.
const lastRecord = 0xffff

func getSDRInfo(s *Server, _ *request, out []byte) (code, []byte) {
	const noModes, allocation, reserve = 0x00, 0x01, 0x02
	out = append(out, wire.SDRVersion)
	out = binary.LittleEndian.AppendUint16(out, uint16(s.records()))
	out = append(out, 0, 0, // no room for more
		0, 0, 0, 0, // time of the last addition
		0, 0, 0, 0) // time of the last deletion
	return ok, append(out, noModes|allocation|reserve)
}

func getSDRAllocation(s *Server, _ *request, out []byte) (code, []byte) {
	const unit = 64 // more than any record has
	out = binary.LittleEndian.AppendUint16(out, uint16(s.records()))
	out = binary.LittleEndian.AppendUint16(out, unit)
	return ok, append(out, 0, 0, 0, 0, 1) // none free; a record is one unit
}

// reserveSDR gives a reservation, which nothing ever cancels.
func reserveSDR(_ *Server, _ *request, out []byte) (code, []byte) { return ok, append(out, 1, 0) }

func getSDR(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	id, offset, count := int(binary.LittleEndian.Uint16(d[2:])), int(d[4]), int(d[5])
	last := s.records()
	switch id {
	case 0:
		id = locatorRecord
	case lastRecord:
		id = last
	}
	if id > last {
		return notPresent, out
	}
	next := uint16(id + 1)
	if id == last {
		next = lastRecord
	}
	record := s.appendRecord(make([]byte, 0, 64), id)
	if offset > len(record) {
		return outOfRange, out
	}
	end := min(offset+count, len(record)) // FFh: all of it
	return ok, append(binary.LittleEndian.AppendUint16(out, next), record[offset:end]...)
}

// sensor returns the sensor that a command names.
func (s *Server) sensor(number uint8) (r wire.FullSensor, d machine.Sensor, found bool) {
	all := s.Machine.Sensors()
	if number >= 1 && int(number) <= len(all) {
		return sensorRecord(all, int(number)-1), all[number-1], true
	}
	for _, r := range discreteRecords() {
		if r.Number == number {
			return r, d, true
		}
	}
	return r, d, false
}

func getSensorReading(s *Server, q *request, out []byte) (code, []byte) {
	const scanning, unavailable, reserved = 0x40, 0x20, 0xc0
	r, d, found := s.sensor(q.message.Data[0])
	if !found {
		return notPresent, out
	}
	if r.Reading != wire.ReadingThreshold {
		return s.discreteReading(r, out)
	}
	if !d.Valid {
		return ok, append(out, 0, scanning|unavailable, reserved)
	}
	raw, status := r.Scale.Raw(d.Value), uint8(reserved)
	for at, limit := range r.Limits {
		low := at < wire.UpperNonCritical
		if r.LimitMask&(1<<at) != 0 && (low && raw <= limit || !low && raw >= limit) {
			status |= 1 << at
		}
	}
	return ok, append(out, raw, scanning, status)
}

// discreteReading answers the states of a sensor that follows the power.
func (s *Server) discreteReading(r wire.FullSensor, out []byte) (code, []byte) {
	const scanning, unavailable, reserved = 0x40, 0x20, 0x80
	on, err := s.Machine.On()
	var states uint8
	switch {
	case err != nil:
		return ok, append(out, 0, scanning|unavailable, 0, reserved)
	case r.Number == sensorPowerUnit && !on:
		states = powerUnitOff
	case r.Number == sensorACPI && on:
		states = acpiWorking
	case r.Number == sensorACPI:
		states = acpiSoftOff
	}
	return ok, append(out, 0, scanning, states, reserved)
}

func getSensorThresholds(s *Server, q *request, out []byte) (code, []byte) {
	r, _, found := s.sensor(q.message.Data[0])
	switch {
	case !found:
		return notPresent, out
	case r.Reading != wire.ReadingThreshold:
		return invalidField, out
	}
	return ok, append(append(out, r.LimitMask), r.Limits[:]...)
}

func getSensorType(s *Server, q *request, out []byte) (code, []byte) {
	r, _, found := s.sensor(q.message.Data[0])
	if !found {
		return notPresent, out
	}
	return ok, append(out, r.Type, r.Reading)
}

func getSensorHysteresis(s *Server, q *request, out []byte) (code, []byte) {
	r, _, found := s.sensor(q.message.Data[0])
	switch {
	case !found:
		return notPresent, out
	case r.Reading != wire.ReadingThreshold:
		return invalidField, out
	}
	return ok, append(out, 0, 0)
}

func getSensorFactors(s *Server, q *request, out []byte) (code, []byte) {
	r, _, found := s.sensor(q.message.Data[0])
	switch {
	case !found:
		return notPresent, out
	case r.Reading != wire.ReadingThreshold:
		return invalidField, out
	}
	factors := r.Scale.Factors() // the same for every reading
	return ok, append(append(out, q.message.Data[1]), factors[:]...)
}

// getSensorEventEnable says that sensors are scanned and make no events: those
// in the SEL come from elsewhere.
func getSensorEventEnable(s *Server, q *request, out []byte) (code, []byte) {
	const scanning = 0x40
	if _, _, found := s.sensor(q.message.Data[0]); !found {
		return notPresent, out
	}
	return ok, append(out, scanning, 0, 0, 0, 0)
}

func getSensorEventStatus(s *Server, q *request, out []byte) (code, []byte) {
	return getSensorEventEnable(s, q, out)
}
