package machine

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"time"
)

// Memory is what a Machine remembers while nobody runs it.
type Memory struct {
	Override   *Boot                      `json:"override,omitempty"`   // nil: none set
	ValidUntil time.Time                  `json:"valid_until,omitzero"` // of Override; zero: for ever
	Settings   Settings                   `json:"settings,omitzero"`
	Notes      map[string]json.RawMessage `json:"notes,omitempty"` // see Machine.Remember
}

// IsZero tells whether there is nothing to remember.
func (m Memory) IsZero() bool { return reflect.ValueOf(m).IsZero() }

// Store keeps a Machine's memory. Save returns when it is safe.
type Store interface {
	Load() (Memory, error)
	Save(Memory) error
}

// Settings are what clients of any protocol may set on a machine. The zero
// value is that of a new machine.
type Settings struct {
	AssetTag    string        `json:"asset_tag,omitempty"`
	HostName    string        `json:"host_name,omitempty"` // as its operating system has told the BMC
	Indicator   Indicator     `json:"indicator,omitempty"`
	Policy      Policy        `json:"policy,omitempty"`
	ClockOffset time.Duration `json:"clock_offset,omitempty"` // what the BMC's clock is ahead of its host's
	HTTPBootURI string        `json:"http_boot_uri,omitempty"`

	// Firmware is what the firmware becomes when the machine is next booted;
	// nil: it stays what it is.
	Firmware *Firmware `json:"firmware,omitempty"`

	LastStart time.Time     `json:"last_start,omitzero"` // when it was last switched on
	LastCause Cause         `json:"last_cause,omitempty"`
	OnTime    time.Duration `json:"on_time,omitempty"` // spent switched on, up to LastStart
}

// Indicator is the state of a machine's identification light.
type Indicator string

// States of the light. The zero value is off.
const (
	IndicatorOff      Indicator = ""
	IndicatorLit      Indicator = "lit"
	IndicatorBlinking Indicator = "blinking"
)

// Policy is what a machine does when its power supply comes back. Nothing ever
// takes it away, so a policy is kept and has no effect.
type Policy string

// The policies. The zero value stays off.
const (
	PolicyOff      Policy = ""
	PolicyPrevious Policy = "previous"
	PolicyOn       Policy = "on"
)

// Cause is why a machine was last started.
type Cause string

// The causes. The zero value is not known.
const (
	CauseUnknown  Cause = ""
	CauseCommand  Cause = "command"  // a BMC's client
	CauseOutside  Cause = "outside"  // somebody else, on the machine's host
	CauseWatchdog Cause = "watchdog" // the BMC's watchdog timer
)

// Settings returns what has been set.
func (m *Machine) Settings() Settings {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory.Settings.clone()
}

// clone returns settings that share nothing with s.
func (s Settings) clone() Settings {
	if s.Firmware != nil {
		f := *s.Firmware
		s.Firmware = &f
	}
	return s
}

// ChangeSettings calls change with the settings and keeps what it leaves. If it
// cannot be kept, nothing has changed. change must not call m.
func (m *Machine) ChangeSettings(change func(*Settings)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	mem := m.memory
	mem.Settings = mem.Settings.clone()
	change(&mem.Settings)
	mem.Settings = mem.Settings.clone() // what change has put in is the caller's
	return m.remember(mem)
}

// Remember keeps a protocol's own value under a key that begins with the
// protocol's name ("ipmi.users"); nil forgets it. v is kept as JSON.
func (m *Machine) Remember(key string, v any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	mem := m.memory
	mem.Notes = maps.Clone(mem.Notes)
	if v == nil {
		delete(mem.Notes, key)
	} else {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("machine %s: %s: %w", m.Identity.Name, key, err)
		}
		if mem.Notes == nil {
			mem.Notes = make(map[string]json.RawMessage, 1)
		}
		mem.Notes[key] = text
	}
	if len(mem.Notes) == 0 {
		mem.Notes = nil
	}
	return m.remember(mem)
}

// Recall reads what [Machine.Remember] has kept into v, and tells whether there
// was anything.
func (m *Machine) Recall(key string, v any) (bool, error) {
	m.mu.Lock()
	text, there := m.memory.Notes[key]
	m.mu.Unlock()
	if !there {
		return false, nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return false, fmt.Errorf("machine %s: %s: %w", m.Identity.Name, key, err)
	}
	return true, nil
}

// remember replaces the memory; m.mu is held.
func (m *Machine) remember(mem Memory) error {
	if err := m.store.Save(mem); err != nil {
		return fmt.Errorf("machine %s: %w", m.Identity.Name, err)
	}
	m.memory = mem
	return nil
}

// Now is the time by the BMC's own clock.
func (m *Machine) Now() time.Time { return time.Now().Add(m.Settings().ClockOffset) }

// SetClock sets the BMC's clock; the host's stays what it is.
func (m *Machine) SetClock(now time.Time) error {
	offset := time.Until(now)
	return m.ChangeSettings(func(s *Settings) { s.ClockOffset = offset })
}

// OnTime is how long the machine has been on in all, as far as its BMC knows.
func (m *Machine) OnTime() time.Duration {
	s := m.Settings()
	if on, err := m.On(); err == nil && on && !s.LastStart.IsZero() {
		return s.OnTime + time.Since(s.LastStart)
	}
	return s.OnTime
}
