// Package ironic enrols nodes in OpenStack's bare metal service, Ironic, over
// its REST API: with Keystone, or alone with HTTP basic authentication or none.
//
// A node is ours if its extra field says so: {"tenks": {"cluster": …, "node": …}}.
// Beside that stands which of the node's attributes Tenks has set, so that what
// others add to the node (a vendor that Ironic found out, a trait of an
// inspection) is neither reported nor removed. See docs/ironic.md.
package ironic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/plan"
)

// Options adjust Open. The zero value takes everything from the environment.
type Options struct {
	// Cloud is a name in clouds.yaml. Empty: OS_CLOUD, or the other OS_*
	// variables.
	Cloud string
	// Endpoint is the URL of the service as [Enroller.ID] gave it to an
	// earlier run. The credentials are those of the environment, which must
	// be for this very URL; without any, none are sent.
	Endpoint string
	Env      func(string) string // nil means os.Getenv
	Log      *slog.Logger        // nil discards
	// RequestTime limits one request; 0 means 1 minute.
	RequestTime time.Duration
}

// Enroller implements [enrol.Enroller].
type Enroller struct {
	id     string
	client *client
	poll   *poller
	log    *slog.Logger
}

var _ enrol.Enroller = (*Enroller)(nil)

// FromID returns the options that find the service again which has the ID.
func FromID(id string) (Options, error) {
	kind, rest, _ := strings.Cut(id, ":")
	switch {
	case rest != "" && kind == "cloud":
		return Options{Cloud: rest}, nil
	case rest != "" && kind == "endpoint":
		return Options{Endpoint: rest}, nil
	}
	return Options{}, fmt.Errorf("%q does not name a bare metal service", id)
}

// Open finds the credentials, authenticates, and asks the service which API
// versions it speaks. Its errors have hints and no secrets.
func Open(ctx context.Context, o Options) (*Enroller, error) {
	if o.Env == nil {
		o.Env = os.Getenv
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.RequestTime == 0 {
		o.RequestTime = time.Minute
	}
	s, err := resolve(o)
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, s, o)
	if err != nil {
		return nil, err
	}
	if s.id == "" {
		s.id = "endpoint:" + c.root.String()
	}
	if err := c.negotiate(ctx); err != nil {
		return nil, err
	}
	return &Enroller{id: s.id, client: c, poll: newPoller(c), log: o.Log}, nil
}

// ID implements [enrol.Enroller].
func (e *Enroller) ID() string { return e.id }

// Do implements [enrol.Enroller].
func (e *Enroller) Do(ctx context.Context, clusterName string, s plan.Step) error {
	var err error
	var node, verb string
	switch s := s.(type) {
	case plan.Enrol:
		node, verb = s.Enrolment.Node, "enrol"
		err = e.ensure(ctx, clusterName, s.Enrolment)
	case plan.UpdateEnrolment:
		node, verb = s.New.Node, "update"
		err = e.ensure(ctx, clusterName, s.New)
	case plan.Unenrol:
		node, verb = s.Enrolment.Node, "unenrol"
		err = e.remove(ctx, clusterName, s.Enrolment)
	default:
		return fmt.Errorf("not a step of the bare metal service: %T", s)
	}
	if err != nil {
		return hint.Add(fmt.Errorf("%s node %s in Ironic: %w", verb, node, err), "%s", hintOf(err))
	}
	e.log.LogAttrs(ctx, slog.LevelInfo, verb, slog.String("node", node))
	return nil
}

// hintOf is the advice for an error of a step: its own, or what fits its status.
func hintOf(err error) string {
	if h := hint.Of(err); h != "" {
		return h
	}
	var answer *apiError
	switch {
	case errors.As(err, &answer) && answer.Status == http.StatusNotAcceptable:
		return "use a newer Ironic, or leave out what this one does not know"
	case errors.As(err, &answer) && strings.Contains(answer.Text, "No conductor service registered"):
		return "enable the driver in Ironic (enabled_hardware_types), and see that a conductor runs: openstack baremetal driver list"
	case errors.As(err, &answer) && answer.Status == http.StatusForbidden:
		return "use credentials that may change Ironic's nodes"
	case errors.Is(err, context.DeadlineExceeded):
		return "see what Ironic's conductor logs say, and apply again"
	}
	return "see what Ironic's logs say, and apply again"
}

// The versions of the API (microversions) that this package is written for.
// What each brought is in Ironic's "REST API Version History".
const (
	neededMinor = 40 // 1.37 traits, 1.38 rescue_interface, 1.40 bios_interface
	newestMinor = 86 // 1.86 firmware_interface
	resetMinor  = 45 // reset_interfaces
)

// negotiate settles on a version of the API, and finds out on the way whether
// there is an Ironic at all and whether it takes the credentials.
func (c *client) negotiate(ctx context.Context) error {
	answer, err := c.once(ctx, http.MethodGet, "/v1/nodes?limit=1&fields=uuid", nil, nil)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusNotAcceptable {
		err = nil // too old, or too new: its headers say
	}
	if err != nil {
		return c.explain(err)
	}
	low, high, ok := versions(answer)
	if !ok {
		return hint.Add(fmt.Errorf("%s does not answer like Ironic: it names no API version", c.root.Redacted()), "%s", notIronic)
	}
	if high < neededMinor || low > newestMinor {
		return hint.Add(fmt.Errorf("ironic at %s speaks API versions 1.%d to 1.%d: Tenks needs one of 1.%d to 1.%d",
			c.root.Redacted(), low, high, neededMinor, newestMinor), "use Ironic 11.1 (Rocky) or newer")
	}
	c.minor = min(high, newestMinor)
	return nil
}

const notIronic = "check the URL: it must be that of Ironic's API (usually port 6385), with or without /v1"

// versions reads the range of minor versions out of an answer's headers.
func versions(h http.Header) (low, high int, ok bool) {
	const prefix = "X-Openstack-Ironic-Api-"
	_, err1 := fmt.Sscanf(h.Get(prefix+"Minimum-Version"), "1.%d", &low)
	_, err2 := fmt.Sscanf(h.Get(prefix+"Maximum-Version"), "1.%d", &high)
	return low, high, err1 == nil && err2 == nil
}

// explain says what a failed first contact means.
func (c *client) explain(err error) error {
	where := c.root.Redacted()
	var answer *apiError
	if !errors.As(err, &answer) {
		return hint.Add(fmt.Errorf("ironic at %s cannot be reached: %w", where, err), "%s", contactHint(err))
	}
	switch {
	case answer.Status == http.StatusUnauthorized && c.settings.authType == authNone:
		return hint.Add(fmt.Errorf("ironic at %s wants credentials, and there are none (%s)", where, c.settings.where),
			"name a cloud, or set OS_AUTH_TYPE, OS_USERNAME, OS_PASSWORD")
	case answer.Status == http.StatusUnauthorized:
		return hint.Add(fmt.Errorf("ironic at %s refuses the credentials (%s)", where, c.settings.where),
			"check user name and password")
	case answer.Status == http.StatusForbidden:
		return hint.Add(fmt.Errorf("ironic at %s: the credentials may not list nodes (%s)", where, c.settings.where),
			"use a user with the role admin, or the system scope")
	case answer.Status >= 500:
		return hint.Add(fmt.Errorf("ironic at %s is not well: %w", where, err), "see what its logs say, and try again")
	}
	return hint.Add(fmt.Errorf("%s does not answer like Ironic: %w", where, err), "%s", notIronic)
}
