package fault

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of the rules of one BMC: what is kept of them stays small.
const (
	MaxRules     = 64
	MaxOperation = 128       // bytes of a Rule's Operation
	MaxDelay     = time.Hour // of a Rule's Latency, Spread and Reset
)

// Rule is a way in which a BMC misbehaves. It strikes the requests that its
// selectors (Protocol, Operation) match, or some of them (Nth, Every), until it
// is used up (Count) or its time is over (Until). What it does then is what the
// rest says; several things can be done at once.
//
// As JSON, durations are in nanoseconds.
type Rule struct {
	ID int `json:"id"` // given by Box.Add, counted from 1, never used twice

	Protocol  string `json:"protocol,omitempty"`  // IPMI, Redfish or SNMP; "": all
	Operation string `json:"operation,omitempty"` // with * and ?, in any case of letters; "": all

	Nth   int       `json:"nth,omitempty"`    // only the n-th request that it matches; 0: all
	Every int       `json:"every,omitempty"`  // only every n-th; 0: all
	Count int       `json:"count,omitempty"`  // how often it strikes; 0: no limit
	Until time.Time `json:"until,omitzero"`   // when it ends; zero: never
	Seen  int       `json:"seen,omitempty"`   // requests that it has matched
	Hits  int       `json:"struck,omitempty"` // requests that it has struck

	Latency time.Duration `json:"latency,omitempty"` // before the answer
	Spread  time.Duration `json:"spread,omitempty"`  // Latency is up to this much more or less, evenly
	Drop    bool          `json:"drop,omitempty"`    // no answer
	Busy    bool          `json:"busy,omitempty"`    // "busy, ask again"
	Error   bool          `json:"error,omitempty"`   // "internal error"
	Deny    bool          `json:"deny,omitempty"`    // log-ins: wrong password
	Pretend bool          `json:"pretend,omitempty"` // acknowledged, and not done

	// Reset restarts the BMC after the request: for this long, it answers
	// nothing, by any protocol. The machine does not notice.
	Reset time.Duration `json:"reset,omitempty"`
}

// Check returns all that is wrong with a rule.
func (r Rule) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch r.Protocol {
	case "", IPMI, Redfish, SNMP:
	default:
		wrong("protocol %q: not %s, %s or %s", r.Protocol, IPMI, Redfish, SNMP)
	}
	if len(r.Operation) > MaxOperation {
		wrong("operation: longer than %d bytes", MaxOperation)
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"nth", r.Nth}, {"every", r.Every}, {"count", r.Count}} {
		if n.n < 0 {
			wrong("%s: %d is not a number of requests", n.name, n.n)
		}
	}
	if r.Nth > 0 && (r.Every > 0 || r.Count > 0) {
		wrong("nth: a rule for one request has no every and no count")
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"latency", r.Latency}, {"spread of latency", r.Spread}, {"reset", r.Reset}} {
		if d.d < 0 || d.d > MaxDelay {
			wrong("%s: %s is not between 0 and %s", d.name, d.d, MaxDelay)
		}
	}
	if r.Spread > r.Latency {
		wrong("latency: a spread of %s is more than the latency itself, %s", r.Spread, r.Latency)
	}
	if r.does() == "" {
		wrong("the rule does nothing: it has no latency, drop, busy, error, deny, pretend, silence or reset")
	}
	return errors.Join(errs...)
}

// String is the rule as a user would type it, with "until" for the end of its
// time: `--protocol ipmi --operation "Chassis Control" --busy --count 5`.
func (r Rule) String() string {
	var w []string
	if r.Protocol != "" {
		w = append(w, "--protocol "+r.Protocol)
	}
	if r.Operation != "" {
		w = append(w, "--operation "+strconv.Quote(r.Operation))
	}
	if d := r.does(); d != "" {
		w = append(w, d)
	}
	for _, n := range []struct {
		flag string
		n    int
	}{{"--nth", r.Nth}, {"--every", r.Every}, {"--count", r.Count}} {
		if n.n > 0 {
			w = append(w, fmt.Sprintf("%s %d", n.flag, n.n))
		}
	}
	if !r.Until.IsZero() {
		w = append(w, "until "+r.Until.Format(time.DateTime))
	}
	return strings.Join(w, " ")
}

// does is the part of String that says what happens; "": nothing.
func (r Rule) does() string {
	var w []string
	switch {
	case r.Latency > 0 && r.Spread > 0:
		w = append(w, fmt.Sprintf("--latency %s±%s", r.Latency, r.Spread))
	case r.Latency > 0:
		w = append(w, fmt.Sprintf("--latency %s", r.Latency))
	}
	for _, f := range []struct {
		set  bool
		flag string
	}{{r.Drop, "--drop"}, {r.Busy, "--busy"}, {r.Error, "--error"}, {r.Deny, "--deny"}, {r.Pretend, "--pretend"}} {
		if f.set {
			w = append(w, f.flag)
		}
	}
	if r.Reset > 0 {
		w = append(w, fmt.Sprintf("--reset %s", r.Reset))
	}
	return strings.Join(w, " ")
}

// matches tells whether r's selectors are right for a request.
func (r *Rule) matches(q Request) bool {
	return (r.Protocol == "" || r.Protocol == q.Protocol) && (r.Operation == "" || glob(r.Operation, q.Operation))
}

// meet notes a request that matches, and tells whether the rule strikes it.
func (r *Rule) meet() bool {
	r.Seen++
	if r.Nth > 0 && r.Seen != r.Nth || r.Every > 0 && r.Seen%r.Every != 0 {
		return false
	}
	r.Hits++
	return true
}

// counts tells whether requests bring the rule nearer to something.
func (r *Rule) counts() bool { return r.Nth > 0 || r.Every > 0 || r.Count > 0 }

// over tells whether the rule will never strike again.
func (r *Rule) over(now time.Time) bool {
	return r.Nth > 0 && r.Seen >= r.Nth || r.Count > 0 && r.Hits >= r.Count || !r.Until.IsZero() && !now.Before(r.Until)
}

// glob tells whether text is what pattern says: * is any text, ? any byte; the
// case of letters does not count. It takes time for the product of the lengths
// at the most.
func glob(pattern, text string) bool {
	pattern, text = strings.ToLower(pattern), strings.ToLower(text)
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0: // let the last star take one byte more
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
