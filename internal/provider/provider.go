// Package provider is the contract between Tenks and a virtualisation platform:
// what a platform must do so that Tenks can keep nodes on it. It comes with a
// suite, provider/providertest, that every platform passes.
//
// A provider has two users. The worker on a hypervisor creates, changes and
// removes nodes through [Provider]. The BMC process there switches them on and
// off through [Controls]; it runs longer, and with fewer rights.
package provider

import (
	"context"
	"io"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/machine"
)

// Found is what a provider has of a cluster, and what it has that is not the
// cluster's. Objects lack their Hypervisor: the worker fills it in.
type Found struct {
	Pools     []cluster.Pool
	Nodes     []cluster.Node // as they are, not as they were asked for
	Strangers []cluster.Stranger
}

// Provider keeps nodes. Its methods are safe for concurrent use and level
// triggered: a call that was interrupted is simply made again. Nothing that
// does not carry the cluster's mark is changed or removed. Errors name the
// object and have a hint where the user can do something.
type Provider interface {
	// Observe returns what there is. Power states are included.
	Observe(ctx context.Context, clusterName string) (Found, error)

	// Create defines a node and leaves it powered off, with all its volumes.
	// It completes a node that an interrupted Create has left unfinished.
	Create(ctx context.Context, clusterName string, n cluster.Node) error

	// Update turns the node old into want. The two have the same name. What
	// a running node cannot change takes effect at its next power-on; the
	// node is neither stopped nor restarted. Volumes that are no longer
	// wanted are deleted, volumes that have grown are resized.
	Update(ctx context.Context, clusterName string, old, want cluster.Node) error

	// Delete removes a node, running or not, with its volumes and all that
	// the platform keeps for it. A node that is not there is no error.
	Delete(ctx context.Context, clusterName string, n cluster.Node) error
}

// Storage is a provider that keeps volumes in pools of the cluster's own.
type Storage interface {
	// CreatePool makes the pool and starts it, whatever of that is missing.
	CreatePool(ctx context.Context, clusterName string, p cluster.Pool) error
	// DeletePool removes the pool. One that still holds volumes or files is
	// left alone, with an error that names some of them.
	DeletePool(ctx context.Context, clusterName string, p cluster.Pool) error
}

// Consoler is a provider whose nodes have a serial console.
type Consoler interface {
	// Console connects to the serial console of a running node. Somebody
	// else who has it loses it if force is set; otherwise that is an error.
	Console(ctx context.Context, clusterName, node string, force bool) (io.ReadWriteCloser, error)
}

// Controls is a provider's side for the BMC process.
type Controls interface {
	// Hardware returns the node with that UUID as a BMC may control it. The
	// node need not exist yet: then its methods return errors until it does.
	Hardware(clusterName, node, uuid string) machine.Hardware

	// Run keeps the power states that Hardware answers with up to date until
	// ctx is done. It survives a restart of the platform; while it has no
	// connection, states are errors and not guesses. ready is called once,
	// when the first states are known or the platform did not answer.
	Run(ctx context.Context, ready func()) error
}
