package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// CreateTaps implements [network.Networks]. All is checked before the first tap
// is made; then they are made in order.
func (n *Networks) CreateTaps(ctx context.Context, clusterName string, taps []cluster.Tap) error {
	return n.job(ctx, clusterName, func(j *job) error {
		if err := j.checkTaps(taps); err != nil {
			return err
		}
		silence := quiet()
		for _, t := range taps {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := j.makeTap(t, silence); err != nil {
				return fmt.Errorf("tap %s of node %s: %w", t.Name, t.Node, err)
			}
		}
		return nil
	})
}

// DeleteTaps implements [network.Networks]. A link of somebody else's with a
// tap's name is not that tap.
func (n *Networks) DeleteTaps(ctx context.Context, clusterName string, taps []cluster.Tap) error {
	return n.job(ctx, clusterName, func(j *job) error {
		var doomed []*link
		for _, t := range taps {
			if l := j.links.byName[t.Name]; l != nil && l.ours(clusterName) && l.mark.Node != "" {
				doomed = append(doomed, l)
			}
		}
		if err := j.doom(doomed); err != nil {
			return fmt.Errorf("taps: %w", err)
		}
		return nil
	})
}

// tap returns the tap of ours with that name, finished or not.
func (j *job) tap(name string) *link {
	l := j.links.byName[name]
	if l == nil || l.Kind != "tuntap" || !l.unfinished(j.cluster, "tuntap") && (!l.ours(j.cluster) || l.mark.Node == "") {
		return nil
	}
	return l
}

// checkTaps looks for all that is in the way of the taps.
func (j *job) checkTaps(taps []cluster.Tap) error {
	var errs []error
	joining := map[string]int{}
	for _, t := range taps {
		errs = append(errs, validName(t.Name))
		l, other := j.tap(t.Name), j.links.byName[t.Name]
		if l == nil && other != nil {
			errs = append(errs, taken(t.Name, other))
		}
		more := 1
		if l != nil && j.links.masterName(l) == t.Bridge {
			more = 0
		}
		joining[t.Bridge] += more
	}
	for _, t := range taps {
		n, first := joining[t.Bridge]
		delete(joining, t.Bridge) // each bridge once, in the order of the taps
		if !first {
			continue
		}
		b := j.links.byName[t.Bridge]
		if b == nil {
			errs = append(errs, hint.Add(fmt.Errorf("tap %s: there is no bridge %s", t.Name, t.Bridge), "run: tenks apply"))
			continue
		}
		if !b.ours(j.cluster) || b.Kind != "bridge" {
			errs = append(errs, fmt.Errorf("tap %s: %w", t.Name, taken(t.Bridge, b)))
			continue
		}
		if all := len(j.links.ports(b.Index)) + n; all > portMax {
			errs = append(errs, hint.Add(
				fmt.Errorf("bridge %s (physical network %s) would have %d ports, and %d is the most for a Linux bridge", b.Name, b.mark.Network, all, portMax),
				"spread the nodes over several physical networks, or over several hypervisors"))
		}
	}
	return errors.Join(errs...)
}

// makeTap makes a tap, or puts one that is there where it belongs.
func (j *job) makeTap(t cluster.Tap, silence []*nl.RtAttr) error {
	alias, err := mark{Cluster: j.cluster, Node: t.Node, Port: t.Port}.alias()
	if err != nil {
		return err
	}
	bridge := j.links.byName[t.Bridge].Index
	settle := func(index int, named ...*nl.RtAttr) error {
		attrs := with(named, setGroup(j.group), setAlias(alias), setMaster(bridge))
		return full(j.kernel.do(change(index, append(attrs, silence...)...), up(index, named...)))
	}
	if l := j.tap(t.Name); l != nil {
		if l.Alias == alias && l.Group == j.group && l.Master == bridge && l.Up {
			return nil
		}
		return settle(l.Index)
	}
	fd, err := openTap(t.Name)
	if err != nil {
		return err
	}
	// Until TUNSETPERSIST the tap goes with the descriptor, however that is closed.
	err = settle(0, setName(t.Name))
	if err == nil {
		if err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
			err = fmt.Errorf("make it stay: %w", err)
		}
	}
	return errors.Join(err, unix.Close(fd))
}

// openTap makes a tap that is there as long as the descriptor. Its flags are
// those with which libvirt and QEMU open it again: one queue, and a header for
// virtio's offloads before each frame.
func openTap(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, hint.Add(fmt.Errorf("open /dev/net/tun: %w", err), "run: tenks doctor")
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("create: %w", err)
	}
	return fd, nil
}
