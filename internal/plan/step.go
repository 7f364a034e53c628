package plan

import (
	"fmt"

	"github.com/tenks/tenks/internal/cluster"
)

// Step is one change to the world. The types below are all there are: this file
// is the page that says what Tenks can do. Steps are plain data and travel to
// their hypervisor as JSON (see [Encode]).
type Step interface {
	// Where is the hypervisor that carries the step out; empty: the bare
	// metal service.
	Where() string
	// Changes is what the user reads of the step, one per object.
	Changes() []Change
	step()
}

// These are the steps.
type (
	// CreatePool makes a pool, or completes it.
	CreatePool struct {
		Pool   cluster.Pool
		Reason string // why it is completed; empty: it is new
	}
	DeletePool struct{ Pool cluster.Pool }

	CreateNetwork struct{ Network cluster.Network }
	UpdateNetwork struct{ Old, New cluster.Network }
	DeleteNetwork struct{ Network cluster.Network }

	// Taps are handled in bulk: the kernel takes as long for one as for all.
	CreateTaps struct {
		Hypervisor string
		Taps       []cluster.Tap
		Old        []cluster.Tap // those of Taps that are there, in a wrong bridge or in none
	}
	DeleteTaps struct {
		Hypervisor string
		Taps       []cluster.Tap
	}

	CreateNode struct{ Node cluster.Node }
	UpdateNode struct{ Old, New cluster.Node }
	DeleteNode struct{ Node cluster.Node }

	// BMCs are handled in bulk: one process has them all.
	CreateBMCs struct {
		Hypervisor string
		BMCs       []cluster.BMC
	}
	UpdateBMCs struct {
		Hypervisor string
		Old, New   []cluster.BMC // pairs
	}
	DeleteBMCs struct {
		Hypervisor string
		BMCs       []cluster.BMC
	}

	// RememberCloud keeps on a hypervisor where nodes are enrolled.
	RememberCloud struct{ Cloud cluster.Cloud }
	ForgetCloud   struct{ Cloud cluster.Cloud }

	// Enrol enrols a node, or completes that, up to the wanted state.
	Enrol struct {
		Enrolment cluster.Enrolment
		Reason    string // why it is completed; empty: it is new
	}
	UpdateEnrolment struct{ Old, New cluster.Enrolment }
	Unenrol         struct{ Enrolment cluster.Enrolment }
)

// Kind of a change, and the sign that the user reads.
type Kind string

// Kinds of changes.
const (
	Add    Kind = "+"
	Update Kind = "~"
	Remove Kind = "-"
)

// Change is what a step does to one object, in words. It holds no secrets.
type Change struct {
	Kind   Kind    `json:"kind"`
	Object string  `json:"object"` // `node dev-0`
	Detail string  `json:"detail,omitempty"`
	Fields []Field `json:"fields,omitempty"` // what an Update changes
	Reason string  `json:"reason,omitempty"`
}

// Field is one changed attribute.
type Field struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// String is the field as "tenks plan" prints it: "memory 3 GiB→4 GiB". Of a
// secret it only tells that it changes.
func (f Field) String() string {
	if f.From == hidden && f.To == hidden {
		return f.Name + " changed"
	}
	return fmt.Sprintf("%s %s→%s", f.Name, f.From, f.To)
}

// String is the change as "tenks plan" prints it, without its hypervisor.
func (c Change) String() string {
	s := fmt.Sprintf("%s %s", c.Kind, c.Object)
	if c.Detail != "" {
		s += " (" + c.Detail + ")"
	}
	for i, f := range c.Fields {
		if i > 0 {
			s += ","
		}
		s += " " + f.String()
	}
	if c.Reason != "" {
		s += ": " + c.Reason
	}
	return s
}
