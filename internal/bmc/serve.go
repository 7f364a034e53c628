package bmc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/bmc/ipmi"
	"github.com/tenks/tenks/internal/machine"
)

// Hands are what switches the nodes of one provider; provider.Controls is one.
type Hands interface {
	// Hardware returns the node with that UUID as a BMC may control it. The
	// node need not exist yet: then its methods return errors until it does.
	Hardware(clusterName, node, uuid string) machine.Hardware

	// Run keeps the power states that Hardware answers with up to date until
	// ctx is done. ready is called once, when the first states are known or
	// the platform did not answer.
	Run(ctx context.Context, ready func()) error
}

// Options are what [Serve] needs.
type Options struct {
	Folder string           // of the cluster on this hypervisor
	Hands  map[string]Hands // by provider; only those that a BMC needs are run
	Log    *slog.Logger     // nil discards

	// Retry is how often BMCs that could not listen try again, all at once:
	// at boot, an address may come later than we. 0 means 10 seconds.
	Retry time.Duration

	// protocol replaces IPMI in tests.
	protocol func(m *machine.Machine, a *account.Table, log *slog.Logger) protocol
}

// protocol answers the packets of one BMC; [ipmi.Server] is one.
type protocol interface {
	Serve(ctx context.Context, conn net.PacketConn) error
}

func newIPMI(m *machine.Machine, a *account.Table, log *slog.Logger) protocol {
	return &ipmi.Server{Machine: m, Accounts: a, Log: log}
}

// server is the process.
type server struct {
	o       Options
	root    *os.Root
	ctx     context.Context // of all BMCs and hands; ends with Serve
	fail    context.CancelCauseFunc
	cluster string
	socket  string // libvirt's, that the hands were made for
	all     sync.WaitGroup

	reloading sync.Mutex // held while the list is read and applied

	mu    sync.Mutex // guards what follows
	list  List
	hash  string
	bmcs  map[string]*running      // by node
	ready map[string]chan struct{} // by provider: closed when its hands are ready
	last  error                    // why the list could not be read the last time
}

// running is one BMC, listening or not.
type running struct {
	entry    Entry
	server   protocol
	accounts *account.Table // who may log in
	stop     context.CancelFunc
	done     chan struct{} // closed when the server has ended; nil: it has not begun
	err      error         // why it does not listen
}

// listening tells whether the BMC answers packets. The server's mu is held.
func (r *running) listening() bool { return r.err == nil }

// Serve serves the BMCs that the folder's list names until ctx is done, then
// returns nil. It rereads the list on SIGHUP and when [Control.Reload] asks for
// it. A BMC that cannot listen is no reason to end: its error is in [Status].
// Serve returns an error if there is no list, if another process serves the
// folder, or if the hands of a provider gave up; who started it starts it again.
func Serve(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.protocol == nil {
		o.protocol = newIPMI
	}
	if o.Retry == 0 {
		o.Retry = 10 * time.Second
	}
	root, err := os.OpenRoot(o.Folder)
	if err != nil {
		return fmt.Errorf("BMC process: %w", err)
	}
	defer func() { _ = root.Close() }()
	role, err := take(root, RoleServe)
	if err != nil {
		return fmt.Errorf("BMC process: %w", err)
	}
	defer func() { _ = role.Close() }()
	list, hash, err := readList(o.Folder)
	if err != nil {
		return err
	}

	ctx, fail := context.WithCancelCause(ctx)
	s := &server{
		o: o, root: root, ctx: ctx, fail: fail, cluster: list.Cluster, socket: list.LibvirtSocket,
		bmcs: make(map[string]*running), ready: make(map[string]chan struct{}),
	}
	defer s.all.Wait()
	defer fail(nil)
	endControl, err := s.control()
	if err != nil {
		return fmt.Errorf("BMC process: %w", err)
	}
	defer endControl()
	s.reloading.Lock()
	s.apply(list, hash)
	s.reloading.Unlock()
	return s.run(ctx)
}

// run waits for signals and for the end.
func (s *server) run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	retry := time.NewTicker(s.o.Retry)
	defer retry.Stop()

	if s.waitReady(ctx) == nil {
		if err := notify("READY=1"); err != nil {
			s.o.Log.Warn("ready, but nobody knows", "err", err)
		}
		st := s.status()
		s.o.Log.Info("serving", "cluster", s.cluster, "bmcs", len(st.BMCs), "failed", st.failed())
	}
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); errors.As(err, new(*handsError)) {
				return err
			}
			return nil
		case <-hangup:
			if err := s.reload(ctx); err != nil {
				s.o.Log.Error("reload failed", "err", err)
			}
		case <-retry.C:
			s.retry()
		}
	}
}

// handsError says that a provider's hands gave up.
type handsError struct {
	provider string
	err      error
}

func (e *handsError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("provider %s gave up", e.provider)
	}
	return fmt.Sprintf("provider %s gave up: %v", e.provider, e.err)
}

func (e *handsError) Unwrap() error { return e.err }

// reload applies the list as it is now. One that cannot be read changes nothing.
func (s *server) reload(ctx context.Context) error {
	s.reloading.Lock()
	list, hash, err := readList(s.o.Folder)
	if err == nil && list.Cluster != s.cluster {
		err = fmt.Errorf("list of BMCs in %s: it is of cluster %q now, not %q", s.o.Folder, list.Cluster, s.cluster)
	}
	s.mu.Lock()
	s.last = err
	s.mu.Unlock()
	if err == nil {
		s.apply(list, hash)
	}
	s.reloading.Unlock()
	if err != nil {
		return err
	}
	st := s.status()
	s.o.Log.Info("reloaded", "cluster", s.cluster, "bmcs", len(st.BMCs), "failed", st.failed())
	return s.waitReady(ctx)
}

// retry lets the BMCs that do not listen try again.
func (s *server) retry() {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.mu.Lock()
	list, hash, failed := s.list, s.hash, false
	for _, r := range s.bmcs {
		failed = failed || !r.listening()
	}
	s.mu.Unlock()
	if failed {
		s.apply(list, hash)
	}
}

// apply makes the BMCs those of the list. What has not changed is not touched.
// All that goes is gone before anything new begins, so that two BMCs may swap
// their addresses. s.reloading is held.
func (s *server) apply(list List, hash string) {
	slices.SortFunc(list.BMCs, byNode)
	want := make(map[string]Entry, len(list.BMCs))
	for _, e := range list.BMCs {
		want[e.Node] = e
		s.runHands(e.Provider)
	}
	s.mu.Lock()
	var going []*running
	for node, r := range s.bmcs {
		e, wanted := want[node]
		if wanted && r.listening() && sameButUser(r.entry, e) {
			if r.entry != e {
				if err := r.accounts.Reset(e.Username, e.Password); err != nil {
					s.o.Log.Error("accounts not kept", "node", e.Node, "err", err)
				}
				r.entry = e
			}
			continue
		}
		delete(s.bmcs, node)
		if r.done != nil {
			going = append(going, r)
		}
	}
	s.mu.Unlock()
	for _, r := range going {
		r.stop()
	}
	for _, r := range going {
		<-r.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range list.BMCs {
		if s.bmcs[e.Node] == nil {
			s.bmcs[e.Node] = s.start(e)
		}
	}
	s.list, s.hash = list, hash
}

// sameButUser tells whether a BMC can turn from a into b while it serves.
func sameButUser(a, b Entry) bool {
	a.Username, a.Password = b.Username, b.Password
	return a == b
}

// start starts a BMC. s.mu is held.
func (s *server) start(e Entry) *running {
	r := &running{entry: e}
	hands, ok := s.o.Hands[e.Provider]
	if !ok {
		r.err = fmt.Errorf("there is no provider %q", e.Provider)
		return r
	}
	m, err := machine.New(machine.Identity{Name: e.Node, UUID: e.UUID, Serial: e.Serial},
		hands.Hardware(s.cluster, e.Node, e.UUID), newStore(s.root, e.Node))
	if err != nil {
		r.err = err
		return r
	}
	if r.accounts, err = account.New(m, e.Username, e.Password); err != nil {
		r.err = err
		return r
	}
	conn, err := listen(e)
	if err != nil {
		r.err = err
		return r
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(s.ctx)
	r.done = make(chan struct{})
	r.server = s.o.protocol(m, r.accounts, s.o.Log.With("node", e.Node))
	s.all.Go(func() {
		err := r.server.Serve(ctx, conn)
		failed := ctx.Err() == nil
		r.stop()
		close(r.done) // before the lock: apply waits for it
		if failed {
			s.ended(r, err)
		}
	})
	return r
}

// ended notes that a BMC's server ended by itself.
func (s *server) ended(r *running, err error) {
	if err == nil {
		err = errors.New("its server ended")
	}
	s.o.Log.Error("BMC ended", "node", r.entry.Node, "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.err = err
}

// listen opens the BMC's socket. Errors begin with the address and port.
func listen(e Entry) (*net.UDPConn, error) {
	at, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	var errno syscall.Errno
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s: no interface of this machine has this address: %w", at, syscall.EADDRNOTAVAIL)
	case errors.Is(err, syscall.EACCES) && at.Port() < 1024:
		return nil, fmt.Errorf("%s: ports below 1024 need root or CAP_NET_BIND_SERVICE: %w", at, syscall.EACCES)
	case errors.As(err, &errno):
		return nil, fmt.Errorf("%s: %w", at, errno)
	}
	return nil, fmt.Errorf("%s: %w", at, err)
}

// runHands starts the hands of a provider if they do not run yet.
func (s *server) runHands(provider string) {
	hands, known := s.o.Hands[provider]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, runs := s.ready[provider]; runs || !known {
		return
	}
	ready := make(chan struct{})
	s.ready[provider] = ready
	var once sync.Once
	s.all.Go(func() {
		err := hands.Run(s.ctx, func() { once.Do(func() { close(ready) }) })
		if s.ctx.Err() == nil {
			s.fail(&handsError{provider, err})
		}
	})
}

// waitReady waits until the hands that run know their nodes' power states, or
// know that they cannot know.
func (s *server) waitReady(ctx context.Context) error {
	s.mu.Lock()
	var waits []chan struct{}
	for _, c := range s.ready {
		waits = append(waits, c)
	}
	s.mu.Unlock()
	for _, c := range waits {
		select {
		case <-c:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	return nil
}

// status is what [Control.Status] tells.
func (s *server) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{PID: os.Getpid(), Hash: s.hash, LibvirtSocket: s.socket, Ready: true, BMCs: make([]BMCStatus, 0, len(s.list.BMCs))}
	for _, c := range s.ready {
		select {
		case <-c:
		default:
			st.Ready = false
		}
	}
	if s.last != nil {
		st.Problem = s.last.Error()
	}
	for _, e := range s.list.BMCs {
		b := BMCStatus{Node: e.Node, Address: e.Address, Port: e.Port}
		if r := s.bmcs[e.Node]; r == nil {
			b.Error = "it is being started"
		} else if r.err != nil {
			b.Error = r.err.Error()
		} else {
			b.Listening = true
		}
		st.BMCs = append(st.BMCs, b)
	}
	return st
}
