// Package libvirt keeps nodes as libvirt domains of QEMU, with volumes in a
// storage pool of the cluster's own. All that says domain, pool or XML is in
// here; its users see package provider.
//
// What Tenks must remember of a node is in the domain's own metadata, so that a
// domain is known to be ours, and what was asked for, without any other file.
// A domain is defined before its volumes are made and goes after they are
// gone: whatever an interrupted run leaves can be found again.
//
// libvirt is used through its socket and API alone; no path is assumed beyond
// what the API tells.
package libvirt

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/provider"
)

// DefaultSocket is where libvirtd listens for those who may change things.
const DefaultSocket = "/run/libvirt/libvirt-sock"

// KVM says whether guests run on the processor or in emulation.
type KVM string

// Choices of KVM.
const (
	// KVMAuto runs a small guest and uses KVM if it gets to its end: a
	// /dev/kvm that can be opened proves nothing.
	KVMAuto KVM = ""
	KVMOn   KVM = "on"
	KVMOff  KVM = "off"
)

// Options adjust [New]. The zero value is usable.
type Options struct {
	// Socket of libvirtd; empty means [DefaultSocket].
	Socket string
	// StateDir is an existing folder that keeps the verdict on KVM between
	// runs; empty means that every process finds out for itself.
	StateDir string
	// KVM for new nodes.
	KVM KVM
	// Silence is how long libvirtd may leave a call unanswered before the
	// call is given up; 0 means a minute.
	Silence time.Duration
	// Log is for what the program goes on after; nil discards.
	Log *slog.Logger
}

// Provider keeps nodes in libvirt. See [New].
type Provider struct {
	o     Options
	work  *pool // changes, which can take seconds
	query *pool // quick questions, never behind a change
	power powerCache

	kvm struct {
		sync.Mutex
		kind string // "kvm", "qemu"; empty: not known yet
	}
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Storage  = (*Provider)(nil)
	_ provider.Consoler = (*Provider)(nil)
	_ provider.Controls = (*Provider)(nil)
)

// workConnections is how many changes are made at a time. libvirtd takes five
// calls at a time from one connection, so each has one of its own.
const workConnections = 4

// New returns a provider. It connects when it is first used.
func New(o Options) *Provider {
	if o.Socket == "" {
		o.Socket = DefaultSocket
	}
	if o.Silence == 0 {
		o.Silence = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := dialer{socket: o.Socket, silence: o.Silence}
	return &Provider{o: o, work: newPool(d, workConnections), query: newPool(d, 1)}
}

// Close ends the provider's idle connections. It can still be used.
func (p *Provider) Close() error {
	p.work.close()
	p.query.close()
	return nil
}

// is tells whether libvirt answered with that error.
func is(err error, code libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}

// opt is an optional string in libvirt's protocol.
func opt(s string) libvirt.OptString { return libvirt.OptString{s} }

func formatUUID(u libvirt.UUID) string {
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func parseUUID(s string) (libvirt.UUID, error) {
	var u libvirt.UUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(u) {
		return u, fmt.Errorf("%q is no UUID", s)
	}
	copy(u[:], b)
	return u, nil
}

// found is a domain and what its XML says.
type found struct {
	dom  libvirt.Domain
	xml  *element // its persistent definition
	mark mark
	ours bool   // it carries the cluster's mark
	who  string // whose it is, in words, if it is not ours
}

// read reads a domain's definition.
func read(l *libvirt.Libvirt, dom libvirt.Domain, clusterName string) (found, error) {
	f := found{dom: dom}
	text, err := l.DomainGetXMLDesc(dom, libvirt.DomainXMLInactive|libvirt.DomainXMLSecure)
	if err != nil {
		return f, err
	}
	if f.xml, err = parseXML(text); err != nil {
		return f, fmt.Errorf("domain %s: %w", dom.Name, err)
	}
	m, marked, err := findMark(f.xml)
	switch {
	case err != nil:
		f.who = "made by Tenks, with metadata that cannot be read"
	case !marked:
		f.who = "not made by Tenks"
	case m.Cluster != clusterName:
		f.who = fmt.Sprintf("cluster %q", m.Cluster)
	default:
		f.mark, f.ours, f.who = m, true, "this cluster's, under another name"
	}
	return f, nil
}

// lookup finds the domain that has the node's name or UUID. It is nil if there
// is none.
func lookup(l *libvirt.Libvirt, clusterName, name, uuid string) (*found, error) {
	dom, err := l.DomainLookupByName(name)
	if libvirt.IsNotFound(err) && uuid != "" {
		var u libvirt.UUID
		if u, err = parseUUID(uuid); err == nil {
			dom, err = l.DomainLookupByUUID(u)
		}
	}
	if libvirt.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	f, err := read(l, dom, clusterName)
	if libvirt.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return &f, nil
}

// stranger is the error for a name that somebody else's domain has.
func stranger(node string, f *found) error {
	return hint.Add(fmt.Errorf("node %s: domain %q (UUID %s) is in the way: %s", node, f.dom.Name, formatUUID(f.dom.UUID), f.who),
		"choose another name for the node, or see to the domain: virsh dominfo %s", f.dom.Name)
}

// absent is the error for a node that should be there.
func absent(node string) error {
	return hint.Add(fmt.Errorf("node %s: no such domain of this cluster", node), "run: tenks apply")
}

// nodeError names the node in an error of libvirt's, if there is one.
func nodeError(n string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("node %s: %w", n, err)
}

// findVolume returns the volume of that name.
func findVolume(vs []cluster.Volume, name string) (cluster.Volume, bool) {
	for _, v := range vs {
		if v.Name == name {
			return v, true
		}
	}
	return cluster.Volume{}, false
}
