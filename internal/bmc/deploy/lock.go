package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Holder says who holds a lock. It is hypervisor.Holder, which this package may
// not know.
type Holder struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// LockedError says that somebody else holds the lock.
type LockedError struct{ Holder Holder }

// Error implements error.
func (e *LockedError) Error() string {
	return fmt.Sprintf("locked by %q, process %d of %s", e.Holder.Command, e.Holder.PID, e.Holder.User)
}

// Lock takes the cluster's lock, or returns a [*LockedError]. The kernel ends
// the lock with the process. Its file is beside the cluster's folder, so that
// the folder can go while the lock is held, and is removed by release.
func (h *Host) Lock(_ context.Context, clusterName string, by Holder) (release func(), err error) {
	if err := os.MkdirAll(h.Root, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(h.Root, "."+clusterName+".lock")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = &LockedError{heldBy(f)}
		}
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		if !same(f, path) { // it was removed by who held it before us
			_ = f.Close()
			continue
		}
		text, err := json.Marshal(by)
		if err == nil {
			err = errors.Join(f.Truncate(0), write(f, text))
		}
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		return func() {
			_ = os.Remove(path)
			_ = f.Close()
			if h.Root == DefaultRoot {
				_ = os.Remove(h.Root) // fails while there are clusters
			}
		}, nil
	}
}

func write(f *os.File, text []byte) error {
	_, err := f.WriteAt(text, 0)
	return err
}

// heldBy reads who holds the lock; the zero Holder if they have not said yet.
func heldBy(f *os.File) Holder {
	var by Holder
	if text, err := io.ReadAll(io.LimitReader(f, 1<<16)); err == nil {
		_ = json.Unmarshal(text, &by) // half written: nothing is known
	}
	return by
}

// same tells whether the open file is the one that path names.
func same(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
