// Package network is the contract for physical networks on a hypervisor: a
// bridge of ours, perhaps joined to a link of the user's, and persistent taps
// in it. It comes with a suite, network/networktest.
package network

import (
	"context"

	"github.com/tenks/tenks/internal/cluster"
)

// Found is what there is of a cluster's networks on this host. Objects lack
// their Hypervisor: the worker fills it in.
type Found struct {
	Networks  []cluster.Network
	Taps      []cluster.Tap
	Strangers []cluster.Stranger // every link that is not the cluster's, by name
}

// Networks makes physical networks and taps. Methods are level triggered: a
// call that was interrupted is simply made again. Links without the cluster's
// mark are never changed or removed, but for a NIC that a network names as its
// uplink, which is put back as it was when the network goes.
type Networks interface {
	// Observe returns what there is.
	Observe(ctx context.Context, clusterName string) (Found, error)

	// Create makes the bridge and joins its uplink, whatever of that is missing.
	Create(ctx context.Context, clusterName string, n cluster.Network) error

	// Update turns old into want: another uplink, or the repair of a network
	// that is not up. Taps stay in the bridge.
	Update(ctx context.Context, clusterName string, old, want cluster.Network) error

	// Delete removes the bridge and gives the uplink back. A network that is
	// not there is no error. A link of somebody else's in our bridge is an
	// error that names it, before anything is changed.
	Delete(ctx context.Context, clusterName string, n cluster.Network) error

	// CreateTaps makes taps that are missing and puts those that are in
	// another bridge, or in none, where they belong.
	CreateTaps(ctx context.Context, clusterName string, taps []cluster.Tap) error

	// DeleteTaps removes taps; those that are not there are no error. Its
	// cost does not grow with the number of taps.
	DeleteTaps(ctx context.Context, clusterName string, taps []cluster.Tap) error
}
