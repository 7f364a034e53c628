package ipmi

import (
	"fmt"
	"maps"
	"reflect"
	"time"
)

// keptKey is the key of kept in the machine's memory.
const keptKey = "ipmi"

// kept is what the BMC remembers when it is started again, besides what the
// machine remembers for all protocols. The zero value is that of a new BMC.
type kept struct {
	BootFlagClearing uint8            `json:"boot_flag_clearing,omitempty"` // boot option parameter 3
	IdentifyUntil    time.Time        `json:"identify_until,omitzero"`      // when the light stops to blink
	UTCOffset        *int16           `json:"utc_offset,omitempty"`         // minutes; nil: unspecified
	ControllerID     *string          `json:"controller_id,omitempty"`      // DCMI's; nil: never set
	SOL              *solConfig       `json:"sol,omitempty"`                // nil: as usual
	LAN              map[uint8][]byte `json:"lan,omitempty"`                // parameters that were set
	Info             map[uint8]info   `json:"info,omitempty"`               // system info parameters that were set
}

// recall reads what was kept.
func (s *Server) recall() error {
	s.kept = kept{}
	_, err := s.Machine.Recall(keptKey, &s.kept)
	return err
}

// keep changes what is kept. If it cannot be kept nothing has changed. s.mu is held.
func (s *Server) keep(change func(*kept)) error {
	k := s.kept
	k.LAN, k.Info = maps.Clone(k.LAN), maps.Clone(k.Info)
	change(&k)
	if reflect.DeepEqual(k, s.kept) {
		return nil
	}
	var note any
	if !reflect.ValueOf(k).IsZero() {
		note = k
	}
	if err := s.Machine.Remember(keptKey, note); err != nil {
		return fmt.Errorf("not kept: %w", err)
	}
	s.kept = k
	return nil
}

// timer calls a function once, later, unless it is stopped. The zero value has
// nothing to do. Functions must check that there is still something to do: one
// that is about to be called cannot be stopped.
type timer struct{ t *time.Timer }

func (t *timer) set(d time.Duration, f func()) {
	t.stop()
	t.t = time.AfterFunc(d, f)
}

func (t *timer) stop() {
	if t.t != nil {
		t.t.Stop()
		t.t = nil
	}
}
