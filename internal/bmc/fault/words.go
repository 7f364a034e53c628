package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Words are a rule as a user types it, one field per flag of the command line;
// the zero value of a field is that of a flag that was not given. Durations are
// Go's: "500ms", "1m30s".
type Words struct {
	Protocol  string // "ipmi", "redfish", "snmp"; in any case of letters
	Operation string // "Chassis Control", "GET *"
	Latency   string // "2s", "2s±500ms", "2s+-500ms"
	Drop      bool
	Busy      bool
	Error     bool
	Deny      bool
	Pretend   bool
	Silence   string // a time: --drop --for in one word
	Reset     string // a time: see Rule.Reset
	Nth       int
	Every     int
	For       string // a time, from now on
	Count     int
}

// Rule is the rule that w says; now is when its time begins. The error is all
// that is wrong with it.
func (w Words) Rule(now time.Time) (Rule, error) {
	r := Rule{
		Protocol: strings.ToLower(w.Protocol), Operation: w.Operation,
		Drop: w.Drop, Busy: w.Busy, Error: w.Error, Deny: w.Deny, Pretend: w.Pretend,
		Nth: w.Nth, Every: w.Every, Count: w.Count,
	}
	var errs []error
	span := func(name, text string) (d time.Duration) {
		if text == "" {
			return 0
		}
		d, err := ParseTime(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			return time.Nanosecond // it was said, though wrong: it is not missing too
		}
		return d
	}
	if w.Latency != "" {
		var err error
		if r.Latency, r.Spread, err = ParseLatency(w.Latency); err != nil {
			errs = append(errs, fmt.Errorf("latency: %w", err))
			r.Latency = time.Nanosecond
		}
	}
	r.Reset = span("reset", w.Reset)
	ends := span("for", w.For)
	if w.Silence != "" {
		if w.For != "" {
			errs = append(errs, errors.New("silence: it says for how long already; leave out for"))
		}
		r.Drop, ends = true, span("silence", w.Silence)
	}
	if ends > 0 {
		r.Until = now.Add(ends)
	}
	errs = append(errs, r.Check())
	if err := errors.Join(errs...); err != nil {
		return Rule{}, err
	}
	return r, nil
}

// ParseTime reads a time above zero: "500ms", "1m30s".
func ParseTime(text string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("%q is not a time such as 500ms or 1m30s", text)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%q is not a time above zero", text)
	}
	return d, nil
}

// ParseLatency reads a time, and how far it may be off: "2s", "2s±500ms",
// "2s+-500ms".
func ParseLatency(text string) (latency, spread time.Duration, err error) {
	middle, off, spreads := strings.Cut(strings.Replace(text, "+-", "±", 1), "±")
	if latency, err = ParseTime(middle); err != nil {
		return 0, 0, err
	}
	if spreads {
		if spread, err = ParseTime(off); err != nil {
			return 0, 0, err
		}
	}
	return latency, spread, nil
}
