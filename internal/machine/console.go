package machine

import (
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
	m *Machine

	mu      sync.Mutex
	viewers []*Viewer
	history []byte
	stop    context.CancelFunc // ends run; nil: it does not run
	wake    chan struct{}      // has a token when the power has changed
	port    io.ReadWriteCloser // the hardware's; nil: the machine is off
	problem error              // why port is nil while the machine is on
}

// Console is the machine's serial console.
func (m *Machine) Console() *Console { return &m.console }

func (c *Console) init(m *Machine) { c.m, c.wake = m, make(chan struct{}, 1) }

// Viewer is one who looks at a console and may type. All methods are safe for
// concurrent use.
type Viewer struct {
	c *Console

	mu     sync.Mutex
	more   sync.Cond
	data   []byte
	lost   int
	closed bool
}

// Attach adds a viewer, who first reads the last history bytes of what the
// machine has said while anybody looked (at most 16 KiB). Errors wrap
// [ErrUnsupported] if the machine has no console. A machine that is off is no
// error: the viewer waits.
func (c *Console) Attach(history int) (*Viewer, error) {
	if _, able := c.m.hw.(Consoler); !able {
		return nil, fmt.Errorf("serial console: %w", ErrUnsupported)
	}
	v := &Viewer{c: c}
	v.more.L = &v.mu
	c.mu.Lock()
	defer c.mu.Unlock()
	v.data = slices.Clone(c.history[max(0, len(c.history)-history):])
	c.viewers = append(c.viewers, v)
	if c.stop == nil {
		var ctx context.Context
		ctx, c.stop = context.WithCancel(context.Background())
		go c.run(ctx)
	}
	return v, nil
}

// Problem is why viewers see nothing of a machine that is on; nil: they do.
func (c *Console) Problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem
}

// close ends all viewers.
func (c *Console) close() {
	c.mu.Lock()
	viewers := slices.Clone(c.viewers)
	c.mu.Unlock()
	for _, v := range viewers {
		_ = v.Close()
	}
}

// powered notes that the power has changed.
func (c *Console) powered(bool) {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// retryConsole is how long run waits before it tries a console again that it
// could not open, or whose machine does not tell when it is switched on.
const retryConsole = time.Second

// run keeps the hardware's console open while there are viewers.
func (c *Console) run(ctx context.Context) {
	for ctx.Err() == nil {
		port, err := c.m.hw.(Consoler).Console(ctx)
		if err == nil {
			c.attached(port, nil)
			err = c.pump(ctx, port)
			c.attached(nil, nil)
		} else if !errors.Is(err, ErrOff) {
			c.attached(nil, err)
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-time.After(retryConsole):
		}
	}
}

func (c *Console) attached(port io.ReadWriteCloser, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.port, c.problem = port, problem
}

// pump copies from port to all viewers until port ends.
func (c *Console) pump(ctx context.Context, port io.ReadWriteCloser) error {
	defer context.AfterFunc(ctx, func() { _ = port.Close() })()
	defer func() { _ = port.Close() }()
	buf := make([]byte, 4096)
	for {
		n, err := port.Read(buf)
		if n > 0 {
			c.said(buf[:n])
		}
		if err != nil {
			return err
		}
	}
}

// said gives everybody what the machine has said.
func (c *Console) said(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, b...)
	if over := len(c.history) - historySize; over > 0 {
		c.history = append(c.history[:0], c.history[over:]...)
	}
	for _, v := range c.viewers {
		v.add(b)
	}
}

func (v *Viewer) add(b []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.data = append(v.data, b...)
	if over := len(v.data) - viewerSize; over > 0 {
		v.data = append(v.data[:0], v.data[over:]...)
		v.lost += over
	}
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

// Write types on the console. Errors are [ErrOff] while the machine is off, and
// [io.ErrClosedPipe] after Close.
func (v *Viewer) Write(b []byte) (int, error) {
	v.mu.Lock()
	closed := v.closed
	v.mu.Unlock()
	if closed {
		return 0, io.ErrClosedPipe
	}
	v.c.mu.Lock()
	port, problem := v.c.port, v.c.problem
	v.c.mu.Unlock()
	switch {
	case port != nil:
		return port.Write(b)
	case problem != nil:
		return 0, problem
	}
	return 0, ErrOff
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
