package ironic

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// How often states are asked for. The pause starts at the shortest whenever
// somebody new waits or a node has arrived, and doubles while nothing happens.
const (
	shortestPoll = 100 * time.Millisecond
	longestPoll  = 2 * time.Second
	// manyWaiting is from how many waiting nodes on all nodes are listed: one
	// request then costs Ironic less than one for each.
	manyWaiting = 12
)

// poller waits for many nodes at once with few requests. While anybody waits,
// one goroutine asks.
type poller struct {
	client *client

	mu      sync.Mutex
	waiting map[*waiter]bool
	running bool
	wake    chan struct{} // has room for one: somebody new waits
}

// waiter is one call of wait.
type waiter struct {
	uuid   string
	answer chan result // has room for one
	last   status      // guarded by poller.mu
}

type result struct {
	status status
	err    error
}

func newPoller(c *client) *poller {
	return &poller{client: c, waiting: map[*waiter]bool{}, wake: make(chan struct{}, 1)}
}

// wait returns the status of a node as soon as its state does not pass by
// itself. It is always asked for after the call of wait, never remembered. The
// error is errGone if the node does not exist.
func (p *poller) wait(ctx context.Context, uuid string) (status, error) {
	w := &waiter{uuid: uuid, answer: make(chan result, 1)}
	p.mu.Lock()
	p.waiting[w] = true
	if !p.running {
		p.running = true
		go p.run()
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	select {
	case r := <-w.answer:
		return r.status, r.err
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.waiting, w)
		last := w.last
		p.mu.Unlock()
		if last.State == "" {
			return last, context.Cause(ctx)
		}
		return last, fmt.Errorf("the node is still %s: %w", last.State, context.Cause(ctx))
	}
}

// run asks until nobody waits. Its requests have the client's time limit; it
// has no other, since those who wait have theirs.
func (p *poller) run() {
	ctx := context.Background()
	pause := shortestPoll
	for {
		ask := p.asking()
		if ask == nil {
			return
		}
		start := time.Now()
		if p.deliver(ask, p.ask(ctx, ask)) {
			pause = shortestPoll
		}
		took := time.Since(start)
		asked := time.Now()
		for waited := false; !waited; {
			// No pause is shorter than the answer took: Ironic has other work.
			left := max(pause, took) - time.Since(asked)
			select {
			case <-time.After(left):
				waited = true
			case <-p.wake:
				pause = shortestPoll
			}
		}
		pause = min(2*pause, longestPoll)
	}
}

// asking lists those who wait. If there are none, the goroutine that called
// it must end.
func (p *poller) asking() []*waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ask []*waiter
	for w := range p.waiting {
		ask = append(ask, w)
	}
	p.running = ask != nil
	return ask
}

// ask gets the status of the nodes that somebody waits for.
func (p *poller) ask(ctx context.Context, ask []*waiter) map[string]result {
	got := map[string]result{}
	if len(ask) < manyWaiting {
		for _, w := range ask {
			var s status
			err := p.client.do(ctx, http.MethodGet, query("/v1/nodes/"+w.uuid, "fields", statusFields), nil, &s)
			if hasStatus(err, http.StatusNotFound) {
				err = errGone
			}
			got[w.uuid] = result{s, err}
		}
		return got
	}
	nodes, err := p.client.nodes(ctx, statusFields)
	for _, n := range nodes {
		got[n.UUID] = result{status: n.status}
	}
	for _, w := range ask {
		if _, ok := got[w.uuid]; ok {
			continue
		}
		got[w.uuid] = result{err: errGone}
		if err != nil {
			got[w.uuid] = result{err: err}
		}
	}
	return got
}

// deliver tells those whose wait is over, and returns whether there were any.
func (p *poller) deliver(ask []*waiter, got map[string]result) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	any := false
	for _, w := range ask {
		r := got[w.uuid]
		if r.err == nil && phaseOf(r.status.State) == moving {
			w.last = r.status
			continue
		}
		if p.waiting[w] {
			delete(p.waiting, w)
			w.answer <- r
			any = true
		}
	}
	return any
}
