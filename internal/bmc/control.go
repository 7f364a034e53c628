package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// Status is what the process says of itself.
type Status struct {
	PID           int         `json:"pid"`
	Hash          string      `json:"hash"`                     // of the list that it serves, see Hash; "" before the first
	LibvirtSocket string      `json:"libvirt_socket,omitempty"` // that it has used since its start
	Ready         bool        `json:"ready"`                    // power states are known, or known to be unknown
	Problem       string      `json:"problem,omitempty"`        // why the list could not be reread the last time
	BMCs          []BMCStatus `json:"bmcs"`                     // sorted by node
}

// BMCStatus is one BMC.
type BMCStatus struct {
	Node      string `json:"node"`
	Address   string `json:"address"`
	Port      int    `json:"port"`
	Listening bool   `json:"listening"`
	Error     string `json:"error,omitempty"` // why it does not
}

// failed is how many BMCs do not listen.
func (s Status) failed() (n int) {
	for _, b := range s.BMCs {
		if !b.Listening {
			n++
		}
	}
	return n
}

// Control talks to the process that serves a folder, over HTTP on the socket in
// it. Who may read the folder may control the process.
type Control struct {
	Root *os.Root // the folder
}

// Status asks the process what it serves. Its errors do not tell a process that
// is not there from one that hangs; [Holder] does.
func (c Control) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, http.MethodGet, "/status")
}

// Reload makes the process reread its list, and returns when all has been done
// that the list says. BMCs that have not changed are not touched. If the list
// cannot be read, everything stays as it was and that is the error.
func (c Control) Reload(ctx context.Context) (Status, error) {
	return c.call(ctx, http.MethodPost, "/reload")
}

func (c Control) call(ctx context.Context, method, path string) (Status, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, c.Root)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://bmc"+path, nil)
	if err != nil {
		return Status{}, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return Status{}, fmt.Errorf("BMC process of %s: %w", c.Root.Name(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status
		Failed string `json:"failed"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return Status{}, fmt.Errorf("BMC process of %s: %w", c.Root.Name(), err)
	}
	if answer.Failed != "" || resp.StatusCode != http.StatusOK {
		return answer.Status, fmt.Errorf("BMC process of %s: %s", c.Root.Name(), answer.Failed)
	}
	return answer.Status, nil
}

// short calls f with a path of the control socket that is short enough for a
// socket's address (108 bytes, unix(7)), wherever the folder is.
func short(root *os.Root, f func(path string) error) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), SocketFile))
}

func dial(ctx context.Context, root *os.Root) (conn net.Conn, err error) {
	err = short(root, func(path string) error {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the path would puzzle whoever reads it
		}
		return err
	})
	return conn, err
}

// control serves the control socket until end is called.
func (s *server) control() (end func(), err error) {
	// The process before us, if it was killed, has left it. We have its role.
	if err := s.root.Remove(SocketFile); err != nil && !missing(err) {
		return nil, err
	}
	var listener *net.UnixListener
	err = short(s.root, func(path string) error {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", SocketFile, err)
	}
	listener.SetUnlinkOnClose(false)
	if err := s.root.Chmod(SocketFile, 0o600); err != nil {
		_ = listener.Close()
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, nil) })
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) { s.answer(w, s.reload(r.Context())) })
	h := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	s.all.Go(func() {
		if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.fail(&handsError{"control socket", err})
		}
	})
	return func() {
		s.fail(nil) // a reload that waits ends
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = h.Shutdown(ctx)
		_ = h.Close()
		_ = s.root.Remove(SocketFile)
	}, nil
}

// answer writes the status, and err if something failed.
func (s *server) answer(w http.ResponseWriter, err error) {
	answer := struct {
		Status
		Failed string `json:"failed,omitempty"`
	}{Status: s.status()}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		answer.Failed = err.Error()
		w.WriteHeader(http.StatusInternalServerError)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.o.Log.Debug("nobody waited for the answer", "err", err)
	}
}
