package ironic

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// Provision states and the verbs between them (Ironic's "Bare Metal State Machine").
const (
	enroll     = "enroll"
	manageable = "manageable"
	available  = "available"
	cleanWait  = "clean wait"

	verbManage  = "manage"
	verbProvide = "provide"
	verbAbort   = "abort"
)

// phase says what Tenks may do with a node in a state.
type phase int

const (
	inUse   phase = iota // somebody has an instance on it, or is about to: hands off
	moving               // passes by itself
	failed               // stays, until the node is managed again
	settled              // enroll, manageable, available
)

// phaseOf sorts the states. One that is not known is taken for one in use.
func phaseOf(state string) phase {
	switch state {
	case enroll, manageable, available:
		return settled
	case "clean failed", "inspect failed", "adopt failed":
		return failed
	case "verifying", "cleaning", cleanWait, "inspecting", "inspect wait", "deleting":
		return moving
	}
	return inUse
}

// settled waits until a node's state does not pass by itself, and reads the
// node again if it had to wait.
func (e *Enroller) settled(ctx context.Context, n *node) (*node, error) {
	if phaseOf(n.State) != moving {
		return n, nil
	}
	if _, err := e.poll.wait(ctx, n.UUID); err != nil {
		return nil, err
	}
	return e.present(ctx, n.UUID)
}

var errGone = errors.New("the node is gone: somebody else has removed it")

// reach brings a complete node to the wanted state, if that is one that Tenks
// brings about. A node that is in use stays as it is: taking it back is for
// those who use it.
func (e *Enroller) reach(ctx context.Context, n *node, want cluster.Enrolment) error {
	if want.State != available && want.State != manageable {
		return nil
	}
	s := n.status
	const most = 8 // the longest way is clean failed, manageable, available
	for range most {
		if s.State == want.State || phaseOf(s.State) == inUse {
			return nil
		}
		var err error
		switch {
		case phaseOf(s.State) == moving:
			s, err = e.poll.wait(ctx, n.UUID)
		case s.State == manageable && s.Maintenance:
			err = hint.Add(fmt.Errorf("the node stays %s: it is %s", s.State, s.trouble()),
				"mend it, then run: openstack baremetal node maintenance unset %s", want.Node)
		case s.State == manageable:
			s, err = e.move(ctx, n.UUID, verbProvide)
		default:
			s, err = e.move(ctx, n.UUID, verbManage)
		}
		if err != nil {
			return err
		}
	}
	return errors.New("the node does not reach its state: somebody else changes it at the same time")
}

// move sends a verb and returns the status when the state has settled. What
// fails is an error with the words of Ironic.
func (e *Enroller) move(ctx context.Context, uuid, verb string) (status, error) {
	err := e.client.do(ctx, http.MethodPut, "/v1/nodes/"+uuid+"/states/provision", map[string]string{"target": verb}, nil)
	if err != nil && !hasStatus(err, http.StatusBadRequest) {
		return status{}, err
	}
	s, waitErr := e.poll.wait(ctx, uuid)
	if waitErr != nil {
		return s, errors.Join(err, waitErr)
	}
	reached := verb == verbManage && s.State == manageable || verb == verbProvide && s.State == available
	switch {
	case reached:
		// A verb that did not fit the state (400) was the echo of one whose
		// answer was lost.
		return s, nil
	case err != nil:
		return s, err
	case verb == verbManage && s.State == enroll:
		return s, hint.Add(fmt.Errorf("ironic cannot manage the node: %s", first(s.trouble(), "no reason given")),
			"see that its BMC answers where Ironic's conductor runs, then apply again")
	case phaseOf(s.State) == failed:
		return s, hint.Add(fmt.Errorf("the node is %s after %q: %s", s.State, verb, first(s.trouble(), "no reason given")),
			"see what Ironic's conductor logs say, then apply again")
	}
	return s, nil // somebody else has moved it: the caller looks again
}

// remove takes a node of ours out of Ironic, with its ports. A node that is in
// use stays. A node that is not there is no error.
func (e *Enroller) remove(ctx context.Context, clusterName string, old cluster.Enrolment) error {
	n, err := e.get(ctx, old.UUID)
	if err != nil || n == nil {
		return err
	}
	if !n.ours(clusterName, old.Node) {
		return hint.Add(fmt.Errorf("node %s (UUID %s) is not the cluster's: %s", n.Name, n.UUID, n.owner()),
			"remove it from Ironic if nobody needs it: openstack baremetal node delete %s", n.UUID)
	}
	s := n.status
	const most = 8
	for range most {
		if phaseOf(s.State) == inUse || s.InstanceUUID != "" {
			return hint.Add(fmt.Errorf("the node is in use: its state is %q", s.State),
				"take it back first: openstack baremetal node undeploy %s", old.Node)
		}
		switch {
		case s.Maintenance, phaseOf(s.State) == settled:
			err = e.client.do(ctx, http.MethodDelete, n.path(), nil, nil)
			if err == nil || hasStatus(err, http.StatusNotFound) {
				return nil
			}
			if s.State != available || !refused(err) {
				return err
			}
			_, err = e.move(ctx, n.UUID, verbManage) // this Ironic keeps available nodes
		case s.State == cleanWait || s.State == "inspect wait":
			err = e.abort(ctx, n.UUID)
		case phaseOf(s.State) == failed:
			_, err = e.move(ctx, n.UUID, verbManage)
		}
		if err == nil {
			s, err = e.poll.wait(ctx, n.UUID)
		}
		if errors.Is(err, errGone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("the node does not come to rest: somebody else changes it at the same time")
}

// abort ends a state that waits for something outside. That it has ended
// meanwhile is no error.
func (e *Enroller) abort(ctx context.Context, uuid string) error {
	err := e.client.do(ctx, http.MethodPut, "/v1/nodes/"+uuid+"/states/provision", map[string]string{"target": verbAbort}, nil)
	if hasStatus(err, http.StatusBadRequest) {
		return nil
	}
	return err
}
