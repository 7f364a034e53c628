package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/bmc/fault"
)

// keeper remembers in memory.
type keeper struct {
	mu    sync.Mutex
	notes map[string]string
	fail  error
}

func (k *keeper) Remember(key string, v any) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	if v == nil {
		delete(k.notes, key)
		return nil
	}
	text, err := json.Marshal(v)
	if k.notes == nil {
		k.notes = make(map[string]string)
	}
	k.notes[key] = string(text)
	return err
}

func (k *keeper) Recall(key string, v any) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text, there := k.notes[key]
	if !there {
		return false, nil
	}
	return true, json.Unmarshal([]byte(text), v)
}

// clock is moved by hand.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newBox(rules ...fault.Rule) (*fault.Box, *clock) {
	c := &clock{start}
	b := &fault.Box{Now: c.Now}
	for _, r := range rules {
		if _, err := b.Add(r); err != nil {
			panic(err)
		}
	}
	return b, c
}

var status = fault.Request{Protocol: fault.IPMI, Operation: "Get Chassis Status", From: "127.0.0.1:4711"}

func ask(b *fault.Box, protocol, operation string) fault.Effect {
	return b.Enter(context.Background(), fault.Request{Protocol: protocol, Operation: operation})
}

func TestNoRules(t *testing.T) {
	var b fault.Box
	if e := b.Enter(context.Background(), status); e != (fault.Effect{}) {
		t.Errorf("%+v", e)
	}
	if got := b.Trace.Recent(); len(got) != 0 {
		t.Errorf("a request without an answer is in the trace: %v", got)
	}
}

func TestEffects(t *testing.T) {
	for flag, want := range map[string]fault.Effect{
		"latency": {Delay: 2 * time.Second}, "drop": {Drop: true}, "busy": {Busy: true},
		"error": {Fail: true}, "deny": {Deny: true}, "pretend": {Pretend: true},
	} {
		var w fault.Words
		switch flag {
		case "latency":
			w.Latency = "2s"
		case "drop":
			w.Drop = true
		case "busy":
			w.Busy = true
		case "error":
			w.Error = true
		case "deny":
			w.Deny = true
		case "pretend":
			w.Pretend = true
		}
		r, err := w.Rule(start)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := newBox(r)
		if e := b.Enter(context.Background(), status); e != want {
			t.Errorf("%s: %+v, want %+v", flag, e, want)
		}
	}
}

func TestSelectors(t *testing.T) {
	for _, tt := range []struct {
		protocol, operation string // of the rule
		askProtocol, ask    string
		want                bool
	}{
		{"", "", "ipmi", "Chassis Control", true},
		{"ipmi", "", "redfish", "GET /redfish/v1", false},
		{"ipmi", "chassis control", "ipmi", "Chassis Control", true},
		{"ipmi", "Chassis*", "ipmi", "Chassis Control", true},
		{"", "*Chassis*", "ipmi", "Get Chassis Status", true},
		{"", "GET *", "redfish", "GET /redfish/v1/Systems", true},
		{"", "GET *", "redfish", "POST /redfish/v1/Systems", false},
		{"", "Chassis Control", "ipmi", "Chassis Control Extra", false},
		{"", "?hassis Control", "ipmi", "Chassis Control", true},
		{"", "*a*b*c", "ipmi", "xxaxxbxxaxxbxxc", true},
		{"", "*a*b*c", "ipmi", "xxaxxbxxaxxbxx", false},
		{"", "**", "ipmi", "", true},
		{"", "?", "ipmi", "", false},
	} {
		b, _ := newBox(fault.Rule{Protocol: tt.protocol, Operation: tt.operation, Drop: true})
		if got := ask(b, tt.askProtocol, tt.ask).Drop; got != tt.want {
			t.Errorf("rule %q %q, request %q %q: %t", tt.protocol, tt.operation, tt.askProtocol, tt.ask, got)
		}
	}
}

// TestGlobIsBounded: a pattern that a naive matcher takes exponential time for.
func TestGlobIsBounded(t *testing.T) {
	b, _ := newBox(fault.Rule{Operation: strings.Repeat("*a", 60) + "b", Drop: true})
	began := time.Now()
	if ask(b, "ipmi", strings.Repeat("a", 2000)).Drop {
		t.Error("matches")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestNthEveryCount(t *testing.T) {
	for name, tt := range map[string]struct {
		r    fault.Rule
		want string // one letter per request: x is struck
		left int    // rules afterwards
	}{
		"all":         {fault.Rule{Busy: true}, "xxxxxx", 1},
		"nth":         {fault.Rule{Busy: true, Nth: 3}, "..x...", 0},
		"every":       {fault.Rule{Busy: true, Every: 2}, ".x.x.x", 1},
		"count":       {fault.Rule{Busy: true, Count: 2}, "xx....", 0},
		"every count": {fault.Rule{Busy: true, Every: 2, Count: 2}, ".x.x..", 0},
	} {
		r := tt.r
		r.Protocol = fault.IPMI
		b, _ := newBox(r)
		var got strings.Builder
		for range 6 {
			ask(b, "redfish", "GET other") // does not count
			if b.Enter(context.Background(), status).Busy {
				got.WriteByte('x')
			} else {
				got.WriteByte('.')
			}
		}
		if got.String() != tt.want || len(b.List()) != tt.left {
			t.Errorf("%s: %s and %d rules left, want %s and %d", name, &got, len(b.List()), tt.want, tt.left)
		}
	}
}

func TestUntil(t *testing.T) {
	b, c := newBox(fault.Rule{Drop: true, Until: start.Add(time.Minute)})
	c.now = start.Add(time.Minute - 1)
	if !ask(b, "ipmi", "x").Drop || len(b.List()) != 1 {
		t.Error("over too early")
	}
	c.now = start.Add(time.Minute)
	if len(b.List()) != 0 || ask(b, "ipmi", "x").Drop {
		t.Error("not over")
	}
	if _, err := b.Add(fault.Rule{Drop: true, Until: c.now}); err == nil {
		t.Error("a rule whose time is over was added")
	}
}

func TestSpread(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 1500 * time.Millisecond, 0.5: 2 * time.Second, 0.75: 2250 * time.Millisecond} {
		b, _ := newBox(fault.Rule{Latency: 2 * time.Second, Spread: 500 * time.Millisecond})
		b.Rand = func() float64 { return random }
		if got := ask(b, "ipmi", "x").Delay; got != want {
			t.Errorf("random %g: %v, want %v", random, got, want)
		}
	}
}

func TestRulesAddUp(t *testing.T) {
	b, _ := newBox(fault.Rule{Latency: time.Second}, fault.Rule{Latency: 2 * time.Second, Busy: true}, fault.Rule{Protocol: fault.SNMP, Drop: true})
	want := fault.Effect{Delay: 3 * time.Second, Busy: true}
	if got := ask(b, "ipmi", "x"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestReset(t *testing.T) {
	b, c := newBox(fault.Rule{Operation: "Cold Reset", Reset: time.Minute, Count: 1})
	restarted := 0
	b.Restarted = func() { restarted++ }
	if e := ask(b, "ipmi", "x"); e.Drop {
		t.Error("silent before the reset")
	}
	if e := ask(b, "ipmi", "Cold Reset"); e.Drop {
		t.Error("the request that resets is not answered")
	}
	c.now = start.Add(time.Minute - 1)
	for _, p := range []string{fault.IPMI, fault.Redfish, fault.SNMP} {
		if !ask(b, p, "x").Drop {
			t.Errorf("%s is answered while the BMC restarts", p)
		}
	}
	if got := b.Silent(); !got.Equal(start.Add(time.Minute)) {
		t.Errorf("silent until %v", got)
	}
	c.now = start.Add(time.Minute)
	if ask(b, "ipmi", "x").Drop || !b.Silent().IsZero() {
		t.Error("still silent")
	}
	if restarted != 1 {
		t.Errorf("Restarted called %d times", restarted)
	}
}

func TestAddListRemove(t *testing.T) {
	b, _ := newBox(fault.Rule{Drop: true, ID: 77, Seen: 5, Hits: 5}, fault.Rule{Busy: true})
	want := []fault.Rule{{ID: 1, Drop: true}, {ID: 2, Busy: true}}
	if diff := cmp.Diff(want, b.List()); diff != "" {
		t.Error(diff)
	}
	if err := b.Remove(2); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(2); !errors.Is(err, fault.ErrNoRule) {
		t.Errorf("Remove again: %v", err)
	}
	if r, err := b.Add(fault.Rule{Busy: true}); err != nil || r.ID != 3 {
		t.Errorf("number %d is used twice (%v)", r.ID, err)
	}
	if _, err := b.Add(fault.Rule{}); err == nil {
		t.Error("a rule that does nothing was added")
	}
	if n, err := b.Clear(); n != 2 || err != nil || len(b.List()) != 0 {
		t.Errorf("Clear: %d, %v", n, err)
	}
	for range fault.MaxRules {
		if _, err := b.Add(fault.Rule{Drop: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Add(fault.Rule{Drop: true}); !errors.Is(err, fault.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
}

func TestKept(t *testing.T) {
	k, c := new(keeper), &clock{start}
	b := &fault.Box{Keep: k, Now: c.Now}
	if err := b.Load(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []fault.Rule{{Busy: true, Count: 3}, {Operation: "Cold Reset", Reset: time.Minute}} {
		if _, err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	ask(b, "ipmi", "x")
	ask(b, "ipmi", "Cold Reset")
	b.Close()

	again := &fault.Box{Keep: k, Now: c.Now}
	if err := again.Load(); err != nil {
		t.Fatal(err)
	}
	want := []fault.Rule{{ID: 1, Busy: true, Count: 3, Seen: 2, Hits: 2}, {ID: 2, Operation: "Cold Reset", Reset: time.Minute, Seen: 1, Hits: 1}}
	if diff := cmp.Diff(want, again.List()); diff != "" {
		t.Error(diff)
	}
	if !ask(again, "ipmi", "x").Drop {
		t.Error("the restart that was under way is forgotten")
	}
	c.now = start.Add(time.Hour)
	if !ask(again, "ipmi", "x").Busy || ask(again, "ipmi", "x").Busy {
		t.Error("the count is not kept")
	}
	again.Close()
	if r, err := again.Add(fault.Rule{Drop: true}); err != nil || r.ID != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNotKept(t *testing.T) {
	k := new(keeper)
	b := &fault.Box{Keep: k}
	if _, err := b.Add(fault.Rule{Drop: true}); err != nil {
		t.Fatal(err)
	}
	k.fail = errors.New("disk full")
	if _, err := b.Add(fault.Rule{Busy: true}); !errors.Is(err, k.fail) {
		t.Errorf("Add: %v", err)
	}
	if err := b.Remove(1); !errors.Is(err, k.fail) {
		t.Errorf("Remove: %v", err)
	}
	if got := b.List(); len(got) != 1 || got[0].ID != 1 {
		t.Errorf("%+v", got)
	}
	bad := &fault.Box{Keep: &keeper{notes: map[string]string{"faults": "["}}}
	if err := bad.Load(); err == nil {
		t.Error("a memory that cannot be read is no error")
	}
}

// TestConcurrent is for the race detector: counts are exact.
func TestConcurrent(t *testing.T) {
	b := &fault.Box{Keep: new(keeper)}
	if _, err := b.Add(fault.Rule{Busy: true, Count: 50}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	busy := 0
	for range 4 {
		wg.Go(func() {
			for range 50 {
				e := b.Enter(context.Background(), status)
				b.Leave(context.Background(), status, "OK", time.Millisecond)
				if e.Busy {
					mu.Lock()
					busy++
					mu.Unlock()
				}
				b.List()
			}
		})
	}
	wg.Wait()
	b.Close()
	if busy != 50 {
		t.Errorf("struck %d times, want 50", busy)
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		w    fault.Words
		want fault.Rule
		text string
	}{
		{fault.Words{Protocol: "IPMI", Operation: "Chassis Control", Latency: "2s±500ms"},
			fault.Rule{Protocol: "ipmi", Operation: "Chassis Control", Latency: 2 * time.Second, Spread: 500 * time.Millisecond},
			`--protocol ipmi --operation "Chassis Control" --latency 2s±500ms`},
		{fault.Words{Latency: "2s+-500ms", Count: 5},
			fault.Rule{Latency: 2 * time.Second, Spread: 500 * time.Millisecond, Count: 5}, `--latency 2s±500ms --count 5`},
		{fault.Words{Error: true, Nth: 3}, fault.Rule{Error: true, Nth: 3}, `--error --nth 3`},
		{fault.Words{Silence: "30s"}, fault.Rule{Drop: true, Until: start.Add(30 * time.Second)}, `--drop until 2026-03-01 12:00:30`},
		{fault.Words{Drop: true, For: "1m"}, fault.Rule{Drop: true, Until: start.Add(time.Minute)}, `--drop until 2026-03-01 12:01:00`},
		{fault.Words{Reset: "1m", Every: 2, Pretend: true, Deny: true, Busy: true},
			fault.Rule{Reset: time.Minute, Every: 2, Pretend: true, Deny: true, Busy: true}, `--busy --deny --pretend --reset 1m0s --every 2`},
	} {
		r, err := tt.w.Rule(start)
		if err != nil {
			t.Errorf("%+v: %v", tt.w, err)
			continue
		}
		if diff := cmp.Diff(tt.want, r); diff != "" {
			t.Errorf("%+v: %s", tt.w, diff)
		}
		if r.String() != tt.text {
			t.Errorf("%s, want %s", r, tt.text)
		}
		// The control socket's form says the same.
		text, err := json.Marshal(r)
		var again fault.Rule
		if err := errors.Join(err, json.Unmarshal(text, &again)); err != nil || !cmp.Equal(r, again) {
			t.Errorf("%s: %v %s", text, err, cmp.Diff(r, again))
		}
	}
}

// TestWordsErrors: all mistakes are named at once, each once.
func TestWordsErrors(t *testing.T) {
	w := fault.Words{Protocol: "telnet", Latency: "soon", Reset: "-1s", For: "5", Silence: "1s", Nth: 2, Every: -1, Count: 3}
	_, err := w.Rule(start)
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`latency: "soon" is not a time such as 500ms or 1m30s`,
		`reset: "-1s" is not a time above zero`,
		`for: "5" is not a time such as 500ms or 1m30s`,
		"silence: it says for how long already; leave out for",
		`protocol "telnet": not ipmi, redfish or snmp`,
		"every: -1 is not a number of requests",
		"nth: a rule for one request has no every and no count",
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
	for text, w := range map[string]fault.Words{
		"the rule does nothing":    {Operation: "x", Count: 1},
		"more than the latency":    {Latency: "1s±2s"},
		"is not between 0 and 1h0": {Latency: "2h"},
		"longer than 128 bytes":    {Drop: true, Operation: strings.Repeat("x", 129)},
		`"" is not a time`:         {Latency: "1s±"},
	} {
		if _, err := w.Rule(start); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", w, err, text)
		}
	}
}

func TestTraceRing(t *testing.T) {
	b, c := newBox()
	for i := range 250 {
		c.now = start.Add(time.Duration(i) * time.Second)
		b.Leave(context.Background(), status, "OK", time.Millisecond)
	}
	got := b.Trace.Recent()
	if len(got) != 100 || !got[0].Time.Equal(start.Add(150*time.Second)) || !got[99].Time.Equal(start.Add(249*time.Second)) {
		t.Errorf("%d entries", len(got))
	}
	if !slices.IsSortedFunc(got, func(a, b fault.Entry) int { return a.Time.Compare(b.Time) }) {
		t.Error("not in order")
	}
	few := fault.Box{Trace: fault.Trace{Keep: -1}}
	few.Leave(context.Background(), status, "OK", 0)
	if len(few.Trace.Recent()) != 0 {
		t.Error("kept although nothing was to be kept")
	}
}

func TestTraceTextsAreBounded(t *testing.T) {
	b, _ := newBox()
	long := strings.Repeat("ä", 5000)
	b.Leave(context.Background(), fault.Request{Operation: long, Detail: long}, long, 0)
	e := b.Trace.Recent()[0]
	for _, text := range []string{e.Request.Operation, e.Request.Detail, e.Answer} {
		if len(text) > fault.TraceText+len("…") || !strings.HasSuffix(text, "ä…") {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
}

func TestFollow(t *testing.T) {
	b, _ := newBox(fault.Rule{Operation: "Chassis Control", Drop: true})
	ctx := context.Background()
	b.Leave(ctx, status, "before", 0)
	past, entries, stop := b.Trace.Follow()
	if len(past) != 1 || past[0].Answer != "before" {
		t.Errorf("past: %v", past)
	}
	ask(b, "ipmi", "Chassis Control")
	b.Leave(ctx, status, "after", time.Millisecond)
	if e := <-entries; e.Fault != "rule 1: --drop" || e.Answer != "" {
		t.Errorf("%+v", e)
	}
	if e := <-entries; e.Answer != "after" || e.Fault != "" {
		t.Errorf("%+v", e)
	}
	for range fault.TraceBacklog + 7 { // nobody reads
		b.Leave(ctx, status, "more", 0)
	}
	for range fault.TraceBacklog {
		if e := <-entries; e.Lost != 0 {
			t.Fatalf("%+v", e)
		}
	}
	b.Leave(ctx, status, "last", 0)
	if e := <-entries; e.Answer != "last" || e.Lost != 7 {
		t.Errorf("%+v, want 7 lost", e)
	}
	stop()
	stop()
	if _, open := <-entries; open {
		t.Error("not closed")
	}
	b.Leave(ctx, status, "nobody follows", 0)
}

func TestEntryString(t *testing.T) {
	e := fault.Entry{Time: start, Request: fault.Request{Protocol: "ipmi", Operation: "Chassis\x1b[2J", From: "127.0.0.1:1", Detail: "01"}, Answer: "OK", Took: 1500 * time.Microsecond}
	if got, want := e.String(), "12:00:00.000 ipmi    127.0.0.1:1 Chassis?[2J (01) → OK, 1.5ms"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	e = fault.Entry{Time: start, Request: status, Fault: "rule 1: --drop", Lost: 2}
	if got, want := e.String(), "12:00:00.000 ipmi    127.0.0.1:4711 Get Chassis Status ! rule 1: --drop [2 before this one were lost]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	text, err := json.Marshal(e)
	if want := `{"time":"2026-03-01T12:00:00Z","request":{"protocol":"ipmi","operation":"Get Chassis Status","from":"127.0.0.1:4711"},"fault":"rule 1: --drop","lost":2}`; string(text) != want || err != nil {
		t.Errorf("%s, want %s", text, want)
	}
}
