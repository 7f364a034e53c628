package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/tenks/tenks/internal/hint"
)

// errLost: the connection to libvirt ended in the middle of an operation.
var errLost = errors.New("the connection to libvirt was lost")

// conn is one connection to libvirtd. It carries one operation at a time, so
// that giving up on an operation can close it without harm to any other:
// go-libvirt's calls know neither contexts nor deadlines.
type conn struct {
	dialer
	rpc  *libvirt.Libvirt
	link *link
	now  atomic.Pointer[watch] // of the operation under way
}

// link is the socket below a conn. It notices progress and the end.
type link struct {
	net.Conn
	heard func()        // called for every packet from libvirtd; never nil
	gone  chan struct{} // closed when nothing more will come
	once  sync.Once
}

// Read makes every error final: go-libvirt tries temporary ones for ever.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err != nil {
		l.once.Do(func() { close(l.gone) })
		return n, io.EOF
	}
	l.heard()
	return n, nil
}

// Close makes the end known at once.
func (l *link) Close() error {
	l.once.Do(func() { close(l.gone) })
	return l.Conn.Close()
}

// alive tells whether the connection can take an operation.
func (c *conn) alive() bool {
	select {
	case <-c.link.gone:
		return false
	default:
		return true
	}
}

func (c *conn) close() { _ = c.link.Close() }

// watch guards the calls of one operation on a connection: when ctx is done or
// libvirtd has been silent for too long, the connection is closed and the call
// under way returns with an error. Calls are made one after the other.
type watch struct {
	timer  *time.Timer
	silent atomic.Bool
	stop   func() bool
}

// watch starts a watch over the connection.
func (c *conn) watch(ctx context.Context) *watch {
	w := &watch{}
	w.timer = time.AfterFunc(c.silence, func() {
		w.silent.Store(true)
		c.close()
	})
	w.stop = context.AfterFunc(ctx, c.close)
	c.now.Store(w)
	return w
}

func (w *watch) end() {
	w.timer.Stop()
	w.stop()
}

// dialer opens connections to one libvirtd.
type dialer struct {
	socket  string
	silence time.Duration // longest time without an answer
}

// dial opens a connection.
func (d dialer) dial(ctx context.Context) (*conn, error) {
	var nd net.Dialer
	nc, err := nd.DialContext(ctx, "unix", d.socket)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, d.down(err)
	}
	c := &conn{dialer: d}
	c.link = &link{Conn: nc, gone: make(chan struct{}), heard: func() {
		if w := c.now.Load(); w != nil && !w.silent.Load() {
			w.timer.Reset(d.silence)
		}
	}}
	c.rpc = libvirt.NewWithDialer(ready{c.link})
	if err := c.do(ctx, func(l *libvirt.Libvirt) error { return l.Connect() }); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// ready is a dialer for go-libvirt: the connection is there already.
type ready struct{ nc net.Conn }

// Dial implements go-libvirt's socket.Dialer.
func (r ready) Dial() (net.Conn, error) { return r.nc, nil }

// do runs one operation. Errors of the connection are told apart from errors
// that libvirt answered with: they wrap errLost, or the cause of ctx.
func (c *conn) do(ctx context.Context, f func(*libvirt.Libvirt) error) error {
	w := c.watch(ctx)
	err := f(c.rpc)
	w.end()
	c.now.Store(nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case w.silent.Load():
		return hint.Add(fmt.Errorf("libvirt: no answer on %s for %s", c.socket, c.silence),
			"see whether libvirtd hangs, restart it (systemctl restart libvirtd), or run: tenks doctor")
	case errors.Is(err, libvirt.ErrInterrupted), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("libvirt: %s: %w", c.socket, errLost)
	}
	return err
}

// down is the error for a libvirtd that cannot be reached.
func (d dialer) down(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // the path is in our own words already
	}
	var sys syscall.Errno
	if errors.As(err, &sys) {
		err = sys
	}
	wrapped := fmt.Errorf("libvirt does not answer on %s: %w", d.socket, err)
	if errors.Is(err, fs.ErrPermission) {
		return hint.Add(wrapped, "run as root, or as a member of the group libvirt")
	}
	return hint.Add(wrapped, "start it (systemctl start libvirtd), or run: tenks doctor")
}

// pool has a limited number of connections, opened when needed and kept.
type pool struct {
	dialer
	slots chan struct{} // one token per connection in use
	mu    sync.Mutex
	idle  []*conn
}

func newPool(d dialer, size int) *pool {
	return &pool{dialer: d, slots: make(chan struct{}, size)}
}

// do runs an operation on a connection of its own. The operation is level
// triggered: when the connection is lost in the middle, as it is when libvirtd
// is restarted, do waits for libvirtd and runs it again.
func (p *pool) do(ctx context.Context, f func(*libvirt.Libvirt) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := p.try(ctx, f)
	until := time.Now().Add(p.silence)
	for pause := 100 * time.Millisecond; errors.Is(err, errLost) && time.Now().Before(until); pause = min(2*pause, time.Second) {
		for {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			c, dialErr := p.dial(ctx)
			if dialErr == nil {
				p.put(c)
				break
			}
			if time.Now().After(until) {
				return dialErr
			}
		}
		err = p.try(ctx, f)
	}
	return err
}

// try runs an operation once.
func (p *pool) try(ctx context.Context, f func(*libvirt.Libvirt) error) error {
	c := p.get()
	if c == nil {
		var err error
		if c, err = p.dial(ctx); err != nil {
			return err
		}
	}
	defer p.put(c)
	return c.do(ctx, f)
}

// get returns an idle connection that is alive, or nil.
func (p *pool) get() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.alive() {
			return c
		}
		c.close()
	}
	return nil
}

// put gives a connection back.
func (p *pool) put(c *conn) {
	if !c.alive() {
		c.close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

// close ends all idle connections.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
}
