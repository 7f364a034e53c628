package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/tenks/tenks/internal/apply"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/plan"
)

// newApp is an app that prints into buffers.
func newApp() (a *app, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	return &app{version: "test", io: Streams{In: strings.NewReader(""), Out: out, Err: errs}, log: slog.New(slog.DiscardHandler)}, out, errs
}

func walk(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		walk(c, f)
	}
}

// Every example that help shows can be typed: the command is there, and so are
// its flags and arguments. Every command says what it does, and has examples.
func TestExamples(t *testing.T) {
	a, _, _ := newApp()
	example := regexp.MustCompile(`tenks((?: [^ \n()]+)*)`)
	count := 0
	walk(a.command(), func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: its short text is %q", cmd.CommandPath(), cmd.Short)
		}
		switch cmd.Name() {
		case "supervise", "serve", "version", "bmc", "host":
		default:
			if cmd.Example == "" {
				t.Errorf("%s has no example", cmd.CommandPath())
			}
		}
		for line := range strings.Lines(cmd.Example) {
			m := example.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s: no command in example %q", cmd.CommandPath(), line)
				continue
			}
			count++
			fresh, _, _ := newApp()
			typed, args, err := fresh.command().Find(strings.Fields(m[1]))
			if err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
				continue
			}
			if err := typed.ParseFlags(args); err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
			}
			if err := typed.ValidateArgs(typed.Flags().Args()); err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
			}
			if cmd.HasParent() && !strings.HasPrefix(typed.CommandPath(), cmd.CommandPath()) {
				t.Errorf("%s: example %q is for %s", cmd.CommandPath(), line, typed.CommandPath())
			}
		}
	})
	if count < 20 {
		t.Errorf("only %d examples were found", count)
	}
}

// Help fits a terminal, and examples are indented alike.
func TestHelpIsReadable(t *testing.T) {
	a, _, _ := newApp()
	walk(a.command(), func(cmd *cobra.Command) {
		for _, line := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
			if n := len([]rune(line)); n > 100 {
				t.Errorf("%s: a line of %d characters: %s", cmd.CommandPath(), n, line)
			}
		}
	})
}

func TestPrintError(t *testing.T) {
	a, out, errs := newApp()
	same := "start it (systemctl start libvirtd)"
	a.printError(errors.Join(
		hint.Add(errors.New("node a: no answer"), "%s", same), hint.Add(errors.New("node b: no answer"), "%s", same),
		errors.New("node c: qemu-img:\n  No space\n "), hint.Add(errors.New("node d: no"), "other")))
	want := "tenks: error: node a: no answer\ntenks: error: node b: no answer\ntenks: hint: " + same +
		"\ntenks: error: node c: qemu-img: No space\ntenks: error: node d: no\ntenks: hint: other\n"
	if diff := cmp.Diff(want, errs.String()); diff != "" || out.Len() > 0 {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func step() plan.Step {
	return plan.CreateNode{Node: cluster.Node{Name: "dev-0", Hypervisor: "local", VCPUs: 2, MemoryMB: 1024, BootMode: "uefi"}}
}

// Three ways to show progress: lines in a pipe, JSON, a line that rewrites
// itself on a terminal and never fills it.
func TestProgress(t *testing.T) {
	events := []apply.Event{
		{Kind: apply.Started, Stage: "create nodes", Step: step(), Total: 1},
		{Kind: apply.Done, Stage: "create nodes", Step: step(), Took: 1500 * time.Millisecond, Finished: 1, Total: 1},
		{Kind: apply.Failed, Stage: "enrol nodes", Step: plan.Enrol{Enrolment: cluster.Enrolment{Node: "dev-0", Password: "s3cret"}}, Err: hint.Add(errors.New("no\nway"), "try"), Finished: 1, Total: 1},
	}
	for name, tt := range map[string]struct {
		output    string
		width     int
		out, errs string
	}{
		"pipe": {out: "local: + node dev-0 (2 vCPUs, 1 GiB, uefi, 0 volumes, 0 ports)\n"},
		"json": {output: "json", out: `{"event":"start","stage":"create nodes","hypervisor":"local","changes":[{"kind":"+","object":"node dev-0","detail":"2 vCPUs, 1 GiB, uefi, 0 volumes, 0 ports"}],"finished":0,"total":1}
{"event":"done","stage":"create nodes","hypervisor":"local","changes":[{"kind":"+","object":"node dev-0","detail":"2 vCPUs, 1 GiB, uefi, 0 volumes, 0 ports"}],"seconds":1.5,"finished":1,"total":1}
{"event":"failed","stage":"enrol nodes","changes":[{"kind":"+","object":"enrolment of dev-0"}],"finished":1,"total":1,"error":"no way","hint":"try"}
`},
		"terminal": {width: 20, errs: "\r\x1b[K[0/1] create nodes…\r\x1b[K[1/1] create nodes…\r\x1b[K[1/1] enrol nodes:…\r\x1b[K"},
	} {
		a, out, errs := newApp()
		a.output = tt.output
		pr := a.progress()
		pr.width = tt.width
		for _, e := range events {
			pr.event(e)
		}
		pr.end()
		if diff := cmp.Diff(tt.out, out.String()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		if diff := cmp.Diff(tt.errs, errs.String()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// The last lines of apply and destroy, and their exit status.
func TestSummary(t *testing.T) {
	p := plan.Plan{Cluster: "dev", Stages: []plan.Stage{{Name: "create nodes", Steps: []plan.Step{step()}}}}
	unknown := []cluster.Unknown{{Cause: "503"}}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tt := range map[string]struct {
		ctx       context.Context
		command   string
		p         plan.Plan
		r         apply.Result
		out, errs string
		status    error
	}{
		"done":    {context.Background(), "apply", p, apply.Result{Done: 1}, "apply: 1 step done in 0s\n", "", nil},
		"nothing": {context.Background(), "apply", plan.Plan{}, apply.Result{}, "nothing to do\n", "", nil},
		"no cluster": {context.Background(), "destroy", plan.Plan{}, apply.Result{},
			"nothing to do: there is no cluster dev here\n", "", nil},
		"failed": {context.Background(), "apply", p, apply.Result{Done: 2, Failed: 1, Skipped: 3, Errs: errors.New("local: node x: no")},
			"apply: 2 steps done, 1 failed, 3 skipped\n",
			"tenks: error: local: node x: no\ntenks: hint: mend what is named above and run tenks apply again: it goes on where this one stopped\n", exitStatus(1)},
		"interrupted": {stopped, "destroy", p, apply.Result{Skipped: 1, Errs: errors.New("stopped: interrupted")},
			"destroy: 0 steps done, 0 failed, 1 skipped\n",
			"tenks: error: stopped: interrupted\ntenks: hint: run tenks destroy again: it goes on where this one stopped\n", exitStatus(1)},
		"partly": {context.Background(), "apply", plan.Plan{Stages: p.Stages, Unknown: unknown}, apply.Result{Done: 1}, "apply: 1 step done in 0s\n",
			"tenks: hint: run tenks apply again when what is unknown answers: nothing was done there\n", exitStatus(1)},
		"unknown": {context.Background(), "destroy", plan.Plan{Unknown: unknown}, apply.Result{}, "nothing to do but for what is unknown\n",
			"tenks: hint: run tenks destroy again when what is unknown answers: nothing was done there\n" +
				"tenks: hint: if Ironic is gone for good: tenks destroy dev --leave-ironic\n", exitStatus(1)},
	} {
		a, out, errs := newApp()
		got := a.summary(tt.ctx, tt.command, "dev", tt.p, tt.r, a.progress())
		if !errors.Is(got, tt.status) {
			t.Errorf("%s: %v, want %v", name, got, tt.status)
		}
		if diff := cmp.Diff(tt.out+tt.errs, out.String()+errs.String()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// The exit status of an interrupted command is 130, also when it has told all.
func TestInterruptedStatus(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrInterrupted)
	for _, args := range [][]string{{"apply", "-f", "/nonexistent"}, {"status", "dev", "--state-dir", t.TempDir(), "--libvirt-socket", "/nonexistent"}} {
		var out bytes.Buffer
		if got := Run(ctx, "test", args, Streams{In: strings.NewReader(""), Out: &out, Err: io.Discard}); got != 130 {
			t.Errorf("%q: exit status %d\n%s", args, got, out.String())
		}
	}
}

// A row for every node that is known in any way, in natural order.
func TestStatusRows(t *testing.T) {
	rows := statusRows(cluster.State{
		Nodes:      []cluster.Node{{Name: "dev-10", Power: cluster.PowerOn}, {Name: "dev-2"}},
		BMCs:       []cluster.BMC{{Node: "big-node-3", Address: "127.64.0.4", Port: 623, Password: "s3cret"}},
		Enrolments: []cluster.Enrolment{{Node: "dev-2", State: "clean failed", LastError: "Timeout\nreached"}},
	})
	var names, power []string
	for _, r := range rows {
		names, power = append(names, r.Node), append(power, r.Power)
	}
	if diff := cmp.Diff([]string{"big-node-3", "dev-2", "dev-10"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"unknown", "unknown", "on"}, power); diff != "" {
		t.Error(diff)
	}
	a, out, _ := newApp()
	a.printStatus("dev", rows, cluster.State{BMCs: make([]cluster.BMC, 1)})
	if !strings.Contains(out.String(), "dev-2: Ironic says: Timeout reached\n") || strings.Contains(out.String(), "s3cret") || !strings.Contains(out.String(), "(not running)") {
		t.Error(out.String())
	}
}

func TestShortDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{43 * time.Millisecond: "40ms", 1234 * time.Millisecond: "1.2s", 75 * time.Second: "1m15s"} {
		if got := short(d).String(); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
