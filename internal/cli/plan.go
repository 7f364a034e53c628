package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/plan"
	"github.com/tenks/tenks/internal/schedule"
)

func (a *app) planCommand() *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would do",
		Long: `Compare the cluster file with what is there, and show the steps that apply would
take: + is added, ~ is changed, - is removed. Changes nothing.`,
		Example: `  tenks plan
  tenks plan --detailed-exitcode   exit status 2 if there are changes
  tenks plan -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := config.Load(a.file)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), file.Cluster, &file)
			if err != nil {
				return err
			}
			defer s.close()
			p, _, err := s.plan(&file)
			if err != nil {
				return err
			}
			if err := a.printPlan(p); err != nil {
				return err
			}
			switch {
			case len(p.Unknown) > 0:
				return exitStatus(1)
			case detailed && !p.Empty():
				return exitStatus(2)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit status 2 if there are changes")
	a.outputFlag(cmd)
	return cmd
}

// plan works out what turns what was found into what file asks for; without a
// file, into nothing.
func (s *session) plan(file *config.File) (plan.Plan, cluster.State, error) {
	want := cluster.State{Cluster: s.name}
	if file != nil {
		o := schedule.Options{Hypervisors: []string{here}, NewSecret: newSecret}
		if s.enroller != nil {
			o.Cloud = s.enroller.ID()
		} else if len(s.found.Clouds) > 0 {
			o.Cloud = s.found.Clouds[0].ID
		}
		var err error
		if want, err = schedule.Place(*file, s.found, o); err != nil {
			return plan.Plan{}, want, err
		}
	}
	p, err := plan.Diff(s.found, want)
	return p, want, err
}

// planJSON is a plan as programs read it. It holds no secrets.
type planJSON struct {
	Cluster string            `json:"cluster"`
	Stages  []stageJSON       `json:"stages"`
	Unknown []cluster.Unknown `json:"unknown"` // what did not answer
}

type stageJSON struct {
	Name  string     `json:"name"`
	Steps []stepJSON `json:"steps"`
}

type stepJSON struct {
	Hypervisor string        `json:"hypervisor,omitempty"`
	Changes    []plan.Change `json:"changes"`
}

func (a *app) printPlan(p plan.Plan) error {
	if a.output == "json" {
		out := planJSON{Cluster: p.Cluster, Stages: []stageJSON{}, Unknown: append([]cluster.Unknown{}, p.Unknown...)}
		for _, st := range p.Stages {
			s := stageJSON{Name: st.Name}
			for _, step := range st.Steps {
				s.Steps = append(s.Steps, stepJSON{step.Where(), step.Changes()})
			}
			out.Stages = append(out.Stages, s)
		}
		return a.printJSON(out)
	}
	a.printUnknown(p.Unknown)
	a.printf("%s", p.Text(a.painter()))
	return nil
}

// painter colours changes if the output is a terminal that wants colours.
func (a *app) painter() func(plan.Kind, string) string {
	if !isTerminal(a.io.Out) || fromEnv("NO_COLOR", "") != "" {
		return func(_ plan.Kind, s string) string { return s }
	}
	colour := map[plan.Kind]string{plan.Add: "\x1b[32m", plan.Update: "\x1b[33m", plan.Remove: "\x1b[31m"}
	return func(k plan.Kind, s string) string { return colour[k] + s + "\x1b[0m" }
}

// printUnknown says what did not answer.
func (a *app) printUnknown(all []cluster.Unknown) {
	for _, u := range all {
		u.Cause = oneLine(errors.New(u.Cause))
		a.note("tenks: unknown: %s\n", u)
	}
}

// lock takes the cluster's lock on every hypervisor.
func (s *session) lock(ctx context.Context, command string) (func(), error) {
	release, err := s.worker.Lock(ctx, s.name, holder(command))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return release, nil
}
