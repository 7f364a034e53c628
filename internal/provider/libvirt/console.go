package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/digitalocean/go-libvirt"

	"github.com/tenks/tenks/internal/hint"
)

// consoleBuffer is how many bytes a console keeps for a slow reader; what is
// older is dropped, as a terminal's scrollback drops it.
const consoleBuffer = 256 << 10

// console is an open serial console. It has a connection of its own: libvirt's
// stream blocks all else on its connection while data is not taken.
type console struct {
	c     *conn
	input *io.PipeReader
	send  *io.PipeWriter

	opened chan struct{} // closed when libvirt has said yes
	once   sync.Once

	mu   sync.Mutex
	more sync.Cond
	data []byte
	err  error // after data
}

// Console implements [provider.Consoler]. Reading ends with io.EOF when the
// node is switched off. Taking a console over (force) is libvirt's to do: 9.0 does
// not always tell the one who had it, and at times ends the new one as well.
func (p *Provider) Console(ctx context.Context, clusterName, node string, force bool) (io.ReadWriteCloser, error) {
	c, err := dialer{socket: p.o.Socket, silence: p.o.Silence}.dial(ctx)
	if err != nil {
		return nil, nodeError(node, err)
	}
	var f *found
	err = c.do(ctx, func(l *libvirt.Libvirt) (err error) {
		f, err = lookup(l, clusterName, node, "")
		return err
	})
	switch {
	case err != nil:
	case f == nil || !f.ours:
		err = absent(node)
	case f.dom.ID < 0:
		err = hint.Add(fmt.Errorf("node %s is off: it has no console", node), "switch it on first")
	default:
		var con *console
		if con, err = openConsole(ctx, c, f.dom, force); err == nil {
			return con, nil
		}
		err = consoleError(node, err)
	}
	c.close()
	return nil, err
}

func consoleError(node string, err error) error {
	err = fmt.Errorf("console of node %s: %w", node, err)
	if strings.Contains(err.Error(), "Active console session exists") {
		return hint.Add(fmt.Errorf("console of node %s: somebody else has it open", node),
			"wait until they close it, or take it from them: add --force")
	}
	return err
}

// openConsole connects to the console of a running domain.
func openConsole(ctx context.Context, c *conn, dom libvirt.Domain, force bool) (*console, error) {
	con := &console{c: c, opened: make(chan struct{})}
	con.more.L = &con.mu
	con.input, con.send = io.Pipe()
	flags := uint32(libvirt.DomainConsoleSafe)
	if force {
		flags = uint32(libvirt.DomainConsoleForce)
	}
	go func() {
		err := c.rpc.DomainOpenConsoleBidirectional(dom, nil, toGuest{con}, fromGuest{con}, flags)
		if errors.Is(err, libvirt.ErrInterrupted) {
			err = errLost
		}
		con.end(err)
	}()
	select {
	case <-con.opened:
	case <-ctx.Done():
		con.end(context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
	con.mu.Lock()
	defer con.mu.Unlock()
	if con.err != nil && !errors.Is(con.err, io.EOF) {
		return nil, con.err
	}
	return con, nil
}

// end is the console's end, whoever was the cause. The first one counts.
func (con *console) end(err error) {
	if err == nil {
		err = io.EOF
	}
	con.mu.Lock()
	if con.err == nil {
		con.err = err
	}
	con.more.Broadcast()
	con.mu.Unlock()
	con.c.close()
	_ = con.input.CloseWithError(io.ErrClosedPipe)
	con.once.Do(func() { close(con.opened) })
}

// toGuest is what go-libvirt reads; it does so first when the console is open.
type toGuest struct{ con *console }

func (t toGuest) Read(b []byte) (int, error) {
	t.con.once.Do(func() { close(t.con.opened) })
	return t.con.input.Read(b)
}

// fromGuest is what go-libvirt writes to; it never waits.
type fromGuest struct{ con *console }

func (f fromGuest) Write(b []byte) (int, error) {
	con := f.con
	con.mu.Lock()
	defer con.mu.Unlock()
	con.data = append(con.data, b...)
	if over := len(con.data) - consoleBuffer; over > 0 {
		con.data = append(con.data[:0], con.data[over:]...)
	}
	con.more.Broadcast()
	return len(b), nil
}

// Read waits for what the guest writes.
func (con *console) Read(b []byte) (int, error) {
	con.mu.Lock()
	defer con.mu.Unlock()
	for len(con.data) == 0 && con.err == nil {
		con.more.Wait()
	}
	if len(con.data) == 0 {
		return 0, con.err
	}
	n := copy(b, con.data)
	con.data = con.data[n:]
	return n, nil
}

// Write sends to the guest.
func (con *console) Write(b []byte) (int, error) { return con.send.Write(b) }

// Close gives the console back, and forgets what has not been read.
func (con *console) Close() error {
	con.end(io.ErrClosedPipe)
	con.mu.Lock()
	defer con.mu.Unlock()
	con.data, con.err = nil, io.ErrClosedPipe
	return nil
}
