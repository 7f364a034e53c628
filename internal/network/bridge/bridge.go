// Package bridge makes physical networks from Linux bridges, over rtnetlink(7):
// one bridge per network, a NIC or a veth pair as its uplink, persistent taps
// as its ports. What Open vSwitch would do is not here.
//
// # Marks
//
// The alias of a link says whose it is ("tenks cluster=dev network=provision …",
// "tenks cluster=dev node=dev-0 port=0"); that alone makes a link ours. The
// link group ([cluster.LinkGroup]) is for handling many links at once, and never
// a proof: a hash is not unique.
//
// A killed process leaves no link without a mark. The kernel is given the
// creation of a bridge or a veth pair and its alias in one message, which one
// system call carries out; a tap goes away with the process that made it until
// it has its alias and is told to stay.
//
// # Uplinks
//
// A NIC becomes a port of our bridge and gets no mark; whether it was up is
// remembered in the alias of the bridge. A bridge of the user's gets one end of
// a veth pair as a port and nothing else: the pair has its MTU, and a MAC
// address that does not become the bridge's.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/vishvananda/netlink/nl"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/network"
)

// Networks makes physical networks in the network namespace of the calling
// thread. It is safe for concurrent use; changes are made one after the other.
type Networks struct {
	log *slog.Logger
	mu  sync.Mutex // held by whoever changes something
}

var _ network.Networks = (*Networks)(nil)

// New returns the networks of this machine. A nil log discards.
func New(log *slog.Logger) *Networks {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Networks{log: log}
}

// Observe implements [network.Networks]. A tap that is down is found in no
// bridge: it is not of use there.
func (n *Networks) Observe(ctx context.Context, clusterName string) (network.Found, error) {
	if err := ctx.Err(); err != nil {
		return network.Found{}, err
	}
	s, err := readLinks()
	if err != nil {
		return network.Found{}, err
	}
	var f network.Found
	f.Networks, f.Taps, f.Strangers = s.found(clusterName)
	return f, nil
}

// Create implements [network.Networks].
func (n *Networks) Create(ctx context.Context, clusterName string, want cluster.Network) error {
	return n.job(ctx, clusterName, func(j *job) error {
		if err := j.converge(want); err != nil {
			return fmt.Errorf("physical network %s: %w", want.Name, err)
		}
		return nil
	})
}

// Update implements [network.Networks]. What is there is read again: old is not
// needed.
func (n *Networks) Update(ctx context.Context, clusterName string, _, want cluster.Network) error {
	return n.Create(ctx, clusterName, want)
}

// Delete implements [network.Networks].
func (n *Networks) Delete(ctx context.Context, clusterName string, gone cluster.Network) error {
	return n.job(ctx, clusterName, func(j *job) error {
		if err := j.remove(gone); err != nil {
			return fmt.Errorf("physical network %s: %w", gone.Name, err)
		}
		return nil
	})
}

// job is one call that changes something: the links as they were found, and
// the way to the kernel.
type job struct {
	kernel  *conn
	cluster string
	group   uint32
	links   *links
	log     *slog.Logger
}

func (n *Networks) job(ctx context.Context, clusterName string, do func(*job) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := readLinks()
	if err != nil {
		return err
	}
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	return do(&job{kernel: c, cluster: clusterName, group: cluster.LinkGroup(clusterName), links: s, log: n.log})
}

// taken is the error for a name that a stranger has.
func taken(name string, by *link) error {
	return hint.Add(fmt.Errorf("link %s exists already: %s", name, by.owner()),
		"see what it is for (ip -d link show %s), then remove or rename it", by.Name)
}

// doom deletes links of ours at once, and makes the requests of after in the
// same breath. The links are put into a group that nobody else uses, and the
// group is deleted, once it is certain that there is nothing else in it.
func (j *job) doom(links []*link, after ...*nl.NetlinkRequest) error {
	if len(links) == 0 {
		return nil
	}
	group := j.links.freeGroup()
	mine := make(map[int]bool, len(links))
	var moves []*nl.NetlinkRequest
	for _, l := range links {
		mine[l.Index] = true
		moves = append(moves, change(l.Index, setGroup(group)))
	}
	if err := j.kernel.doMany(moves); err != nil {
		return fmt.Errorf("put %d links into a group: %w", len(links), err)
	}
	now, err := readLinks()
	if err != nil {
		return err
	}
	for _, l := range now.all {
		if l.Group == group && (!mine[l.Index] || !l.ours(j.cluster)) {
			return fmt.Errorf("link %s (%s) is in group %d, which is to be deleted", l.Name, l.owner(), group)
		}
	}
	if err := j.kernel.do(append([]*nl.NetlinkRequest{deleteGroup(group)}, after...)...); err != nil {
		return fmt.Errorf("delete %d links: %w", len(links), err)
	}
	return nil
}

// deaf keeps a bridge from taking part in IPv6 on its nodes' network: without
// an address of its own it would still make one from a router's advertisement.
func (j *job) deaf(bridge string) {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+bridge+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // no IPv6 here at all
		j.log.Warn("IPv6 stays on for a bridge", "bridge", bridge, "err", err)
	}
}
