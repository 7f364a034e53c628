// Package plan compares the cluster that is there with the cluster that is
// wanted, and lists the steps that turn the first into the second.
//
// The package is pure. It opens no file and no socket and takes no context, and
// the same two states always give the same plan. A plan is therefore plain data:
// it can be printed, reviewed, stored and compared with a golden file. Package
// apply carries it out.
package plan

import (
	"cmp"
	"fmt"
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
const Service = "Ironic"

// String is the plan as text, what is unknown included, with no secrets.
func (p Plan) String() string {
	s := p.Text(nil)
	for _, u := range p.Unknown {
		s += "unknown: " + u.String() + "\n"
	}
	return s
}

// Text is the plan as people read it: a line for each change, grouped by stage,
// and a sum. paint may colour a line; nil leaves it as it is. Secrets are not
// in it, nor is what is unknown.
func (p Plan) Text(paint func(Kind, string) string) string {
	switch {
	case p.Empty() && len(p.Unknown) > 0:
		return "nothing to do but for what is unknown\n"
	case p.Empty():
		return "nothing to do\n"
	}
	var b strings.Builder
	counts := map[Kind]int{}
	for _, st := range p.Stages {
		b.WriteString(st.Name + ":\n")
		for _, s := range st.Steps {
			for _, c := range s.Changes() {
				counts[c.Kind]++
				line := c.String()
				if paint != nil {
					line = paint(c.Kind, line)
				}
				b.WriteString("  " + Place(s.Where()) + ": " + line + "\n")
			}
		}
	}
	fmt.Fprintf(&b, "%d to add, %d to change, %d to remove\n", counts[Add], counts[Update], counts[Remove])
	return b.String()
}

// Place is where a step happens, in words: the hypervisor's name, or [Service].
func Place(where string) string { return cmp.Or(where, Service) }
