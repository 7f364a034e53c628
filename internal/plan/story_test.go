package plan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/plan"
	"github.com/tenks/tenks/internal/schedule"
)

// A story in testdata/stories is what a user goes through: the file that was
// applied (before.yaml; none: there is nothing), what has happened since (world,
// see happen), the file as it is now (after.yaml; none: destroy), and what
// "tenks plan" says.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d stories in testdata/stories, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s := &story{T: t, hypervisors: []string{"local"}}
			got := s.tell(ar)
			if *update {
				ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return f.Name == "plan" })
				ar.Files = append(ar.Files, txtar.File{Name: "plan", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(section(t, ar, "plan"), got); diff != "" {
				t.Errorf("%splan (-want +got):\n%s", ar.Comment, diff)
			}
			if strings.Contains(got, "s3cret") {
				t.Errorf("the plan tells a password:\n%s", got)
			}
		})
	}
}

// story is one under way.
type story struct {
	*testing.T
	hypervisors []string
	have        cluster.State
}

func (s *story) tell(ar *txtar.Archive) string {
	s.have.Cluster = "dev"
	var world string
	var after *config.File
	for _, f := range ar.Files {
		switch f.Name {
		case "world":
			world = string(f.Data)
		case "before.yaml", "after.yaml", "plan":
		default:
			s.Fatalf("a story has no part %s", f.Name)
		}
	}
	if line, rest, ok := strings.Cut(world, "\n"); ok && strings.HasPrefix(line, "hypervisors ") {
		s.hypervisors, world = strings.Fields(line)[1:], rest
	}
	for _, f := range ar.Files {
		switch f.Name {
		case "before.yaml":
			s.have = s.place(s.file(f))
			s.forget()
		case "after.yaml":
			parsed := s.file(f)
			after = &parsed
		}
	}
	for line := range strings.Lines(world) {
		if f := strings.Fields(line); len(f) > 0 {
			s.happen(f)
		}
	}
	if after == nil {
		return outcome(s.T, s.have, cluster.State{Cluster: "dev"})
	}
	return outcome(s.T, s.have, s.place(*after))
}

func (s *story) file(f txtar.File) config.File {
	s.Helper()
	parsed, err := config.Parse(f.Name, f.Data)
	if err != nil {
		s.Fatal(err)
	}
	return parsed
}

func (s *story) place(f config.File) cluster.State {
	s.Helper()
	want, err := schedule.Place(f, s.have, schedule.Options{
		Hypervisors: s.hypervisors, Cloud: "cloud:lab", NewSecret: func() cluster.Secret { return "s3cret" },
	})
	if err != nil {
		s.Fatal(err)
	}
	return want
}

// forget makes a wanted state one that is found: Ironic never tells a password.
func (s *story) forget() {
	for i := range s.have.Enrolments {
		s.have.Enrolments[i].Password = ""
	}
	for i := range s.have.Nodes {
		s.have.Nodes[i].Power = cluster.PowerOff
	}
}

// happen lets the world change.
//
//	hypervisors A B               what the file may use (first line; otherwise local)
//	unknown HYPERVISOR CAUSE      all of it does not answer; "Ironic" is the service
//	unknown HYPERVISOR/PROVIDER CAUSE
//	gone KIND NAME                somebody has removed it, or it was never made
//	on NODE                       the node is switched on
//	stopped KIND NAME             a bmc, network or pool does not run
//	loose TAP                     the tap is in no bridge
//	state NODE STATE              in Ironic
//	error NODE TEXT               Ironic's last error
//	stranger PLACE KIND=NAME OWNER
func (s *story) happen(f []string) {
	s.Helper()
	rest := strings.Join(f[min(2, len(f)):], " ")
	switch f[0] {
	case "unknown":
		s.unknown(f[1], rest)
	case "gone":
		s.gone(f[1], f[2])
	case "on":
		change(s, s.have.Nodes, func(n *cluster.Node) string { return n.Name }, f[1], func(n *cluster.Node) { n.Power = cluster.PowerOn })
	case "stopped":
		switch f[1] {
		case "bmc":
			change(s, s.have.BMCs, func(b *cluster.BMC) string { return b.Node }, f[2], func(b *cluster.BMC) { b.Serving = false })
		case "network":
			change(s, s.have.Networks, func(n *cluster.Network) string { return n.Name }, f[2], func(n *cluster.Network) { n.Up = false })
		case "pool":
			change(s, s.have.Pools, func(p *cluster.Pool) string { return p.Name }, f[2], func(p *cluster.Pool) { p.Active = false })
		}
	case "loose":
		change(s, s.have.Taps, func(t *cluster.Tap) string { return t.Name }, f[1], func(t *cluster.Tap) { t.Bridge = "" })
	case "state":
		change(s, s.have.Enrolments, func(e *cluster.Enrolment) string { return e.Node }, f[1], func(e *cluster.Enrolment) { e.State = rest })
	case "error":
		change(s, s.have.Enrolments, func(e *cluster.Enrolment) string { return e.Node }, f[1], func(e *cluster.Enrolment) { e.LastError = rest })
	case "stranger":
		kind, tail, _ := strings.Cut(rest, "=")
		name, owner, _ := strings.Cut(tail, " ")
		s.have.Strangers = append(s.have.Strangers, cluster.Stranger{
			Hypervisor: strings.TrimPrefix(f[1], "Ironic"), Kind: cluster.StrangerKind(kind), Name: name, Owner: owner})
	default:
		s.Fatalf("nothing happens like %q", f[0])
	}
}

func change[T any](s *story, list []T, name func(*T) string, which string, f func(*T)) {
	s.Helper()
	found := false
	for i := range list {
		if which == "*" || name(&list[i]) == which {
			f(&list[i])
			found = true
		}
	}
	if !found {
		s.Fatalf("there is no %s", which)
	}
}

// unknown takes away what nobody tells any more, as workers do.
func (s *story) unknown(place, cause string) {
	if place == "Ironic" {
		s.have.Unknown = append(s.have.Unknown, cluster.Unknown{Cause: cause})
		s.have.Enrolments = nil
		return
	}
	h, provider, _ := strings.Cut(place, "/")
	s.have.Unknown = append(s.have.Unknown, cluster.Unknown{Hypervisor: h, Provider: provider, Cause: cause})
	all := provider == ""
	st := &s.have
	st.Nodes = slices.DeleteFunc(st.Nodes, func(n cluster.Node) bool { return n.Hypervisor == h && (all || n.Provider == provider) })
	st.Pools = slices.DeleteFunc(st.Pools, func(p cluster.Pool) bool { return p.Hypervisor == h && (all || provider == cluster.Libvirt) })
	st.Networks = slices.DeleteFunc(st.Networks, func(n cluster.Network) bool { return all && n.Hypervisor == h })
	st.Taps = slices.DeleteFunc(st.Taps, func(t cluster.Tap) bool { return all && t.Hypervisor == h })
	st.BMCs = slices.DeleteFunc(st.BMCs, func(b cluster.BMC) bool { return all && b.Hypervisor == h })
	st.Clouds = slices.DeleteFunc(st.Clouds, func(c cluster.Cloud) bool { return all && c.Hypervisor == h })
}

func (s *story) gone(kind, name string) {
	s.Helper()
	st := &s.have
	before := fmt.Sprint(st)
	is := func(n string) bool { return name == "*" || n == name }
	switch kind {
	case "pool":
		st.Pools = slices.DeleteFunc(st.Pools, func(p cluster.Pool) bool { return is(p.Name) })
	case "network":
		st.Networks = slices.DeleteFunc(st.Networks, func(n cluster.Network) bool { return is(n.Name) })
	case "tap":
		st.Taps = slices.DeleteFunc(st.Taps, func(t cluster.Tap) bool { return is(t.Name) })
	case "node":
		st.Nodes = slices.DeleteFunc(st.Nodes, func(n cluster.Node) bool { return is(n.Name) })
	case "bmc":
		st.BMCs = slices.DeleteFunc(st.BMCs, func(b cluster.BMC) bool { return is(b.Node) })
	case "cloud":
		st.Clouds = slices.DeleteFunc(st.Clouds, func(c cluster.Cloud) bool { return is(c.ID) })
	case "enrolment":
		st.Enrolments = slices.DeleteFunc(st.Enrolments, func(e cluster.Enrolment) bool { return is(e.Node) })
	}
	if fmt.Sprint(st) == before {
		s.Fatalf("there was no %s %s", kind, name)
	}
}

// reread sends every step of a plan through JSON, as to a hypervisor.
func reread(t *testing.T, p plan.Plan) {
	t.Helper()
	for _, st := range p.Stages {
		for _, s := range st.Steps {
			b, err := plan.Encode(s)
			if err != nil {
				t.Fatal(err)
			}
			again, err := plan.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s, again, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%T does not survive JSON (-sent +received):\n%s", s, diff)
			}
		}
	}
}
