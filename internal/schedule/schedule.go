// Package schedule decides what the nodes of a cluster are called, where they
// are, and which addresses they have: it makes the wanted State from the
// cluster file and from what was found.
//
// What exists keeps its name, hypervisor, UUID, MAC and BMC addresses for life;
// only what is new is decided, always the same way for the same input. Nothing
// is compared here: that is for package plan. The package is pure.
package schedule

import (
	"cmp"
	"errors"
	"slices"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/hint"
)

// Options adjust Place.
type Options struct {
	// Hypervisors are the names of those that may get new nodes, at least one.
	Hypervisors []string
	// Cloud is the ID of the service that nodes are enrolled in (see
	// enrol.Enroller); empty: not known.
	Cloud string
	// NewSecret makes a random password. It is called at most once, when BMCs
	// need a password and the cluster has none yet.
	NewSecret func() cluster.Secret
}

// Place returns the cluster that f asks for, given what was found. All errors
// are returned at once, joined, with hints; the State is then of no use.
//
// While it is unknown what a hypervisor or a provider has, no nodes are added
// that may be there already, and nobody gets a name that may be theirs.
func Place(f config.File, found cluster.State, o Options) (cluster.State, error) {
	p := &placer{file: f, found: found, options: o, want: cluster.State{Cluster: f.Cluster}}
	p.placeNodes()
	p.placeLinks()
	p.placeBMCs()
	p.placeEnrolments()
	if err := errors.Join(p.errs...); err != nil {
		return cluster.State{}, err
	}
	sortState(&p.want)
	return p.want, nil
}

// placer is a Place under way.
type placer struct {
	file    config.File
	found   cluster.State
	options Options
	want    cluster.State
	errs    []error
	foreign map[string]bool // MAC addresses of strangers
	macs    map[string]bool // MAC addresses in use
}

func (p *placer) fail(err error, hintFormat string, args ...any) {
	p.errs = append(p.errs, hint.Add(err, hintFormat, args...))
}

// nodeType returns the type of that name; package config has checked that it is there.
func (p *placer) nodeType(name string) (config.NodeType, bool) {
	i := slices.IndexFunc(p.file.NodeTypes, func(t config.NodeType) bool { return t.Name == name })
	if i < 0 {
		return config.NodeType{}, false
	}
	return p.file.NodeTypes[i], true
}

// unknown tells whether a hypervisor has, or may have, nodes of the provider
// that are not among those found.
func (p *placer) unknown(provider string) bool {
	return slices.ContainsFunc(p.found.Unknown, func(u cluster.Unknown) bool {
		return u.Hypervisor != "" && (u.Provider == "" || u.Provider == provider)
	})
}

func sortState(s *cluster.State) {
	slices.SortFunc(s.Pools, func(a, b cluster.Pool) int {
		return cmp.Or(cmp.Compare(a.Hypervisor, b.Hypervisor), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Networks, func(a, b cluster.Network) int {
		return cmp.Or(cmp.Compare(a.Hypervisor, b.Hypervisor), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Taps, func(a, b cluster.Tap) int {
		return cmp.Or(cmp.Compare(a.Hypervisor, b.Hypervisor), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Nodes, func(a, b cluster.Node) int {
		return cmp.Or(cmp.Compare(a.Hypervisor, b.Hypervisor), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.BMCs, func(a, b cluster.BMC) int {
		return cmp.Or(cmp.Compare(a.Hypervisor, b.Hypervisor), cmp.Compare(a.Node, b.Node))
	})
	slices.SortFunc(s.Clouds, func(a, b cluster.Cloud) int { return cmp.Compare(a.Hypervisor, b.Hypervisor) })
	slices.SortFunc(s.Enrolments, func(a, b cluster.Enrolment) int { return cmp.Compare(a.Node, b.Node) })
}

// errNoHypervisor is returned if nodes are wanted and there is nowhere to put them.
var errNoHypervisor = errors.New("no hypervisor for new nodes")
