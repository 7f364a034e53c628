package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// Changes implements [Step].
func (s CreatePool) Changes() []Change {
	if s.Reason != "" {
		return one(Change{Kind: Update, Object: poolName(s.Pool), Reason: s.Reason})
	}
	return one(Change{Kind: Add, Object: poolName(s.Pool)})
}

// Changes implements [Step].
func (s DeletePool) Changes() []Change { return one(Change{Kind: Remove, Object: poolName(s.Pool)}) }

// Changes implements [Step].
func (s CreateNetwork) Changes() []Change {
	detail := "bridge " + s.Network.Bridge
	if s.Network.Uplink != "" {
		detail += ", uplink " + s.Network.Uplink
	}
	return one(Change{Kind: Add, Object: "physical network " + s.Network.Name, Detail: detail})
}

// needed tells whether the step changes anything.
func (s UpdateNetwork) needed() bool { c := s.Changes()[0]; return len(c.Fields) > 0 || c.Reason != "" }

// Changes implements [Step].
func (s UpdateNetwork) Changes() []Change {
	var f fields
	f.add("bridge", s.Old.Bridge, s.New.Bridge)
	f.add("uplink", s.Old.Uplink, s.New.Uplink)
	reason := ""
	if s.New.Up && !s.Old.Up {
		reason = "is not up"
	}
	return one(Change{Kind: Update, Object: networkName(s.New), Fields: f, Reason: reason})
}

// Changes implements [Step].
func (s DeleteNetwork) Changes() []Change {
	return one(Change{Kind: Remove, Object: networkName(s.Network)})
}

// Changes implements [Step].
func (s CreateTaps) Changes() []Change {
	old := byKey(s.Old, tapKey)
	return each(s.Taps, func(t cluster.Tap) Change {
		if o, moved := old[tapKey(t)]; moved {
			var f fields
			f.add("bridge", o.Bridge, t.Bridge)
			return Change{Kind: Update, Object: tapName(t), Fields: f}
		}
		return Change{Kind: Add, Object: tapName(t), Detail: fmt.Sprintf("port %d of %s, in %s", t.Port, t.Node, t.Bridge)}
	})
}

// Changes implements [Step].
func (s DeleteTaps) Changes() []Change {
	return each(s.Taps, func(t cluster.Tap) Change { return Change{Kind: Remove, Object: tapName(t)} })
}

// Changes implements [Step].
func (s CreateNode) Changes() []Change {
	return one(Change{Kind: Add, Object: "node " + s.Node.Name, Detail: nodeDetail(s.Node)})
}

// Changes implements [Step].
func (s UpdateNode) Changes() []Change {
	c := Change{Kind: Update, Object: "node " + s.New.Name, Fields: nodeFields(s.Old, s.New)}
	if s.Old.Power == cluster.PowerOn && s.New.Provider == cluster.Libvirt && slices.ContainsFunc(c.Fields, waits) {
		c.Reason = "takes effect at its next power-on"
	}
	return one(c)
}

// waits tells whether a node that is on has to be switched off and on for the
// change to take effect (see provider.Provider): what it is called does not
// matter to it, and disks grow while they are in use.
func waits(f Field) bool {
	label := f.Name == "spec" || f.Name == "type"
	growth := strings.HasPrefix(f.Name, "volume ") && f.From != none && f.To != none
	return !label && !growth
}

// Changes implements [Step].
func (s DeleteNode) Changes() []Change {
	var detail []string // what is lost
	if s.Node.Power != cluster.PowerUnknown {
		detail = append(detail, string(s.Node.Power))
	}
	if n := len(s.Node.Volumes); n > 0 {
		detail = append(detail, counted(n, "volume"))
	}
	return one(Change{Kind: Remove, Object: "node " + s.Node.Name, Detail: strings.Join(detail, ", ")})
}

// Changes implements [Step].
func (s CreateBMCs) Changes() []Change {
	return each(s.BMCs, func(b cluster.BMC) Change {
		return Change{Kind: Add, Object: "BMC of " + b.Node, Detail: b.Address + " port " + strconv.Itoa(b.Port)}
	})
}

// Changes implements [Step].
func (s UpdateBMCs) Changes() []Change {
	var out []Change
	for i := range min(len(s.Old), len(s.New)) {
		c := Change{Kind: Update, Object: "BMC of " + s.New[i].Node, Fields: bmcFields(s.Old[i], s.New[i])}
		if s.New[i].Serving && !s.Old[i].Serving {
			c.Reason = "is not running"
		}
		out = append(out, c)
	}
	return out
}

// Changes implements [Step].
func (s DeleteBMCs) Changes() []Change {
	return each(s.BMCs, func(b cluster.BMC) Change { return Change{Kind: Remove, Object: "BMC of " + b.Node} })
}

// Changes implements [Step].
func (s RememberCloud) Changes() []Change {
	return one(Change{Kind: Add, Object: "note of where nodes are enrolled", Detail: s.Cloud.ID})
}

// Changes implements [Step].
func (s ForgetCloud) Changes() []Change {
	return one(Change{Kind: Remove, Object: "note of where nodes are enrolled", Detail: s.Cloud.ID})
}

// Changes implements [Step].
func (s Enrol) Changes() []Change {
	if s.Reason != "" {
		return one(Change{Kind: Update, Object: enrolmentName(s.Enrolment), Reason: s.Reason})
	}
	detail := s.Enrolment.Driver
	if s.Enrolment.ResourceClass != "" {
		detail += ", resource class " + s.Enrolment.ResourceClass
	}
	return one(Change{Kind: Add, Object: enrolmentName(s.Enrolment), Detail: detail})
}

// Changes implements [Step].
func (s UpdateEnrolment) Changes() []Change {
	return one(Change{Kind: Update, Object: enrolmentName(s.New), Fields: enrolmentFields(s.Old, s.New)})
}

// Changes implements [Step].
func (s Unenrol) Changes() []Change {
	return one(Change{Kind: Remove, Object: enrolmentName(s.Enrolment)})
}

func one(c Change) []Change { return []Change{c} }

func each[T any](list []T, f func(T) Change) []Change {
	out := make([]Change, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

func poolName(p cluster.Pool) string           { return "storage pool " + p.Name }
func tapName(t cluster.Tap) string             { return "tap " + t.Name }
func enrolmentName(e cluster.Enrolment) string { return "enrolment of " + e.Node }
func networkName(n cluster.Network) string {
	return fmt.Sprintf("physical network %s (bridge %s)", n.Name, n.Bridge)
}

// nodeDetail describes a new node: "2 vCPUs, 3 GiB, uefi, 1 volume, 1 port on provision".
func nodeDetail(n cluster.Node) string {
	parts := []string{counted(n.VCPUs, "vCPU"), mebibytes(n.MemoryMB)}
	if n.BootMode != "" {
		parts = append(parts, n.BootMode)
	}
	if n.Provider != "" && n.Provider != cluster.Libvirt {
		parts = append(parts, n.Provider)
	}
	parts = append(parts, counted(len(n.Volumes), "volume"))
	ports := counted(len(n.Ports), "port")
	var networks []string
	for _, p := range n.Ports {
		networks = append(networks, p.Network)
	}
	if len(networks) > 0 {
		ports += " on " + strings.Join(networks, ", ")
	}
	return strings.Join(append(parts, ports), ", ")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// mebibytes is an amount of memory in the largest unit that divides it.
func mebibytes(mb int) string { return size(int64(mb) << 20) }

// size is an amount in the largest binary unit that divides it.
func size(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if u := int64(1) << (40 - 10*i); n != 0 && n%u == 0 {
			return strconv.FormatInt(n/u, 10) + " " + unit
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
