// Package plan compares the cluster that is there with the cluster that is
// wanted, and lists the steps that turn the first into the second.
//
// The package is pure. It opens no file and no socket and takes no context, and
// the same two states always give the same plan. A plan is therefore plain data:
// it can be printed, reviewed, stored and compared with a golden file. Package
// apply carries it out.
package plan

import (
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// Plan is a list of stages. A stage begins when the one before has ended; the
// steps in a stage do not depend on each other.
type Plan struct {
	Cluster string
	Stages  []Stage
	Unknown []cluster.Unknown // for whose objects nothing is planned
}

// Stage is a group of steps that may be carried out side by side.
type Stage struct {
	Name  string // "create nodes"
	Steps []Step
}

// Empty tells whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Stages) == 0 }

// Service is what the bare metal service is called where a hypervisor's name
// would stand.
const Service = "ironic"

// String is the plan as text, a line for each change, with no secrets.
func (p Plan) String() string {
	var b strings.Builder
	for _, st := range p.Stages {
		b.WriteString(st.Name + ":\n")
		for _, s := range st.Steps {
			for _, c := range s.Changes() {
				b.WriteString("  " + place(s.Where()) + ": " + c.String() + "\n")
			}
		}
	}
	if p.Empty() {
		b.WriteString("nothing to do\n")
	}
	for _, u := range p.Unknown {
		b.WriteString("unknown: " + place(u.Hypervisor))
		if u.Provider != "" {
			b.WriteString(": " + u.Provider)
		}
		b.WriteString(": " + u.Cause + "\n")
	}
	return b.String()
}

func place(hypervisor string) string {
	if hypervisor == "" {
		return Service
	}
	return hypervisor
}
