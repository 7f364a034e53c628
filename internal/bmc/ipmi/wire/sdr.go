package wire

import (
	"encoding/binary"
	"math"
)

// Types of sensor data records (§43).
const (
	SDRFull     uint8 = 0x01
	SDRLocator  uint8 = 0x12 // management controller device locator
	SDRVersion  uint8 = 0x51 // of records, and of the SDR and SEL commands
	sdrNameMax        = 16
	sdrLatin1         = 0xc0 // type code of 8-bit text (§43.15)
	sensorOwner       = AddressBMC
)

// Thresholds are in the order of masks and answers (§35.8, §35.9): lower
// non-critical, critical, non-recoverable, and upper likewise.
const (
	LowerNonCritical = iota
	LowerCritical
	LowerNonRecoverable
	UpperNonCritical
	UpperCritical
	UpperNonRecoverable
	thresholds
)

// Sensor types (table 42-3) and event/reading types (table 42-1).
const (
	ReadingThreshold uint8 = 0x01
	ReadingSpecific  uint8 = 0x6f // the offsets are the sensor type's own
)

// FullSensor is a full sensor record of the BMC's own sensor (§43.1, table
// 43-1) that makes no events, and whose limits can be read and not changed.
type FullSensor struct {
	Record         uint16
	Number         uint8
	Entity         uint8 // table 43-13
	EntityInstance uint8
	Type           uint8 // table 42-3
	Reading        uint8 // table 42-1
	Unit           uint8 // table 43-15; 0: none
	Name           string

	// Scale turns raw readings into values; of sensors with thresholds only.
	Scale Scale
	// Limits are raw; a limit is there if its bit in LimitMask is set (bit
	// 0: LowerNonCritical).
	Limits    [thresholds]uint8
	LimitMask uint8

	States uint16 // of a discrete sensor: the states that it can have
}

// Scale turns raw readings into values: value = raw × M × 10^Exponent (§36.3,
// with B = 0).
type Scale struct {
	M        int // 1 to 511
	Exponent int // -8 to 7
}

// Value is what a raw reading means.
func (s Scale) Value(raw uint8) float64 {
	return float64(raw) * float64(s.M) * math.Pow10(s.Exponent)
}

// Raw is the reading that is nearest to value.
func (s Scale) Raw(value float64) uint8 {
	step := float64(s.M) * math.Pow10(s.Exponent)
	return uint8(min(max(math.Round(value/step), 0), 255))
}

// Exact tells whether value has a raw reading of its own.
func (s Scale) Exact(value float64) bool {
	return math.Abs(s.Value(s.Raw(value))-value) < 1e-6*max(1, math.Abs(value))
}

// Factors are the bytes of table 43-1, 25 to 30: M, B, accuracy and exponents.
func (s Scale) Factors() [6]uint8 {
	return [6]uint8{uint8(s.M), uint8(s.M>>8) << 6, 0, 0, 0, uint8(s.Exponent) << 4}
}

// Append appends the record to dst.
func (f FullSensor) Append(dst []byte) []byte {
	const (
		initialized  = 0x41 // scanning is on after power-up (bits 6 and 0); no events
		rearm        = 0x40
		readLimits   = 0x04
		noEvents     = 0x03
		maxima       = 255
		comparisonAt = 12 // bits that say which comparisons a reading has
	)
	start := len(dst)
	dst = binary.LittleEndian.AppendUint16(dst, f.Record)
	dst = append(dst, SDRVersion, SDRFull, 0, sensorOwner, 0, f.Number, f.Entity, f.EntityInstance, initialized)
	if f.Reading == ReadingThreshold {
		dst = append(dst, rearm|readLimits|noEvents, f.Type, f.Reading)
		low, high := uint16(f.LimitMask&0x07), uint16(f.LimitMask>>3)
		dst = binary.LittleEndian.AppendUint16(dst, low<<comparisonAt)
		dst = binary.LittleEndian.AppendUint16(dst, high<<comparisonAt)
		dst = append(dst, f.LimitMask, 0)
	} else {
		dst = append(dst, rearm|noEvents, f.Type, f.Reading)
		dst = append(dst, 0, 0, 0, 0)
		dst = binary.LittleEndian.AppendUint16(dst, f.States)
	}
	const notAnalog = 0xc0
	units, top := uint8(0), uint8(maxima)
	if f.Reading != ReadingThreshold {
		units, top = notAnalog, 0
	}
	dst = append(dst, units, f.Unit, 0, 0)
	factors := f.Scale.Factors()
	dst = append(dst, factors[:]...)
	dst = append(dst, 0, 0, 0, 0, top, 0) // nominal and normal readings: not specified; range
	l := f.Limits
	dst = append(dst, l[UpperNonRecoverable], l[UpperCritical], l[UpperNonCritical],
		l[LowerNonRecoverable], l[LowerCritical], l[LowerNonCritical])
	dst = append(dst, 0, 0, 0, 0, 0) // hysteresis, reserved, OEM
	return finishSDR(appendName(dst, f.Name), start)
}

// Locator is the record that says what a BMC is (§43.9, table 43-8).
type Locator struct {
	Record       uint16
	Capabilities uint8 // as in Get Device ID, "additional device support"
	Name         string
}

// Append appends the record to dst.
func (l Locator) Append(dst []byte) []byte {
	const managementModule, instance = 0x06, 0x01 // entity (table 43-13)
	start := len(dst)
	dst = binary.LittleEndian.AppendUint16(dst, l.Record)
	dst = append(dst, SDRVersion, SDRLocator, 0, AddressBMC, 0, 0, l.Capabilities, 0, 0, 0, managementModule, instance, 0)
	return finishSDR(appendName(dst, l.Name), start)
}

func appendName(dst []byte, name string) []byte {
	if len(name) > sdrNameMax {
		name = name[:sdrNameMax]
	}
	return append(append(dst, sdrLatin1|uint8(len(name))), name...)
}

// finishSDR sets the length of the record that begins at start.
func finishSDR(dst []byte, start int) []byte {
	const header, lengthAt = 5, 4
	dst[start+lengthAt] = uint8(len(dst) - start - header)
	return dst
}
