package enroltest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/plan"
)

// Service is an Ironic to run the suite against. It must have the driver
// fake-hardware, and no automated cleaning.
type Service struct {
	URL                string // without /v1
	Username, Password string // HTTP basic authentication; empty: none
	// Open opens an enroller for the service as it is reached at a URL.
	Open func(t *testing.T, url string) enrol.Enroller
}

// patience is how long any one step may take.
const patience = time.Minute

// Run checks the promises of [enrol.Enroller]. The service may have other
// nodes; those that the suite makes are gone afterwards.
func Run(t *testing.T, s Service) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s Service)
	}{
		{"enrol", testEnrol}, {"update", testUpdate}, {"update-of-others", testOthersAttributes}, {"unenrol", testUnenrol},
		{"foreign-name", testForeignName}, {"foreign-uuid", testForeignUUID}, {"foreign-mac", testForeignMAC},
		{"strangers", testStrangers}, {"killed-enrolling", testKilledEnrolling}, {"killed-updating", testKilledUpdating},
		{"killed-unenrolling", testKilledUnenrolling}, {"many", testMany}, {"locked", testLocked},
		{"maintenance", testMaintenance}, {"deadline", testDeadline},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
}

// Wanted is an enrolment with everything set, of a node of the driver
// fake-hardware.
func Wanted(clusterName, name string) cluster.Enrolment {
	uuid := cluster.UUID(clusterName, "node", name)
	e := cluster.Enrolment{
		Node: name, UUID: uuid, Driver: "fake-hardware",
		DriverInfo: map[string]string{"ipmi_address": "127.64.0.1", "ipmi_port": "623", "ipmi_username": "tenks",
			"deploy_kernel": "http://127.0.0.1:9/kernel"},
		Password: "open \"sesame\" " + cluster.Secret(name), ResourceClass: "baremetal",
		Properties: map[string]string{"cpus": "2", "memory_mb": "3072", "local_gb": "6", "cpu_arch": "x86_64",
			"capabilities": "boot_mode:uefi"},
		Traits:     []string{"CUSTOM_ONE", "CUSTOM_TWO"},
		Interfaces: map[string]string{"deploy": "fake", "boot": "fake"},
		Ports: []cluster.EnrolledPort{
			{MAC: cluster.MAC(clusterName, name, 0, 0), Network: "provision", PXE: true},
			{MAC: cluster.MAC(clusterName, name, 1, 0), Network: "tenant", PXE: false},
		},
		State: "available",
	}
	e.PasswordMark = cluster.PasswordMark(uuid, e.Password)
	slices.SortFunc(e.Ports, func(a, b cluster.EnrolledPort) int { return strings.Compare(a.MAC, b.MAC) })
	return e
}

// different is the wanted enrolment with everything changed that can be.
func different(e cluster.Enrolment) cluster.Enrolment {
	e.DriverInfo = map[string]string{"ipmi_address": "127.64.0.2", "ipmi_port": "623", "ipmi_username": "tenks",
		"deploy_ramdisk": "http://127.0.0.1:9/ramdisk"}
	e.Password = "shut"
	e.PasswordMark = cluster.PasswordMark(e.UUID, e.Password)
	e.ResourceClass = "large"
	e.Properties = map[string]string{"cpus": "4", "memory_mb": "3072", "cpu_arch": "x86_64", "vendor/model": "a~b"}
	e.Traits = []string{"CUSTOM_THREE", "CUSTOM_TWO"}
	e.Interfaces = map[string]string{"deploy": "direct", "power": "fake"}
	e.Ports = []cluster.EnrolledPort{
		{MAC: "52:00:00" + e.Ports[0].MAC[8:], Network: "provision", PXE: true},
		{MAC: e.Ports[1].MAC, Network: "other", PXE: !e.Ports[1].PXE},
	}
	slices.SortFunc(e.Ports, func(a, b cluster.EnrolledPort) int { return strings.Compare(a.MAC, b.MAC) })
	return e
}

// do carries a step out.
func do(t *testing.T, e enrol.Enroller, clusterName string, s plan.Step) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Do(ctx, clusterName, s); err != nil {
		t.Fatal(err)
	}
}

// clean unenrols a node at the end of a test.
func clean(t *testing.T, e enrol.Enroller, clusterName string, want cluster.Enrolment) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Do(ctx, clusterName, plan.Unenrol{Enrolment: want}); err != nil {
			t.Error(err)
		}
	})
}

// observe returns what there is of a cluster.
func observe(t *testing.T, e enrol.Enroller, clusterName string) enrol.Found {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found, err := e.Observe(ctx, clusterName)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// same checks that a cluster has just these enrolments: a second apply must
// find no difference to what was wanted but the password, which nobody tells.
func same(t *testing.T, e enrol.Enroller, clusterName string, want ...cluster.Enrolment) {
	t.Helper()
	got := observe(t, e, clusterName).Enrolments
	for i := range want {
		want[i].Password = ""
	}
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("found differs from what was wanted:\n got %+v\nwant %+v", got, want)
	}
}

func testEnrol(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	want := Wanted("suite-enrol", "enrol-0")
	clean(t, e, "suite-enrol", want)
	do(t, e, "suite-enrol", plan.Enrol{Enrolment: want})
	same(t, e, "suite-enrol", want)
	same(t, e, "suite-other")

	n := s.call(t, http.MethodGet, "/v1/nodes/enrol-0", nil, http.StatusOK)
	info, _ := n["driver_info"].(map[string]any)
	if info["ipmi_password"] != "******" {
		t.Errorf("the API shows the password as %v: it is not there, or not hidden", info["ipmi_password"])
	}
	if n["deploy_interface"] != "fake" || n["resource_class"] != "baremetal" || n["uuid"] != want.UUID {
		t.Errorf("the node is %v", n)
	}
	before := n["updated_at"]
	do(t, e, "suite-enrol", plan.Enrol{Enrolment: want})
	if n = s.call(t, http.MethodGet, "/v1/nodes/enrol-0", nil, http.StatusOK); n["updated_at"] != before {
		t.Errorf("enrolled again, the node was changed at %v", n["updated_at"])
	}
}

func testUpdate(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	old := Wanted("suite-update", "update-0")
	clean(t, e, "suite-update", old)
	do(t, e, "suite-update", plan.Enrol{Enrolment: old})
	want := different(old)
	do(t, e, "suite-update", plan.UpdateEnrolment{Old: old, New: want})
	same(t, e, "suite-update", want)
	n := s.call(t, http.MethodGet, "/v1/nodes/update-0", nil, http.StatusOK)
	if n["boot_interface"] == nil {
		t.Error("an interface that is no longer asked for is not back at a default")
	}
	do(t, e, "suite-update", plan.UpdateEnrolment{Old: want, New: old}) // and back
	same(t, e, "suite-update", old)

	none := old
	none.Traits, none.Interfaces, none.Ports, none.Properties = nil, nil, nil, nil
	do(t, e, "suite-update", plan.UpdateEnrolment{Old: old, New: none})
	same(t, e, "suite-update", none)
}

// What others add to a node of ours is theirs.
func testOthersAttributes(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	want := Wanted("suite-others", "others-0")
	clean(t, e, "suite-others", want)
	do(t, e, "suite-others", plan.Enrol{Enrolment: want})
	path := "/v1/nodes/" + want.UUID
	s.call(t, http.MethodPut, path+"/traits", map[string]any{"traits": []string{"CUSTOM_ONE", "CUSTOM_THEIRS", "CUSTOM_TWO"}}, 0)
	s.call(t, http.MethodPatch, path, []any{
		map[string]any{"op": "add", "path": "/properties/vendor", "value": "acme"},
		map[string]any{"op": "add", "path": "/extra/note", "value": "hello"},
	}, 0)
	s.call(t, http.MethodPost, "/v1/ports", map[string]any{"node_uuid": want.UUID, "address": "52:99:00:00:00:01"}, 0)
	same(t, e, "suite-others", want)
	changed := want
	changed.Traits = []string{"CUSTOM_TWO"}
	changed.Ports = want.Ports[:1]
	do(t, e, "suite-others", plan.UpdateEnrolment{Old: want, New: changed})
	same(t, e, "suite-others", changed)
	n := s.call(t, http.MethodGet, path, nil, http.StatusOK)
	if got := fmt.Sprint(n["traits"]); !strings.Contains(got, "CUSTOM_THEIRS") || strings.Contains(got, "CUSTOM_ONE") {
		t.Errorf("traits are %s", got)
	}
	if got := fmt.Sprint(n["properties"], n["extra"]); !strings.Contains(got, "acme") || !strings.Contains(got, "hello") {
		t.Errorf("properties and extra are %s", got)
	}
	ports := s.call(t, http.MethodGet, "/v1/ports?node="+want.UUID, nil, http.StatusOK)
	if got := fmt.Sprint(ports["ports"]); !strings.Contains(got, "52:99:00:00:00:01") {
		t.Errorf("ports are %s", got)
	}
	// What is drifted is seen, and mended.
	s.call(t, http.MethodPatch, path, []any{map[string]any{"op": "replace", "path": "/properties/cpus", "value": 7}}, 0)
	if got := observe(t, e, "suite-others").Enrolments; len(got) != 1 || got[0].Properties["cpus"] != "7" {
		t.Errorf("a changed property is not seen: %+v", got)
	}
	do(t, e, "suite-others", plan.UpdateEnrolment{Old: changed, New: changed})
	same(t, e, "suite-others", changed)
	// A port of the node's that somebody else has made first is taken over.
	changed.Ports = append(slices.Clone(changed.Ports), cluster.EnrolledPort{MAC: "52:99:00:00:00:01", Network: "tenant"})
	slices.SortFunc(changed.Ports, func(a, b cluster.EnrolledPort) int { return strings.Compare(a.MAC, b.MAC) })
	do(t, e, "suite-others", plan.UpdateEnrolment{New: changed})
	same(t, e, "suite-others", changed)
}

func testUnenrol(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	want := Wanted("suite-unenrol", "unenrol-0")
	do(t, e, "suite-unenrol", plan.Unenrol{Enrolment: want}) // absent already
	do(t, e, "suite-unenrol", plan.Enrol{Enrolment: want})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Do(ctx, "suite-unenrol-2", plan.Unenrol{Enrolment: want}); err == nil {
		t.Error("another cluster may unenrol the node")
	}
	same(t, e, "suite-unenrol", want)
	do(t, e, "suite-unenrol", plan.Unenrol{Enrolment: want})
	found := observe(t, e, "suite-unenrol")
	if len(found.Enrolments) != 0 {
		t.Errorf("still there: %+v", found.Enrolments)
	}
	for _, other := range found.Strangers {
		if other.Name == want.Node || other.Name == want.Ports[0].MAC {
			t.Errorf("left behind: %+v", other)
		}
	}
}

// foreign makes a node with the API alone.
func (s Service) foreign(t *testing.T, body map[string]any) (uuid string) {
	t.Helper()
	body["driver"] = "fake-hardware"
	n := s.call(t, http.MethodPost, "/v1/nodes", body, http.StatusCreated)
	uuid, _ = n["uuid"].(string)
	t.Cleanup(func() { s.call(t, http.MethodDelete, "/v1/nodes/"+uuid, nil, 0) })
	return uuid
}

// refusedBy checks that a step fails with an error that has the words, and
// that the foreign node stays as it was.
func (s Service) refusedBy(t *testing.T, clusterName string, step plan.Step, uuid string, words ...string) {
	t.Helper()
	before := s.call(t, http.MethodGet, "/v1/nodes/"+uuid, nil, http.StatusOK)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := s.Open(t, s.URL).Do(ctx, clusterName, step)
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not have %q", err, w)
		}
	}
	if after := s.call(t, http.MethodGet, "/v1/nodes/"+uuid, nil, http.StatusOK); !reflect.DeepEqual(before, after) {
		t.Errorf("a foreign node was changed:\nbefore %v\n after %v", before, after)
	}
}

func testForeignName(t *testing.T, s Service) {
	uuid := s.foreign(t, map[string]any{"name": "foreign-0"})
	want := Wanted("suite-foreign", "foreign-0")
	s.refusedBy(t, "suite-foreign", plan.Enrol{Enrolment: want}, uuid, "foreign-0", "not made by Tenks")
	same(t, s.Open(t, s.URL), "suite-foreign")
}

func testForeignUUID(t *testing.T, s Service) {
	want := Wanted("suite-foreign", "foreign-1")
	uuid := s.foreign(t, map[string]any{"name": "foreign-x", "uuid": want.UUID,
		"extra": map[string]any{"tenks": map[string]any{"cluster": "ci", "node": "foreign-1"}}})
	s.refusedBy(t, "suite-foreign", plan.Enrol{Enrolment: want}, uuid, `cluster "ci"`)
	s.refusedBy(t, "suite-foreign", plan.UpdateEnrolment{New: want}, uuid, `cluster "ci"`)
	s.refusedBy(t, "suite-foreign", plan.Unenrol{Enrolment: want}, uuid, `cluster "ci"`)
}

func testForeignMAC(t *testing.T, s Service) {
	uuid := s.foreign(t, map[string]any{"name": "foreign-2"})
	want := Wanted("suite-foreign", "foreign-3")
	s.call(t, http.MethodPost, "/v1/ports", map[string]any{"node_uuid": uuid, "address": want.Ports[0].MAC}, http.StatusCreated)
	clean(t, s.Open(t, s.URL), "suite-foreign", want)
	s.refusedBy(t, "suite-foreign", plan.Enrol{Enrolment: want}, uuid, want.Ports[0].MAC, "not made by Tenks")
	found := observe(t, s.Open(t, s.URL), "suite-foreign").Enrolments
	if len(found) != 1 || found[0].State != "enroll" {
		t.Errorf("found %+v, want a node that is not available", found)
	}
}

func testStrangers(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	uuid := s.foreign(t, map[string]any{"name": "stranger-0"})
	s.call(t, http.MethodPost, "/v1/ports", map[string]any{"node_uuid": uuid, "address": "52:98:00:00:00:01"}, http.StatusCreated)
	s.foreign(t, map[string]any{"extra": map[string]any{"tenks": "not ours"}}) // without a name
	theirs := Wanted("suite-theirs", "stranger-1")
	clean(t, e, "suite-theirs", theirs)
	do(t, e, "suite-theirs", plan.Enrol{Enrolment: theirs})
	var got []cluster.Stranger
	for _, one := range observe(t, e, "suite-strangers").Strangers {
		if strings.HasPrefix(one.Name, "stranger-") || one.Name == "52:98:00:00:00:01" || one.Name == theirs.Ports[0].MAC {
			got = append(got, one)
		}
		if one.Name == "" {
			t.Errorf("a stranger without a name: %+v", one)
		}
	}
	want := []cluster.Stranger{
		{Kind: cluster.StrangerNode, Name: "stranger-0", Owner: "not made by Tenks"},
		{Kind: cluster.StrangerNode, Name: "stranger-1", Owner: `cluster "suite-theirs"`},
		{Kind: cluster.StrangerMAC, Name: theirs.Ports[0].MAC, Owner: `cluster "suite-theirs"`},
		{Kind: cluster.StrangerMAC, Name: "52:98:00:00:00:01", Owner: "not made by Tenks"},
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("missing %+v in %+v", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %+v", got)
	}
}

func testMany(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	var want []cluster.Enrolment
	var all sync.WaitGroup
	for i := range 20 {
		want = append(want, Wanted("suite-many", fmt.Sprintf("many-%02d", i)))
		clean(t, e, "suite-many", want[i])
	}
	for _, w := range want {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			if err := e.Do(ctx, "suite-many", plan.Enrol{Enrolment: w}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	same(t, e, "suite-many", want...)
}

// Whoever finds a node locked comes again until it is free.
func testLocked(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	want := Wanted("suite-locked", "locked-0")
	clean(t, e, "suite-locked", want)
	do(t, e, "suite-locked", plan.Enrol{Enrolment: want})
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			changed := want
			changed.Properties = map[string]string{"cpus": fmt.Sprint(i)}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := e.Do(ctx, "suite-locked", plan.UpdateEnrolment{Old: want, New: changed}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	do(t, e, "suite-locked", plan.UpdateEnrolment{New: want})
	same(t, e, "suite-locked", want)
}

// A node in maintenance is reported, and not put on offer.
func testMaintenance(t *testing.T, s Service) {
	e := s.Open(t, s.URL)
	want := Wanted("suite-maintenance", "maintenance-0")
	clean(t, e, "suite-maintenance", want)
	do(t, e, "suite-maintenance", plan.Enrol{Enrolment: want})
	path := "/v1/nodes/" + want.UUID
	s.call(t, http.MethodPut, path+"/states/provision", map[string]any{"target": "manage"}, http.StatusAccepted)
	s.call(t, http.MethodPut, path+"/maintenance", map[string]any{"reason": "on fire"}, http.StatusAccepted)
	found := observe(t, e, "suite-maintenance").Enrolments
	if len(found) != 1 || !strings.Contains(found[0].LastError, "on fire") {
		t.Errorf("maintenance is not reported: %+v", found)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := e.Do(ctx, "suite-maintenance", plan.UpdateEnrolment{New: want})
	if err == nil || !strings.Contains(err.Error(), "on fire") {
		t.Errorf("error is %v", err)
	}
}

// A service that does not answer holds nobody up for longer than they allow.
func testDeadline(t *testing.T, s Service) {
	want := Wanted("suite-deadline", "deadline-0")
	open := make(chan struct{})
	close(open)
	gate := open
	var mu sync.Mutex
	front := s.front(t, func(r *http.Request) {
		mu.Lock()
		g := gate
		mu.Unlock()
		select {
		case <-g:
		case <-r.Context().Done():
		}
	}, nil)
	e := s.Open(t, front)
	mu.Lock()
	gate = make(chan struct{})
	mu.Unlock()
	for name, call := range map[string]func(ctx context.Context) error{
		"Do": func(ctx context.Context) error { return e.Do(ctx, "suite-deadline", plan.Enrol{Enrolment: want}) },
		"Observe": func(ctx context.Context) error {
			_, err := e.Observe(ctx, "suite-deadline")
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		start := time.Now()
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: error is %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// front puts a proxy before the service; before and after are called around
// every request that it passes on.
func (s Service) front(t *testing.T, before, after func(r *http.Request)) string {
	t.Helper()
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before(r)
		}
		if r.Context().Err() != nil {
			return
		}
		// What has been sent is carried out, even if nobody waits for it.
		proxy.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
		if after != nil {
			after(r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// call makes a request; want is the status that it must have, 0 for any success.
func (s Service) call(t *testing.T, method, path string, body any, want int) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		r, err := http.NewRequestWithContext(context.Background(), method, s.URL+path, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-OpenStack-Ironic-API-Version", "1.80")
		if s.Username != "" {
			r.SetBasicAuth(s.Username, s.Password)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // it was read
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode == http.StatusConflict && bytes.Contains(out, []byte("is locked by host")) {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		if answer.StatusCode != want && want != 0 || answer.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, answer.StatusCode, out)
		}
		got := map[string]any{}
		if len(out) > 0 {
			_ = json.Unmarshal(out, &got) // some answers have no body
		}
		return got
	}
	t.Fatalf("%s %s: the node stays locked", method, path)
	return nil
}
