package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// errNotWatched: nobody runs [Provider.Run].
var errNotWatched = errors.New("power states are not being watched")

// powerCache is what is known of the power of all domains. The zero value
// knows nothing. It is fed by one connection's events, in their order, and by
// nothing else, so it never shows a state that a domain was not in.
type powerCache struct {
	mu      sync.Mutex
	on      map[libvirt.UUID]bool // nil: not known
	why     error                 // if not known
	resets  map[libvirt.UUID]int
	changed chan struct{} // closed at the next change
}

func (c *powerCache) get(u libvirt.UUID) (on, there bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on == nil {
		if c.why == nil {
			return false, false, errNotWatched
		}
		return false, false, c.why
	}
	on, there = c.on[u]
	return on, there, nil
}

// change calls f under the lock and wakes those who wait.
func (c *powerCache) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func (c *powerCache) forget(why error) { c.change(func() { c.on, c.resets, c.why = nil, nil, why }) }

// await returns when ok does, which is asked at every change; it gives up after
// limit. ok is called with c.mu held.
func (c *powerCache) await(ctx context.Context, limit time.Duration, ok func() bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		c.mu.Lock()
		if c.on == nil || ok() {
			c.mu.Unlock()
			return
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// awaitPower returns when the change that libvirt has just reported as done is
// in the cache too: who asks next is told the same.
func (c *powerCache) awaitPower(ctx context.Context, u libvirt.UUID, on bool) {
	c.await(ctx, 5*time.Second, func() bool { return c.on[u] == on })
}

func (c *powerCache) countResets(u libvirt.UUID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resets[u]
}

// event takes in a lifecycle event.
func (c *powerCache) event(e libvirt.DomainEventLifecycleMsg) {
	c.change(func() {
		switch libvirt.DomainEventType(e.Event) {
		case libvirt.DomainEventDefined:
			if _, there := c.on[e.Dom.UUID]; !there {
				c.on[e.Dom.UUID] = false
			}
		case libvirt.DomainEventUndefined:
			if !c.on[e.Dom.UUID] {
				delete(c.on, e.Dom.UUID)
			}
		case libvirt.DomainEventStarted, libvirt.DomainEventResumed, libvirt.DomainEventSuspended:
			c.on[e.Dom.UUID] = true
		case libvirt.DomainEventStopped:
			c.on[e.Dom.UUID] = false
		default:
			// Shutdown and Crashed come before Stopped, or without it.
		}
	})
}

// pingEvery is how often the event connection is tried: a libvirtd that hangs
// sends no events, and does not close the connection either.
const pingEvery = 15 * time.Second

// Run implements [provider.Controls].
func (p *Provider) Run(ctx context.Context, ready func()) error {
	once := sync.OnceFunc(ready)
	d := dialer{socket: p.o.Socket, silence: min(p.o.Silence, pingEvery)}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := p.follow(ctx, d, func() {
			pause = 50 * time.Millisecond
			once()
		})
		p.power.forget(err)
		if ctx.Err() != nil {
			return nil
		}
		p.o.Log.Warn("power states are not known", "err", err)
		once()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// follow keeps the cache up to date until ctx is done or the connection ends.
func (p *Provider) follow(ctx context.Context, d dialer, ready func()) error {
	c, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	var life, reset <-chan any
	err = c.do(ctx, func(l *libvirt.Libvirt) (err error) {
		// From here on events are kept for us: the list is not older.
		if life, err = l.SubscribeEvents(ctx, libvirt.DomainEventIDLifecycle, nil); err != nil {
			return err
		}
		defer drainLater(c, life)
		if reset, err = l.SubscribeEvents(ctx, libvirt.DomainEventIDReboot, nil); err != nil {
			return err
		}
		defer drainLater(c, reset)
		doms, _, err := l.ConnectListAllDomains(1, 0)
		if err != nil {
			return err
		}
		p.power.change(func() {
			p.power.on = map[libvirt.UUID]bool{}
			p.power.resets = map[libvirt.UUID]int{}
			for _, d := range doms {
				p.power.on[d.UUID] = d.ID >= 0
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	ready()
	return p.listen(ctx, c, life, reset)
}

// drainLater lets go-libvirt's goroutine end, which sends to ch until the
// connection is closed.
func drainLater(c *conn, ch <-chan any) {
	go func() {
		<-c.link.gone
		for range ch {
		}
	}()
}

// listen takes in events.
func (p *Provider) listen(ctx context.Context, c *conn, life, reset <-chan any) error {
	ping := time.NewTicker(min(pingEvery, p.o.Silence))
	defer ping.Stop()
	lost := fmt.Errorf("libvirt: %s: %w", p.o.Socket, errLost)
	for {
		select {
		case e, ok := <-life:
			if !ok {
				return lost
			}
			if m, ok := e.(*libvirt.DomainEventCallbackLifecycleMsg); ok {
				p.power.event(m.Msg)
			}
		case e, ok := <-reset:
			if !ok {
				return lost
			}
			if m, ok := e.(*libvirt.DomainEventCallbackRebootMsg); ok {
				p.power.change(func() { p.power.resets[m.Msg.Dom.UUID]++ })
			}
		case <-ping.C:
			if err := c.do(ctx, func(l *libvirt.Libvirt) error { _, err := l.ConnectGetLibVersion(); return err }); err != nil {
				return err
			}
		case <-c.link.gone:
			return lost
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
