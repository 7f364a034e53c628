//go:build integration

package ironic_test

import (
	"testing"

	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/enrol/enroltest"
	realironic "github.com/tenks/tenks/test/ironic"
)

func TestSuiteOnIronic(t *testing.T) {
	i := realironic.Start(t, realironic.Options{Auth: realironic.HTTPBasic, Fast: true})
	enroltest.Run(t, enroltest.Service{
		URL: i.URL, Username: i.Username, Password: i.Password,
		Open: func(t *testing.T, url string) enrol.Enroller { return open(t, url, i.Username, i.Password) },
	})
}
