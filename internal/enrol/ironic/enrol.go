package ironic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// ensure makes a node as wanted, from whatever it is: absent, half-made by a
// run that was killed, or different. Attributes, traits and ports come before
// the state, so that nobody sees an available node that is not complete.
func (e *Enroller) ensure(ctx context.Context, clusterName string, want cluster.Enrolment) error {
	n, created, err := e.create(ctx, clusterName, want)
	if err != nil {
		return err
	}
	var ports []port
	if !created {
		if n, err = e.settled(ctx, n); err != nil {
			return err
		}
		if ports, err = e.client.ports(ctx, "node", n.UUID); err != nil {
			return err
		}
	}
	err = e.complete(ctx, clusterName, n, want, ports)
	if refused(err) && n.State == available {
		// Some attributes may not change while the node is on offer.
		if _, err := e.move(ctx, n.UUID, verbManage); err != nil {
			return err
		}
		if n, err = e.present(ctx, n.UUID); err != nil {
			return err
		}
		if ports, err = e.client.ports(ctx, "node", n.UUID); err != nil {
			return err
		}
		err = e.complete(ctx, clusterName, n, want, ports)
	}
	if err != nil {
		return err
	}
	return e.reach(ctx, n, want)
}

// refused tells whether a change was refused because of the node's state.
func refused(err error) bool {
	var answer *apiError
	return errors.As(err, &answer) && answer.Status == http.StatusConflict && !answer.locked() &&
		strings.Contains(answer.Text, "state")
}

// get reads a node; a node that does not exist is nil.
func (e *Enroller) get(ctx context.Context, ident string) (*node, error) {
	var n node
	err := e.client.do(ctx, http.MethodGet, query("/v1/nodes/"+url.PathEscape(ident), "fields", e.client.nodeFields()), nil, &n)
	if hasStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &n, nil
}

// present reads a node that must exist.
func (e *Enroller) present(ctx context.Context, uuid string) (*node, error) {
	n, err := e.get(ctx, uuid)
	if err == nil && n == nil {
		err = errGone
	}
	return n, err
}

// create finds the node or makes it. A node that has its UUID or its name and
// is not ours is an error.
func (e *Enroller) create(ctx context.Context, clusterName string, want cluster.Enrolment) (n *node, created bool, err error) {
	n, err = e.get(ctx, want.UUID)
	if err != nil {
		return nil, false, err
	}
	if n == nil {
		n = new(node)
		err = e.client.do(ctx, http.MethodPost, "/v1/nodes", wantedNode(clusterName, want), n, string(want.Password))
		if err == nil {
			return n, true, nil
		}
		if !hasStatus(err, http.StatusConflict) {
			return nil, false, err
		}
		if n, err = e.holder(ctx, want, err); err != nil {
			return nil, false, err
		}
	}
	if !n.ours(clusterName, want.Node) {
		return nil, false, hint.Add(fmt.Errorf("node %s (UUID %s) is in Ironic already: %s", n.Name, n.UUID, n.owner()),
			"remove it from Ironic, or choose other names (name_prefix)")
	}
	if n.UUID != want.UUID {
		return nil, false, hint.Add(fmt.Errorf("node %s is in Ironic with the UUID %s, not %s", n.Name, n.UUID, want.UUID),
			"remove it from Ironic: openstack baremetal node delete %s", n.UUID)
	}
	return n, false, nil
}

// holder is the node that a creation is in conflict with: one of that name, or
// the wanted one after all, if an answer was lost on the way.
func (e *Enroller) holder(ctx context.Context, want cluster.Enrolment, conflict error) (*node, error) {
	for _, ident := range []string{want.UUID, want.Node} {
		n, err := e.get(ctx, ident)
		if n != nil || err != nil {
			return n, err
		}
	}
	return nil, conflict
}

// complete gives the node its attributes, traits and ports. The traits come
// before the mark that names them: a run that is killed in between then leaves
// a difference behind that the next run sees.
func (e *Enroller) complete(ctx context.Context, clusterName string, n *node, want cluster.Enrolment, ports []port) error {
	if err := e.traits(ctx, n, want.Traits); err != nil {
		return err
	}
	if err := e.patch(ctx, clusterName, n, want); err != nil {
		return err
	}
	return e.ports(ctx, clusterName, n, want, ports)
}

// patch changes the attributes of a node. If somebody else has changed the node
// since it was read, so that the patch does not fit, it is read again.
func (e *Enroller) patch(ctx context.Context, clusterName string, n *node, want cluster.Enrolment) error {
	const most = 10
	for attempt := 1; ; attempt++ {
		patch := n.nodePatch(clusterName, want)
		if patch == nil {
			return nil
		}
		path := n.path()
		if n.Driver != want.Driver && e.client.minor >= resetMinor {
			path += "?reset_interfaces=true"
		}
		err := e.client.do(ctx, http.MethodPatch, path, patch, nil, string(want.Password))
		if !misfit(err) || attempt == most {
			return err
		}
		again, readErr := e.get(ctx, n.UUID)
		if again == nil || readErr != nil {
			return errors.Join(err, readErr)
		}
		n = again
	}
}

// misfit tells whether a patch was refused because the node is no longer what
// the patch was made for.
func misfit(err error) bool {
	var answer *apiError
	return errors.As(err, &answer) && answer.Status == http.StatusBadRequest && strings.Contains(answer.Text, "apply patch")
}

// traits sets the wanted traits and removes those that Tenks had set before.
func (e *Enroller) traits(ctx context.Context, n *node, want []string) error {
	old, _ := n.mark()
	traits := slices.Clone(want)
	for _, t := range n.Traits {
		if !slices.Contains(old.Traits, t) {
			traits = append(traits, t) // somebody else's
		}
	}
	slices.Sort(traits)
	traits = slices.Compact(traits)
	if slices.Equal(traits, slices.Sorted(slices.Values(n.Traits))) {
		return nil
	}
	if traits == nil {
		traits = []string{} // null is refused
	}
	return e.client.do(ctx, http.MethodPut, n.path()+"/traits", map[string]any{"traits": traits}, nil)
}

// ports makes the ports as wanted and removes those that Tenks had made before.
func (e *Enroller) ports(ctx context.Context, clusterName string, n *node, want cluster.Enrolment, have []port) error {
	for _, p := range have {
		_, ours := p.mark()
		wanted := slices.ContainsFunc(want.Ports, func(w cluster.EnrolledPort) bool { return strings.EqualFold(w.MAC, p.Address) })
		if !ours || wanted {
			continue
		}
		err := e.client.do(ctx, http.MethodDelete, "/v1/ports/"+p.UUID, nil, nil)
		if err != nil && !hasStatus(err, http.StatusNotFound) {
			return err
		}
	}
	for _, w := range want.Ports {
		at := slices.IndexFunc(have, func(p port) bool { return strings.EqualFold(p.Address, w.MAC) })
		var err error
		if at >= 0 {
			err = e.patchPort(ctx, clusterName, have[at], want, w)
		} else {
			err = e.createPort(ctx, clusterName, n, want, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// createPort makes a port. A port of the node that has the MAC address already
// is taken over; one of another node is an error.
func (e *Enroller) createPort(ctx context.Context, clusterName string, n *node, want cluster.Enrolment, w cluster.EnrolledPort) error {
	body := wantedPort(clusterName, want, w)
	err := e.client.do(ctx, http.MethodPost, "/v1/ports", body, nil)
	if !hasStatus(err, http.StatusConflict) {
		return err
	}
	there, listErr := e.client.ports(ctx, "address", w.MAC)
	if listErr != nil || len(there) == 0 {
		return errors.Join(err, listErr)
	}
	if there[0].Node == n.UUID {
		return e.patchPort(ctx, clusterName, there[0], want, w)
	}
	m, ok := there[0].mark()
	return hint.Add(fmt.Errorf("MAC address %s belongs to a port of Ironic node %s already: %s", w.MAC, there[0].Node, owner(m.Cluster, ok)),
		"remove that port from Ironic: openstack baremetal port delete %s", there[0].UUID)
}

// patchPort makes an existing port of the node as wanted.
func (e *Enroller) patchPort(ctx context.Context, clusterName string, p port, want cluster.Enrolment, w cluster.EnrolledPort) error {
	var patch []change
	if p.PXE != w.PXE {
		patch = append(patch, change{"add", "/pxe_enabled", w.PXE})
	}
	switch {
	case p.Network == w.Network:
	case w.Network == "":
		patch = append(patch, change{Op: "remove", Path: "/physical_network"})
	default:
		patch = append(patch, change{"add", "/physical_network", w.Network})
	}
	if m, _ := p.mark(); m != (portMark{clusterName, want.Node}) {
		patch = append(patch, change{"add", "/extra/" + extraKey, portMark{clusterName, want.Node}})
	}
	if patch == nil {
		return nil
	}
	return e.client.do(ctx, http.MethodPatch, "/v1/ports/"+p.UUID, patch, nil)
}
