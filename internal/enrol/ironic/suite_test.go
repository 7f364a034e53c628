package ironic_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/enrol/enroltest"
	"github.com/tenks/tenks/internal/enrol/ironic"
)

// environment is a set of variables.
func environment(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

// open opens the service at a URL, with basic authentication if there is a user.
func open(t *testing.T, url, username, password string) *ironic.Enroller {
	t.Helper()
	env := environment("OS_AUTH_TYPE", "none", "OS_ENDPOINT", url)
	if username != "" {
		env = environment("OS_AUTH_TYPE", "http_basic", "OS_ENDPOINT", url, "OS_USERNAME", username, "OS_PASSWORD", password)
	}
	e, err := ironic.Open(t.Context(), ironic.Options{Env: env, RequestTime: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSuite(t *testing.T) {
	double := &enroltest.Ironic{Username: "admin", Password: "swordfish", PageSize: 7}
	server := httptest.NewServer(double)
	defer server.Close()
	enroltest.Run(t, enroltest.Service{
		URL: server.URL, Username: "admin", Password: "swordfish",
		Open: func(t *testing.T, url string) enrol.Enroller { return open(t, url, "admin", "swordfish") },
	})
}
