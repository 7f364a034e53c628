package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of [Box].
var (
	ErrTooMany = fmt.Errorf("a BMC has at most %d rules", MaxRules)
	ErrNoRule  = errors.New("there is no rule with this number")
)

// Keeper remembers rules; machine.Machine is one.
type Keeper interface {
	Remember(key string, v any) error
	Recall(key string, v any) (bool, error)
}

// Box is the faults of one node, and the trace of what it was asked: the [Gate]
// of all its protocols. The zero value is usable; the exported fields must not be
// changed after the first request. All methods are safe for concurrent use.
type Box struct {
	Keep  Keeper           // remembers the rules; nil: they end with the process
	Now   func() time.Time // nil: time.Now
	Rand  func() float64   // at least 0, less than 1; nil: math/rand/v2
	Log   *slog.Logger     // nil discards
	Trace Trace

	// Restarted, if set, is called when a rule makes the BMC restart: its
	// sessions end. It must not wait, nor call the box.
	Restarted func()

	mu     sync.Mutex
	rules  []Rule
	last   int       // the highest ID given
	silent time.Time // until then the BMC restarts
	dirty  bool      // counters have changed since they were kept
	saving bool      // a goroutine keeps them
	saved  sync.WaitGroup
	order  sync.Mutex // of writes to Keep
}

// memory is what is remembered.
type memory struct {
	Rules  []Rule    `json:"rules,omitempty"`
	Last   int       `json:"last"`
	Silent time.Time `json:"silent,omitzero"`
}

const key = "faults"

// Load reads the rules that Keep has. Call it before the first request.
func (b *Box) Load() error {
	if b.Keep == nil {
		return nil
	}
	var m memory
	if _, err := b.Keep.Recall(key, &m); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules, b.last, b.silent = m.Rules, m.Last, m.Silent
	return nil
}

// Add adds a rule and returns it with its number. Counters of r are not used.
func (b *Box) Add(r Rule) (Rule, error) {
	if err := r.Check(); err != nil {
		return Rule{}, err
	}
	if now := b.now(); !r.Until.IsZero() && !now.Before(r.Until) {
		return Rule{}, errors.New("the rule's time is over already")
	}
	err := b.change(func(rules []Rule) ([]Rule, error) {
		if len(rules) >= MaxRules {
			return nil, ErrTooMany
		}
		r.ID, r.Seen, r.Hits = b.last+1, 0, 0
		b.last = r.ID
		return append(rules, r), nil
	})
	if err != nil {
		return Rule{}, err
	}
	return r, nil
}

// List returns the rules that can still strike, by number.
func (b *Box) List() []Rule {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.rules), func(r Rule) bool { return r.over(now) })
}

// Remove removes a rule; [ErrNoRule] if it is not there.
func (b *Box) Remove(id int) error {
	return b.change(func(rules []Rule) ([]Rule, error) {
		i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("rule %d: %w", id, ErrNoRule)
		}
		return slices.Delete(rules, i, i+1), nil
	})
}

// Clear removes all rules and ends a restart that a rule began. It returns how
// many rules it has removed.
func (b *Box) Clear() (n int, err error) {
	err = b.change(func(rules []Rule) ([]Rule, error) {
		n, b.silent = len(rules), time.Time{}
		return nil, nil
	})
	return n, err
}

// change replaces the rules with what f makes of a copy of those that are not
// over, and keeps them. If that fails, nothing has changed.
func (b *Box) change(f func([]Rule) ([]Rule, error)) error {
	b.order.Lock()
	defer b.order.Unlock()
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	old, last, silent := b.rules, b.last, b.silent
	rules, err := f(slices.DeleteFunc(slices.Clone(old), func(r Rule) bool { return r.over(now) }))
	if err != nil {
		return err
	}
	b.rules = rules
	if err := b.remember(b.memory()); err != nil {
		b.rules, b.last, b.silent = old, last, silent
		return err
	}
	b.dirty = false
	return nil
}

// memory is what is to be remembered; b.mu is held.
func (b *Box) memory() memory { return memory{slices.Clone(b.rules), b.last, b.silent} }

// remember keeps m; b.order is held.
func (b *Box) remember(m memory) error {
	if b.Keep == nil {
		return nil
	}
	if len(m.Rules) == 0 && m.Last == 0 && m.Silent.IsZero() {
		return b.Keep.Remember(key, nil)
	}
	return b.Keep.Remember(key, m)
}

// Enter says what to do with a request; see [Gate].
func (b *Box) Enter(_ context.Context, q Request) Effect {
	now := b.now()
	e, struck, restarts := b.enter(q, now)
	if len(struck) > 0 {
		b.Trace.add(Entry{Time: now, Request: q, Fault: strings.Join(struck, "; ")})
	}
	if restarts && b.Restarted != nil {
		b.Restarted()
	}
	return e
}

// enter also says, in words, what struck, and whether the BMC restarts now.
func (b *Box) enter(q Request, now time.Time) (e Effect, struck []string, restarts bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.silent) {
		return Effect{Drop: true}, []string{"restarting"}, false
	}
	if len(b.rules) == 0 {
		return Effect{}, nil, false
	}
	for i := range b.rules {
		r := &b.rules[i]
		if r.over(now) || !r.matches(q) {
			continue
		}
		hit := r.meet()
		b.dirty = b.dirty || r.counts() || hit && r.Reset > 0
		if !hit {
			continue
		}
		struck = append(struck, fmt.Sprintf("rule %d: %s", r.ID, r.does()))
		e.Delay += b.latency(r)
		e.Drop, e.Busy, e.Fail = e.Drop || r.Drop, e.Busy || r.Busy, e.Fail || r.Error
		e.Deny, e.Pretend = e.Deny || r.Deny, e.Pretend || r.Pretend
		if r.Reset > 0 {
			restarts = true
			b.silent = later(b.silent, now.Add(r.Reset))
		}
	}
	if n := len(b.rules); n > 0 {
		b.rules = slices.DeleteFunc(b.rules, func(r Rule) bool { return r.over(now) })
		b.dirty = b.dirty || len(b.rules) < n
	}
	b.saveSoon()
	return e, struck, restarts
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// latency is that of one request; b.mu is held.
func (b *Box) latency(r *Rule) time.Duration {
	if r.Spread <= 0 {
		return r.Latency
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	return r.Latency + time.Duration((2*random()-1)*float64(r.Spread))
}

// saveSoon has changed counters kept by a goroutine, as requests do not wait for
// a disk; b.mu is held.
func (b *Box) saveSoon() {
	if !b.dirty || b.saving || b.Keep == nil {
		return
	}
	b.saving = true
	b.saved.Go(func() {
		for b.saveOnce() {
		}
	})
}

// saveOnce keeps what there is, and tells whether there was anything.
func (b *Box) saveOnce() bool {
	b.order.Lock()
	defer b.order.Unlock()
	b.mu.Lock()
	if !b.dirty {
		b.saving = false
		b.mu.Unlock()
		return false
	}
	b.dirty = false
	m := b.memory()
	b.mu.Unlock()
	if err := b.remember(m); err != nil && b.Log != nil {
		// Any client can cause it; and the counters go on in memory.
		b.Log.LogAttrs(context.Background(), slog.LevelDebug, "counters of faults not kept", slog.Any("err", err))
	}
	return true
}

// Close returns when counters have been kept.
func (b *Box) Close() { b.saved.Wait() }

// Leave notes what was answered; see [Gate].
func (b *Box) Leave(_ context.Context, q Request, answer string, took time.Duration) {
	b.Trace.add(Entry{Time: b.now(), Request: q, Answer: answer, Took: took})
}

// Silent tells until when the BMC restarts; the zero time if it does not.
func (b *Box) Silent() time.Time {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !now.Before(b.silent) {
		return time.Time{}
	}
	return b.silent
}

func (b *Box) now() time.Time {
	if b.Now == nil {
		return time.Now()
	}
	return b.Now()
}
