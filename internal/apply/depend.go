package apply

import (
	"fmt"
	"net"
	"strconv"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/plan"
)

// key is something that a step stands on: something that must be there, or that
// must be gone.
type key struct {
	what       what
	hypervisor string // empty where names are the cluster's
	name       string
}

type what int

// What steps stand on. The first group is spoilt by steps that create, the
// second by steps that remove.
const (
	poolThere what = iota
	networkThere
	bridgeThere
	tapThere
	nodeThere // created
	nodeRight // created, or updated
	bmcRight
	cloudThere

	unenrolled
	allUnenrolled
	bmcGone
	nodeGone
	addressFree
	networkFree // of nodes that stood on it
	bridgeFree  // of taps that were in it
	poolFree
	uplinkFree
)

// needs are what the step stands on. For steps with many objects it is asked
// for each of them (see parts).
func needs(s plan.Step) []key {
	h := s.Where()
	switch s := s.(type) {
	case plan.DeleteBMCs:
		return list(s.BMCs, func(b cluster.BMC) []key { return []key{{unenrolled, "", b.Node}} })
	case plan.DeleteNode:
		return []key{{unenrolled, "", s.Node.Name}, {bmcGone, "", s.Node.Name}}
	case plan.DeleteTaps:
		return list(s.Taps, func(t cluster.Tap) []key { return []key{{nodeGone, "", t.Node}, {nodeRight, "", t.Node}} })
	case plan.DeleteNetwork:
		return []key{{networkFree, h, s.Network.Name}, {bridgeFree, h, s.Network.Bridge}}
	case plan.DeletePool:
		return []key{{poolFree, h, s.Pool.Name}}
	case plan.CreateNetwork:
		return []key{{uplinkFree, h, s.Network.Uplink}}
	case plan.UpdateNetwork:
		return []key{{uplinkFree, h, s.New.Uplink}}
	case plan.CreateTaps:
		return list(s.Taps, func(t cluster.Tap) []key { return []key{{bridgeThere, h, t.Bridge}} })
	case plan.CreateNode:
		return standsOn(s.Node)
	case plan.UpdateNode:
		return standsOn(s.New)
	case plan.CreateBMCs:
		return list(s.BMCs, func(b cluster.BMC) []key { return []key{{nodeThere, "", b.Node}, {addressFree, h, address(b)}} })
	case plan.UpdateBMCs:
		return list(s.New, func(b cluster.BMC) []key { return []key{{addressFree, h, address(b)}} })
	case plan.ForgetCloud:
		return []key{{what: allUnenrolled}}
	case plan.Enrol:
		return enrolledOn(s.Enrolment.Node)
	case plan.UpdateEnrolment:
		return enrolledOn(s.New.Node)
	}
	return nil
}

// spoils are what others cannot stand on when the step has failed.
func spoils(s plan.Step) []key {
	h := s.Where()
	switch s := s.(type) {
	case plan.Unenrol:
		return []key{{unenrolled, "", s.Enrolment.Node}, {what: allUnenrolled}}
	case plan.DeleteBMCs:
		return list(s.BMCs, func(b cluster.BMC) []key { return []key{{bmcGone, "", b.Node}, {addressFree, h, address(b)}} })
	case plan.DeleteNode:
		return append(leaves(s.Node), key{nodeGone, "", s.Node.Name})
	case plan.DeleteTaps:
		return list(s.Taps, func(t cluster.Tap) []key { return []key{{bridgeFree, h, t.Bridge}} })
	case plan.DeleteNetwork:
		return []key{{uplinkFree, h, s.Network.Uplink}}
	case plan.CreatePool:
		return []key{{poolThere, h, s.Pool.Name}}
	case plan.CreateNetwork:
		return []key{{networkThere, h, s.Network.Name}, {bridgeThere, h, s.Network.Bridge}}
	case plan.UpdateNetwork:
		spoilt := []key{{networkThere, h, s.New.Name}, {bridgeThere, h, s.New.Bridge}}
		if s.Old.Uplink != s.New.Uplink {
			spoilt = append(spoilt, key{uplinkFree, h, s.Old.Uplink})
		}
		return spoilt
	case plan.CreateTaps:
		return append(list(s.Taps, func(t cluster.Tap) []key { return []key{{tapThere, h, t.Name}} }),
			list(s.Old, func(t cluster.Tap) []key { return []key{{bridgeFree, h, t.Bridge}} })...)
	case plan.CreateNode:
		return []key{{nodeThere, "", s.Node.Name}, {nodeRight, "", s.Node.Name}}
	case plan.UpdateNode:
		return append(leaves(s.Old), key{nodeRight, "", s.New.Name})
	case plan.CreateBMCs:
		return list(s.BMCs, func(b cluster.BMC) []key { return []key{{bmcRight, "", b.Node}} })
	case plan.UpdateBMCs:
		return append(list(s.New, func(b cluster.BMC) []key { return []key{{bmcRight, "", b.Node}} }),
			list(s.Old, func(b cluster.BMC) []key { return []key{{addressFree, h, address(b)}} })...)
	case plan.RememberCloud:
		return []key{{what: cloudThere}}
	}
	return nil
}

func list[T any](objects []T, f func(T) []key) []key {
	var keys []key
	for _, x := range objects {
		keys = append(keys, f(x)...)
	}
	return keys
}

// standsOn is what a node needs on its hypervisor.
func standsOn(n cluster.Node) []key {
	var keys []key
	for _, v := range n.Volumes {
		if v.Pool != "" {
			keys = append(keys, key{poolThere, n.Hypervisor, v.Pool})
		}
	}
	for _, p := range n.Ports {
		if p.Tap != "" {
			keys = append(keys, key{tapThere, n.Hypervisor, p.Tap}, key{networkThere, n.Hypervisor, p.Network})
		}
	}
	return keys
}

// leaves is what a node that is still there keeps from being removed.
func leaves(n cluster.Node) []key {
	var keys []key
	for _, v := range n.Volumes {
		keys = append(keys, key{poolFree, n.Hypervisor, v.Pool})
	}
	for _, p := range n.Ports {
		keys = append(keys, key{networkFree, n.Hypervisor, p.Network})
	}
	return keys
}

// enrolledOn is what a node needs to be enrolled.
func enrolledOn(node string) []key {
	return []key{{unenrolled, "", node}, {nodeThere, "", node}, {nodeRight, "", node}, {bmcRight, "", node}, {what: cloudThere}}
}

func address(b cluster.BMC) string { return net.JoinHostPort(b.Address, strconv.Itoa(b.Port)) }

// block is a step that others cannot stand on, and what happened to it.
type block struct {
	step plan.Step
	how  string
}

// block remembers that the step was not carried out.
func (r *run) block(b block) {
	for _, part := range parts(b.step) {
		words := where(part) + ": " + object(part) + " " + b.how
		for _, k := range spoils(part) {
			if _, known := r.blocked[k]; !known && (k.name != "" || k.what == cloudThere || k.what == allUnenrolled) {
				r.blocked[k] = words
			}
		}
	}
}

// skip is a step that is not carried out.
type skip struct {
	step   plan.Step
	reason error
}

// split returns what of a step can be carried out, nil if nothing, and what
// cannot, by reason.
func (r *run) split(s plan.Step) (plan.Step, []skip) {
	if len(r.blocked) == 0 {
		return s, nil
	}
	var rest []plan.Step
	var skipped []skip
	byReason := map[string][]plan.Step{}
	var reasons []string
	for _, part := range parts(s) {
		why := r.why(part)
		if why == "" {
			rest = append(rest, part)
			continue
		}
		if byReason[why] == nil {
			reasons = append(reasons, why)
		}
		byReason[why] = append(byReason[why], part)
	}
	for _, why := range reasons {
		skipped = append(skipped, skip{whole(byReason[why]), fmt.Errorf("%s: %s: skipped, since %s", where(s), object(whole(byReason[why])), why)})
	}
	if rest == nil {
		return nil, skipped
	}
	return whole(rest), skipped
}

// why says what keeps a step from being carried out; empty: nothing.
func (r *run) why(s plan.Step) string {
	for _, k := range needs(s) {
		if words, bad := r.blocked[k]; bad {
			return words
		}
	}
	return ""
}

// parts cuts a step with many objects into one step for each.
func parts(s plan.Step) []plan.Step {
	var out []plan.Step
	switch s := s.(type) {
	case plan.CreateTaps:
		old := map[string]cluster.Tap{}
		for _, t := range s.Old {
			old[t.Name] = t
		}
		for _, t := range s.Taps {
			part := plan.CreateTaps{Hypervisor: s.Hypervisor, Taps: []cluster.Tap{t}}
			if o, there := old[t.Name]; there {
				part.Old = []cluster.Tap{o}
			}
			out = append(out, part)
		}
	case plan.DeleteTaps:
		for i := range s.Taps {
			out = append(out, plan.DeleteTaps{Hypervisor: s.Hypervisor, Taps: s.Taps[i : i+1]})
		}
	case plan.CreateBMCs:
		for i := range s.BMCs {
			out = append(out, plan.CreateBMCs{Hypervisor: s.Hypervisor, BMCs: s.BMCs[i : i+1]})
		}
	case plan.UpdateBMCs:
		for i := range s.New {
			out = append(out, plan.UpdateBMCs{Hypervisor: s.Hypervisor, Old: s.Old[i : i+1], New: s.New[i : i+1]})
		}
	case plan.DeleteBMCs:
		for i := range s.BMCs {
			out = append(out, plan.DeleteBMCs{Hypervisor: s.Hypervisor, BMCs: s.BMCs[i : i+1]})
		}
	default:
		out = []plan.Step{s}
	}
	return out
}

// whole puts parts of one step together again.
func whole(parts []plan.Step) plan.Step {
	switch first := parts[0].(type) {
	case plan.CreateTaps:
		w := plan.CreateTaps{Hypervisor: first.Hypervisor}
		for _, p := range parts {
			w.Taps, w.Old = append(w.Taps, p.(plan.CreateTaps).Taps...), append(w.Old, p.(plan.CreateTaps).Old...)
		}
		return w
	case plan.DeleteTaps:
		w := plan.DeleteTaps{Hypervisor: first.Hypervisor}
		for _, p := range parts {
			w.Taps = append(w.Taps, p.(plan.DeleteTaps).Taps...)
		}
		return w
	case plan.CreateBMCs:
		w := plan.CreateBMCs{Hypervisor: first.Hypervisor}
		for _, p := range parts {
			w.BMCs = append(w.BMCs, p.(plan.CreateBMCs).BMCs...)
		}
		return w
	case plan.UpdateBMCs:
		w := plan.UpdateBMCs{Hypervisor: first.Hypervisor}
		for _, p := range parts {
			w.Old, w.New = append(w.Old, p.(plan.UpdateBMCs).Old...), append(w.New, p.(plan.UpdateBMCs).New...)
		}
		return w
	case plan.DeleteBMCs:
		w := plan.DeleteBMCs{Hypervisor: first.Hypervisor}
		for _, p := range parts {
			w.BMCs = append(w.BMCs, p.(plan.DeleteBMCs).BMCs...)
		}
		return w
	}
	return parts[0]
}
