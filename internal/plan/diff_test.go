package plan_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/plan"
)

var update = flag.Bool("update", false, "rewrite the plans in testdata")

// A story is a sentence, two states, and the plan from one to the other; or,
// where no plan can be made, the errors and their hints.
func TestDiff(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d stories in testdata, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			have, want := state(t, ar, "have"), state(t, ar, "want")
			got := outcome(t, have, want)
			if *update {
				for i := range ar.Files {
					if ar.Files[i].Name == "plan" {
						ar.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(section(t, ar, "plan"), got); diff != "" {
				t.Errorf("%splan (-want +got):\n%s", ar.Comment, diff)
			}
			if p, err := plan.Diff(want, want); err != nil || !p.Empty() {
				t.Errorf("Diff(want, want): %v\n%s", err, p)
			}
			if strings.Contains(got, "s3cret") {
				t.Errorf("the plan tells a password:\n%s", got)
			}
		})
	}
}

func outcome(t *testing.T, have, want cluster.State) string {
	t.Helper()
	p, err := plan.Diff(have, want)
	if err == nil {
		reread(t, p)
		return p.String()
	}
	var b strings.Builder
	hint.Each(err, func(err error, advice string) {
		b.WriteString("error: " + err.Error() + "\nhint: " + advice + "\n")
	})
	return b.String()
}

func section(t *testing.T, ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	t.Fatalf("there is no section %s", name)
	return ""
}

func state(t *testing.T, ar *txtar.Archive, name string) cluster.State {
	d := json.NewDecoder(strings.NewReader(section(t, ar, name)))
	d.DisallowUnknownFields()
	var s cluster.State
	if err := d.Decode(&s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}
