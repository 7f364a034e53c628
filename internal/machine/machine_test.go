package machine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// hardware is a computer in memory.
type hardware struct {
	mu      sync.Mutex
	on      bool
	unknown error
	fail    error                 // of every change
	during  func(context.Context) // called while a change is under way
	boots   []machine.Boot
	done    []string
}

func (h *hardware) On() (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on, h.unknown
}

func (h *hardware) change(ctx context.Context, what string, on bool) error {
	if h.during != nil {
		h.during(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = append(h.done, what)
	if h.fail != nil {
		return h.fail
	}
	h.on = on
	return nil
}

func (h *hardware) Start(ctx context.Context, b machine.Boot) error {
	h.boots = append(h.boots, b)
	return h.change(ctx, "start", true)
}

func (h *hardware) Reset(ctx context.Context, b machine.Boot) error {
	h.boots = append(h.boots, b)
	return h.change(ctx, "reset", true)
}
func (h *hardware) Stop(ctx context.Context) error      { return h.change(ctx, "stop", false) }
func (h *hardware) Shutdown(ctx context.Context) error  { return h.change(ctx, "shutdown", true) }
func (h *hardware) Interrupt(ctx context.Context) error { return h.change(ctx, "interrupt", true) }

// store keeps memory in memory.
type store struct {
	mem   machine.Memory
	fail  error
	saves int
}

func (s *store) Load() (machine.Memory, error) { return s.mem, s.fail }

func (s *store) Save(m machine.Memory) error {
	if s.fail != nil {
		return s.fail
	}
	s.mem, s.saves = m, s.saves+1
	return nil
}

func newMachine(t *testing.T, hw *hardware, s *store) *machine.Machine {
	t.Helper()
	m, err := machine.New(machine.Identity{Name: "tk0"}, hw, s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var (
	oncePXE  = machine.Boot{Device: machine.DevicePXE, EFI: true, Extra: [4]byte{1, 2, 3, 4}}
	everDisk = machine.Boot{Device: machine.DeviceDisk, Persistent: true}
)

func set(t *testing.T, m *machine.Machine, b machine.Boot, valid time.Duration) {
	t.Helper()
	if err := m.SetOverride(&b, valid); err != nil {
		t.Fatal(err)
	}
}

func wantOverride(t *testing.T, m *machine.Machine, want *machine.Boot) {
	t.Helper()
	got, _ := m.Override()
	if (got == nil) != (want == nil) || got != nil && *got != *want {
		t.Errorf("override %+v, want %+v", got, want)
	}
}

func TestDo(t *testing.T) {
	tests := []struct {
		action machine.Action
		on     bool
		want   []string
		err    error
	}{
		{machine.PowerOn, false, []string{"start"}, nil},
		{machine.PowerOn, true, nil, nil},
		{machine.PowerOff, false, []string{"stop"}, nil},
		{machine.PowerOff, true, []string{"stop"}, nil},
		{machine.PowerCycle, true, []string{"stop", "start"}, nil},
		{machine.PowerCycle, false, nil, machine.ErrOff},
		{machine.HardReset, true, []string{"reset"}, nil},
		{machine.HardReset, false, nil, machine.ErrOff},
		{machine.SoftOff, true, []string{"shutdown"}, nil},
		{machine.SoftOff, false, nil, nil},
		{machine.Diagnostic, true, []string{"interrupt"}, nil},
		{machine.Diagnostic, false, nil, machine.ErrOff},
		{"hibernate", true, nil, machine.ErrUnsupported},
	}
	for _, tt := range tests {
		hw := &hardware{on: tt.on}
		err := newMachine(t, hw, &store{}).Do(t.Context(), tt.action)
		if !errors.Is(err, tt.err) || !slices.Equal(hw.done, tt.want) {
			t.Errorf("%s, on %v: %q, %v, want %q, %v", tt.action, tt.on, hw.done, err, tt.want, tt.err)
		}
	}
}

// TestUnknown: what is not known is neither on nor off, and nothing is done.
func TestUnknown(t *testing.T) {
	cause := errors.New("no answer")
	hw := &hardware{unknown: cause}
	m := newMachine(t, hw, &store{})
	if _, err := m.On(); !errors.Is(err, machine.ErrUnknown) || !errors.Is(err, cause) {
		t.Errorf("On: %v", err)
	}
	if err := m.Do(t.Context(), machine.PowerOn); !errors.Is(err, machine.ErrUnknown) || hw.done != nil {
		t.Errorf("Do: %v, %q", err, hw.done)
	}
	hw.unknown = nil
	if err := m.Do(t.Context(), machine.PowerOn); err != nil {
		t.Errorf("Do when it is known: %v", err)
	}
}

// TestOnce: an override for one boot is used by one that succeeded.
func TestOnce(t *testing.T) {
	for _, a := range []machine.Action{machine.PowerOn, machine.PowerCycle, machine.HardReset} {
		t.Run(string(a), func(t *testing.T) {
			s, hw := &store{}, &hardware{on: a != machine.PowerOn}
			m := newMachine(t, hw, s)
			set(t, m, oncePXE, 0)

			hw.fail = errors.New("no memory")
			if err := m.Do(t.Context(), a); !errors.Is(err, hw.fail) {
				t.Fatalf("failed boot: %v", err)
			}
			wantOverride(t, m, &oncePXE)
			hw.fail, hw.on, hw.boots = nil, a != machine.PowerOn, nil
			if err := m.Do(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			wantOverride(t, m, nil)
			if !s.mem.IsZero() {
				t.Errorf("stored %+v", s.mem)
			}
			if a == machine.PowerOn {
				hw.on = false
			}
			if err := m.Do(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if want := []machine.Boot{oncePXE, {}}; !slices.Equal(hw.boots, want) {
				t.Errorf("booted %+v, want %+v", hw.boots, want)
			}
		})
	}
}

// TestNotABoot: what does not boot the machine does not use the override.
func TestNotABoot(t *testing.T) {
	hw := &hardware{on: true}
	m := newMachine(t, hw, &store{})
	set(t, m, oncePXE, 0)
	for _, a := range []machine.Action{machine.PowerOn, machine.SoftOff, machine.Diagnostic, machine.PowerOff, machine.PowerOff} {
		if err := m.Do(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		wantOverride(t, m, &oncePXE)
	}
}

func TestPersistent(t *testing.T) {
	hw, s := &hardware{on: true}, &store{}
	m := newMachine(t, hw, s)
	set(t, m, everDisk, 0)
	for range 2 {
		if err := m.Do(t.Context(), machine.HardReset); err != nil {
			t.Fatal(err)
		}
	}
	if want := []machine.Boot{everDisk, everDisk}; !slices.Equal(hw.boots, want) {
		t.Errorf("booted %+v, want %+v", hw.boots, want)
	}
	wantOverride(t, newMachine(t, hw, s), &everDisk) // after a restart
	if err := m.SetOverride(nil, 0); err != nil {
		t.Fatal(err)
	}
	wantOverride(t, newMachine(t, hw, s), nil)
}

// TestSetDuringBoot: an override that is set while the machine boots is for the
// next boot, even if it is the same as the one that is being used.
func TestSetDuringBoot(t *testing.T) {
	hw := &hardware{on: true}
	m := newMachine(t, hw, &store{})
	set(t, m, oncePXE, 0)
	hw.during = func(context.Context) { set(t, m, oncePXE, 0) }
	if err := m.Do(t.Context(), machine.HardReset); err != nil {
		t.Fatal(err)
	}
	wantOverride(t, m, &oncePXE)
	// But one that was only given more time was used.
	set(t, m, oncePXE, time.Minute)
	hw.during = func(context.Context) {
		if err := m.KeepOverride(time.Minute); err != nil {
			t.Error(err)
		}
	}
	if err := m.Do(t.Context(), machine.HardReset); err != nil {
		t.Fatal(err)
	}
	wantOverride(t, m, nil)
}

// TestSetDuringStop: a cycle boots as was said before it boots.
func TestSetDuringStop(t *testing.T) {
	hw := &hardware{on: true}
	m := newMachine(t, hw, &store{})
	hw.during = func(context.Context) {
		if len(hw.done) == 0 { // while it stops
			set(t, m, oncePXE, 0)
		}
	}
	if err := m.Do(t.Context(), machine.PowerCycle); err != nil {
		t.Fatal(err)
	}
	if want := []machine.Boot{oncePXE}; !slices.Equal(hw.boots, want) {
		t.Errorf("booted %+v, want %+v", hw.boots, want)
	}
	wantOverride(t, m, nil)
}

// TestExpiry: an override lapses at its time, also across a restart.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hw, s := &hardware{on: true}, &store{}
		m := newMachine(t, hw, s)
		set(t, m, oncePXE, time.Minute)
		time.Sleep(time.Minute - time.Millisecond)
		wantOverride(t, m, &oncePXE)
		wantOverride(t, newMachine(t, hw, s), &oncePXE)
		time.Sleep(2 * time.Millisecond)
		wantOverride(t, m, nil)
		wantOverride(t, newMachine(t, hw, s), nil)
		if err := m.Do(t.Context(), machine.HardReset); err != nil {
			t.Fatal(err)
		}
		if want := []machine.Boot{{}}; !slices.Equal(hw.boots, want) {
			t.Errorf("booted %+v, want %+v", hw.boots, want)
		}
		// What has lapsed does not come back.
		if err := m.KeepOverride(time.Hour); err != nil {
			t.Fatal(err)
		}
		wantOverride(t, m, nil)
	})
}

func TestKeepOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		m := newMachine(t, &hardware{}, s)
		keep := func(d time.Duration) {
			t.Helper()
			if err := m.KeepOverride(d); err != nil {
				t.Fatal(err)
			}
		}
		keep(time.Minute)
		if s.saves != 0 {
			t.Error("kept an override that is not there")
		}
		set(t, m, everDisk, time.Minute)
		time.Sleep(50 * time.Second)
		keep(time.Minute)
		time.Sleep(50 * time.Second)
		wantOverride(t, m, &everDisk)
		keep(0)
		time.Sleep(time.Hour)
		wantOverride(t, m, &everDisk)
		keep(time.Minute) // it does not lapse: it stays so
		time.Sleep(time.Hour)
		wantOverride(t, m, &everDisk)
	})
}

// TestBusy: while the power changes others are told so, and queries are answered.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hw := &hardware{on: true, during: func(context.Context) { time.Sleep(5 * time.Second) }}
		m := newMachine(t, hw, &store{})
		result := make(chan error)
		go func() { result <- m.Do(context.Background(), machine.PowerOff) }()
		time.Sleep(time.Second)
		if !m.Busy() {
			t.Error("not busy while the power changes")
		}
		start := time.Now()
		if err := m.Do(t.Context(), machine.HardReset); !errors.Is(err, machine.ErrBusy) {
			t.Errorf("second change: %v, want ErrBusy", err)
		}
		if on, err := m.On(); !on || err != nil {
			t.Errorf("On: %v, %v: the machine is still on", on, err)
		}
		set(t, m, oncePXE, 0)
		wantOverride(t, m, &oncePXE)
		if d := time.Since(start); d != 0 {
			t.Errorf("others waited %v", d)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
		if m.Busy() {
			t.Error("busy when the power has changed")
		}
		if on, _ := m.On(); on {
			t.Error("on after power off")
		}
	})
}

// TestBusyAfterFailure: a change that failed, or panicked, leaves nothing locked.
func TestBusyAfterFailure(t *testing.T) {
	hw := &hardware{on: true, fail: errors.New("no")}
	m := newMachine(t, hw, &store{})
	if err := m.Do(t.Context(), machine.PowerOff); err == nil {
		t.Error("no error")
	}
	hw.fail, hw.during = nil, func(context.Context) { panic("a bug") }
	func() {
		defer func() { _ = recover() }()
		_ = m.Do(t.Context(), machine.PowerOff)
	}()
	hw.during = nil
	if err := m.Do(t.Context(), machine.PowerOff); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

// TestStoreFails: what could not be stored is an error. An override that has
// been used is not used again for that.
func TestStoreFails(t *testing.T) {
	hw, s := &hardware{on: true}, &store{}
	m := newMachine(t, hw, s)
	set(t, m, oncePXE, 0)
	s.fail = errors.New("disk full")
	if err := m.SetOverride(&everDisk, 0); !errors.Is(err, s.fail) {
		t.Errorf("SetOverride: %v", err)
	}
	wantOverride(t, m, &oncePXE)
	if err := m.Do(t.Context(), machine.HardReset); !errors.Is(err, s.fail) {
		t.Errorf("Do: %v", err)
	}
	wantOverride(t, m, nil)
	if _, err := machine.New(machine.Identity{}, hw, s); !errors.Is(err, s.fail) {
		t.Errorf("New: %v", err)
	}
}

// TestOverrideIsACopy: who asks for the override cannot change it.
func TestOverrideIsACopy(t *testing.T) {
	m := newMachine(t, &hardware{}, &store{})
	b := oncePXE
	if err := m.SetOverride(&b, 0); err != nil {
		t.Fatal(err)
	}
	b.Device = machine.DeviceDisk
	got, _ := m.Override()
	got.Device = machine.DeviceDisk
	wantOverride(t, m, &oncePXE)
}

// TestConcurrent is for the race detector: one change at a time, and Busy never
// makes a change fail.
func TestConcurrent(t *testing.T) {
	var now, most, done atomic.Int32
	hw := &hardware{on: true}
	hw.during = func(context.Context) {
		most.Store(max(most.Load(), now.Add(1)))
		now.Add(-1)
	}
	m := newMachine(t, hw, &store{})
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for range 200 {
				m.Busy()
				if _, err := m.On(); err != nil {
					t.Error(err)
				}
				if err := m.SetOverride(&machine.Boot{Device: machine.Device(fmt.Sprint(i))}, time.Minute); err != nil {
					t.Error(err)
				}
				switch err := m.Do(context.Background(), machine.PowerOff); {
				case err == nil:
					done.Add(1)
				case !errors.Is(err, machine.ErrBusy):
					t.Error(err)
				}
				m.Override()
			}
		})
	}
	wait.Wait()
	if most.Load() > 1 || done.Load() == 0 {
		t.Errorf("%d changes at a time, %d done", most.Load(), done.Load())
	}
}

// TestBusyDoesNotDisturb: asking whether a machine is busy is not a change.
func TestBusyDoesNotDisturb(t *testing.T) {
	m := newMachine(t, &hardware{}, &store{})
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				m.Busy()
			}
		}
	})
	for range 20000 {
		if err := m.Do(t.Context(), machine.SoftOff); err != nil {
			t.Errorf("Do while somebody asks: %v", err)
			break
		}
	}
	close(stop)
	wait.Wait()
}
