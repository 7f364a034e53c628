package machine

import (
	"hash/fnv"
	"math"
	"time"
)

// SensorKind is what a sensor measures.
type SensorKind string

// The kinds of sensors, with the units of their values.
const (
	Temperature SensorKind = "temperature" // degrees Celsius
	Fan         SensorKind = "fan"         // revolutions per minute
	Voltage     SensorKind = "voltage"     // volts
	Wattage     SensorKind = "power"       // watts
)

// Sensor is a sensor and what it measures now.
type Sensor struct {
	Name  string
	Kind  SensorKind
	Part  string // what it is in: "cpu", "board", "inlet", "fan", "supply"
	Valid bool   // a value can be had: most sensors need a machine that is on
	Value float64

	// Limits, from low to high; NaN: there is none.
	LowCritical, LowWarning, HighWarning, HighCritical float64
}

// model is a sensor of the model: it rests at off and moves around on.
type model struct {
	name       string
	kind       SensorKind
	part       string
	whileOff   bool    // it has a value while the machine is off
	off, on    float64 // the value at rest, and that of a running machine
	spread     float64 // how far machines differ from each other, and over time
	lowC, lowW float64
	hiW, hiC   float64
}

var none = math.NaN()

// models are the sensors of every machine. Their values are made up, from the
// machine's UUID, its power and the time; IPMI, Redfish and the PDU tell the same.
func models() [9]model {
	return [9]model{
		{"Inlet Temp", Temperature, "inlet", true, 22, 24, 2, none, none, 42, 47},
		{"CPU Temp", Temperature, "cpu", false, 0, 52, 8, none, none, 88, 95},
		{"Board Temp", Temperature, "board", true, 25, 34, 3, none, none, 70, 75},
		{"Fan 1", Fan, "fan", false, 0, 5400, 500, 600, 840, none, none},
		{"Fan 2", Fan, "fan", false, 0, 5400, 500, 600, 840, none, none},
		{"12V", Voltage, "board", false, 0, 12.1, 0.1, 10.8, 11.2, 12.9, 13.3},
		{"5V", Voltage, "board", false, 0, 5.02, 0.05, 4.5, 4.7, 5.3, 5.5},
		{"3.3V Standby", Voltage, "board", true, 3.31, 3.31, 0.03, 3.0, 3.1, 3.5, 3.6},
		{"Power", Wattage, "supply", true, 9, 145, 30, none, none, 450, 480},
	}
}

// Sensors are the machine's sensors, always in the same order. While it is not
// known whether the machine is on, those that depend on it have no value.
func (m *Machine) Sensors() []Sensor {
	on, err := m.On()
	all := models()
	sensors := make([]Sensor, len(all))
	for i, d := range all {
		s := Sensor{
			Name: d.name, Kind: d.kind, Part: d.part, Valid: err == nil && (on || d.whileOff),
			LowCritical: d.lowC, LowWarning: d.lowW, HighWarning: d.hiW, HighCritical: d.hiC,
		}
		if s.Valid {
			rest, swing := d.on, d.spread
			if !on {
				rest, swing = d.off, d.spread/10
			}
			s.Value = rest + swing*m.wave(d.name, time.Now())
		}
		sensors[i] = s
	}
	return sensors
}

// Watts is what the machine draws from its supply; 0 if that is not known.
func (m *Machine) Watts() float64 {
	for _, s := range m.Sensors() {
		if s.Kind == Wattage && s.Valid {
			return s.Value
		}
	}
	return 0
}

// wave is between -1 and 1, different for every machine and sensor, and moves
// slowly: a full turn takes about ten minutes.
func (m *Machine) wave(name string, now time.Time) float64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(m.Identity.UUID + name))
	phase := float64(h.Sum32()%1000) / 1000
	turn := float64(now.UnixMilli()%600_000) / 600_000
	return 0.6*(2*phase-1) + 0.4*math.Sin(2*math.Pi*(turn+phase))
}
