//go:build integration

package ironic_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/tenks/tenks/test/ironic"
)

// get returns the status and the body of a request to the API.
func get(t *testing.T, i *ironic.Ironic, path, username, password string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if username != "" {
		r.SetBasicAuth(username, password)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestStart(t *testing.T) {
	i := ironic.Start(t, ironic.Options{Auth: ironic.HTTPBasic, Fast: true})
	if status, _ := get(t, i, "/v1/nodes", "", ""); status != http.StatusUnauthorized {
		t.Errorf("without credentials: status %d, want 401", status)
	}
	if status, _ := get(t, i, "/v1/nodes", i.Username, i.Password); status != http.StatusOK {
		t.Errorf("with credentials: status %d, want 200", status)
	}
	hosts := func() int {
		var answer struct {
			Drivers []struct {
				Name  string
				Hosts []string
			}
		}
		_, text := get(t, i, "/v1/drivers", i.Username, i.Password)
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, d := range answer.Drivers {
			n += len(d.Hosts)
		}
		return n
	}
	if n := hosts(); n != 3 {
		t.Errorf("%d drivers are registered, want ipmi, fake-hardware and manual-management", n)
	}
	i.KillConductor()
	i.StartConductor()
	if n := hosts(); n != 3 {
		t.Errorf("after a restart of the conductor: %d drivers, want 3", n)
	}
	text, err := os.ReadFile(i.CloudsYAML("test"))
	if err != nil || !strings.Contains(string(text), i.URL) {
		t.Errorf("clouds.yaml: %v, %s", err, text)
	}
}
