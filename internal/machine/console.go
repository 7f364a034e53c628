package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Sizes of a console's buffers, in bytes.
const (
	historySize = 16 << 10 // what a new viewer can be shown
	viewerSize  = 64 << 10 // what a slow viewer may lag behind
)

// Console is a machine's serial console, shared by any number of viewers: IPMI's
// Serial over LAN, "tenks console", Redfish. The hardware's console is open while
// there is a viewer and the machine is on; viewers stay over a power cycle.
type Console struct {
	m    *Machine
	wake chan struct{} // has a token when the power has changed

	mu      sync.Mutex
	viewers []*Viewer
	history []byte
	stop    context.CancelFunc // ends run; nil: nobody looks
	ended   chan struct{}      // closed when the last run is over; nil: there was none
	port    *port              // the hardware's; nil: it is not open
	problem error              // why port is nil while the machine is on
	closed  bool
}

// port is the hardware's console while it is open.
type port struct {
	io.ReadWriteCloser
	typed chan []byte   // what is to be written
	gone  chan struct{} // closed when it has ended
}

// Console is the machine's serial console.
func (m *Machine) Console() *Console { return &m.console }

func (c *Console) init(m *Machine) { c.m, c.wake = m, make(chan struct{}, 1) }

// Viewer is one who looks at a console and may type. All methods are safe for
// concurrent use.
type Viewer struct {
	c    *Console
	done chan struct{} // closed by Close

	mu     sync.Mutex
	more   sync.Cond
	data   []byte
	lost   int
	closed bool
}

// Attach adds a viewer, who first reads the last history bytes of what the
// machine has said while anybody looked (at most 16 KiB). Errors wrap
// [ErrUnsupported] if the machine has no console, and [io.ErrClosedPipe] after
// [Machine.Close]. A machine that is off is no error: the viewer waits.
func (c *Console) Attach(history int) (*Viewer, error) {
	if _, able := c.m.hw.(Consoler); !able {
		return nil, fmt.Errorf("serial console: %w", ErrUnsupported)
	}
	v := &Viewer{c: c, done: make(chan struct{})}
	v.more.L = &v.mu
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("serial console: %w", io.ErrClosedPipe)
	}
	shown := max(0, min(history, len(c.history)))
	v.data = bytes.Clone(c.history[len(c.history)-shown:])
	c.viewers = append(c.viewers, v)
	if c.stop == nil {
		var ctx context.Context
		ctx, c.stop = context.WithCancel(context.Background())
		before := c.ended
		c.ended = make(chan struct{})
		go c.run(ctx, before, c.ended)
	}
	return v, nil
}

// Problem is why viewers see nothing of a machine that is on; nil: they do.
func (c *Console) Problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem
}

// close ends all viewers, for good.
func (c *Console) close() {
	c.mu.Lock()
	c.closed = true
	viewers := slices.Clone(c.viewers)
	c.mu.Unlock()
	for _, v := range viewers {
		_ = v.Close()
	}
}

// powered is told that the power has changed.
func (c *Console) powered() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// retryConsole is how long run waits before it tries a console again that it
// could not open, or whose machine does not tell when it is switched on.
const retryConsole = time.Second

// run keeps the hardware's console open until ctx is done. It begins when the
// run before it is over: the hardware has one console.
func (c *Console) run(ctx context.Context, before <-chan struct{}, ended chan<- struct{}) {
	defer close(ended)
	if before != nil {
		<-before
	}
	for ctx.Err() == nil {
		err := c.show(ctx)
		if ctx.Err() != nil {
			err = nil
		}
		c.opened(nil, err)
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-time.After(retryConsole):
		}
	}
}

// show gives all viewers what the hardware's console says until that ends. It
// returns nil at once if the machine is off.
func (c *Console) show(ctx context.Context) error {
	if on, err := c.m.On(); err != nil || !on {
		return err
	}
	rw, err := c.m.hw.(Consoler).Console(ctx)
	if errors.Is(err, ErrOff) {
		return nil
	}
	if err != nil {
		return err
	}
	p := &port{ReadWriteCloser: rw, typed: make(chan []byte), gone: make(chan struct{})}
	closePort := sync.OnceFunc(func() { _ = rw.Close() })
	var writer sync.WaitGroup
	writer.Go(func() { p.write(closePort) })
	stop := context.AfterFunc(ctx, closePort)
	c.opened(p, nil)
	c.pump(p)
	close(p.gone)
	stop()
	closePort()
	writer.Wait()
	return nil
}

// opened notes that port is open; nil: that it is not.
func (c *Console) opened(p *port, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.port, c.problem = p, problem
}

// pump copies from the port to all viewers until the port ends: the machine is
// off, or somebody took its console.
func (c *Console) pump(p *port) {
	buf := make([]byte, 4096)
	for {
		n, err := p.Read(buf)
		if n > 0 {
			c.said(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// write types what viewers type until the port ends. A machine that does not
// take it holds up nobody who wants to leave.
func (p *port) write(closePort func()) {
	for {
		select {
		case b := <-p.typed:
			if _, err := p.Write(b); err != nil {
				closePort()
				return
			}
		case <-p.gone:
			return
		}
	}
}

// said gives everybody what the machine has said.
func (c *Console) said(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = last(append(c.history, b...), historySize)
	for _, v := range c.viewers {
		v.add(b)
	}
}

// last returns the last n bytes of b, at its beginning.
func last(b []byte, n int) []byte {
	if over := len(b) - n; over > 0 {
		return append(b[:0], b[over:]...)
	}
	return b
}

func (v *Viewer) add(b []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost += max(0, len(v.data)+len(b)-viewerSize)
	v.data = last(append(v.data, b...), viewerSize)
	v.more.Broadcast()
}

// Read waits for what the machine says. It returns io.EOF after Close.
func (v *Viewer) Read(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.data) == 0 && !v.closed {
		v.more.Wait()
	}
	if len(v.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, v.data)
	v.data = v.data[n:]
	if len(v.data) == 0 {
		v.data = nil
	}
	return n, nil
}

// Write types on the console. It waits while the machine has not taken what was
// typed before. Errors are [ErrOff] while the machine is off, and
// [io.ErrClosedPipe] after Close.
func (v *Viewer) Write(b []byte) (int, error) {
	select {
	case <-v.done:
		return 0, io.ErrClosedPipe
	default:
	}
	v.c.mu.Lock()
	p, problem := v.c.port, v.c.problem
	v.c.mu.Unlock()
	switch {
	case p == nil && problem != nil:
		return 0, problem
	case p == nil:
		return 0, ErrOff
	}
	select {
	case p.typed <- bytes.Clone(b):
		return len(b), nil
	case <-p.gone:
		return 0, ErrOff
	case <-v.done:
		return 0, io.ErrClosedPipe
	}
}

// Lost is how many bytes the viewer has missed because it read too slowly.
func (v *Viewer) Lost() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lost
}

// Close ends the viewer. What it has not read yet can still be read.
func (v *Viewer) Close() error {
	v.mu.Lock()
	was := v.closed
	v.closed = true
	v.more.Broadcast()
	v.mu.Unlock()
	if was {
		return nil
	}
	close(v.done)
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.viewers = slices.DeleteFunc(c.viewers, func(o *Viewer) bool { return o == v })
	if len(c.viewers) == 0 && c.stop != nil {
		c.stop()
		c.stop = nil
	}
	return nil
}
