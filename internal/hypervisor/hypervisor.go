// Package hypervisor is the contract of a worker: the part of Tenks that acts
// on one hypervisor. The worker in hypervisor/local acts on the machine it runs
// on; a remote one is the same worker at the far end of a pipe, which is why
// all that goes in and out is plain data.
package hypervisor

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/plan"
)

// Worker acts on one hypervisor. Methods are safe for concurrent use.
type Worker interface {
	// Name is the hypervisor's name in the cluster file.
	Name() string

	// Observe returns what there is of the cluster on this hypervisor, and
	// the names that strangers occupy. A platform that does not answer is in
	// Unknown and is no error.
	Observe(ctx context.Context, clusterName string) (cluster.State, error)

	// Do carries out one step of a plan for this hypervisor. It may be
	// interrupted at any point and made again.
	Do(ctx context.Context, clusterName string, s plan.Step) error

	// Tidy removes what is kept here for a cluster that has nothing left on
	// this hypervisor. If something is left, or unknown, it does nothing.
	Tidy(ctx context.Context, clusterName string) error

	// Lock keeps every other run of Tenks from changing the cluster on this
	// hypervisor until release is called or the program ends, however it
	// ends. If it is held, the error is a [*LockedError].
	Lock(ctx context.Context, clusterName string, h Holder) (release func(), err error)

	// Console connects to a node's serial console.
	Console(ctx context.Context, clusterName string, n cluster.Node, force bool) (io.ReadWriteCloser, error)

	// Close ends the worker's connections.
	Close() error
}

// Holder says who holds a lock.
type Holder struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Command string    `json:"command"` // "tenks apply"
	Since   time.Time `json:"since"`
}

// LockedError says that somebody else is changing the cluster.
type LockedError struct {
	Hypervisor, Cluster string
	Holder              Holder
}

func (e *LockedError) Error() string {
	h := e.Holder
	return fmt.Sprintf("hypervisor %s: cluster %q is being changed by %q (process %d of %s on %s, since %s)",
		e.Hypervisor, e.Cluster, h.Command, h.PID, h.User, h.Host, h.Since.Format(time.DateTime))
}
