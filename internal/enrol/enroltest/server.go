// Package enroltest has an Ironic with memory only, and the suite that
// implementations of [enrol.Enroller] pass against it and against a real Ironic.
package enroltest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Ironic is an [http.Handler] that speaks as much of Ironic's REST API as
// enrolment needs: nodes, traits, ports, the states of a node without an
// instance. The zero value is usable; fields are set before the first request.
//
// What it does is what Ironic 21.4 was seen to do, down to the statuses and the
// words of errors that clients tell apart; the suite passes against both.
type Ironic struct {
	Username, Password string        // HTTP basic authentication; empty: none
	MinMinor, MaxMinor int           // versions of the API; 0 means 1 and 82, those of Ironic 21.4
	PageSize           int           // most objects in one answer; 0 means 1000
	Delay              time.Duration // a change of state takes; 0 means 5 ms
	KeepAvailable      bool          // [conductor]allow_deleting_available_nodes is false
	// Verify, if set, is the answer of a node's BMC when it becomes
	// manageable; an error sends the node back to the state enroll.
	Verify func(node string) error
	// Intercept, if set, sees every request first, and returns true if it has
	// answered: it is how a test breaks the third request.
	Intercept func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	nodes    []*object
	ports    []*object
	locks    map[string]int // node name: how many changes it still refuses
	requests []string
	made     int
}

// object is a node or a port: its fields as the API has them.
type object struct {
	id     int
	fields map[string]any
	due    time.Time // of the change of state that is under way
	next   string    // the state after it
}

// fault is an answer that is no success.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

func faultf(status int, format string, args ...any) *fault {
	return &fault{status, fmt.Sprintf(format, args...)}
}

// Lock has the next n changes of the node refused, as if a conductor held it.
func (s *Ironic) Lock(node string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks == nil {
		s.locks = map[string]int{}
	}
	s.locks[node] = n
}

// SetState puts a node into a state, with other fields if some are given.
func (s *Ironic) SetState(node, state string, fields map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.node(node)
	o.fields["provision_state"], o.fields["target_provision_state"], o.next = state, nil, ""
	for k, v := range fields {
		o.fields[k] = v
	}
}

// Secret returns a value of a node's driver_info as it is stored; the API
// shows passwords as asterisks.
func (s *Ironic) Secret(node, key string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.node(node); o != nil {
		return o.fields["driver_info"].(map[string]any)[key]
	}
	return nil
}

// Requests lists what was asked for since the last call: "GET /v1/nodes".
func (s *Ironic) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// ServeHTTP implements [http.Handler].
func (s *Ironic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if s.Intercept != nil && s.Intercept(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	low, high := max(s.MinMinor, 1), s.MaxMinor
	if high == 0 {
		high = 82
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if s.Username != "" {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte(s.Username+":"+s.Password))
		if r.Header.Get("Authorization") != want {
			// The words of ironic-lib's auth_basic middleware.
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error": {"message": "Authorization required", "code": 401}}`))
			return
		}
	}
	minor := low
	if v := r.Header.Get("X-OpenStack-Ironic-API-Version"); v != "" {
		_, _ = fmt.Sscanf(v, "1.%d", &minor)
	}
	h.Set("X-OpenStack-Ironic-API-Minimum-Version", fmt.Sprintf("1.%d", low))
	h.Set("X-OpenStack-Ironic-API-Maximum-Version", fmt.Sprintf("1.%d", high))
	status, body, err := http.StatusNotAcceptable, any(nil), error(faultf(http.StatusNotAcceptable,
		"Version 1.%d was requested but the requested API version is not supported by the service. The supported version range is: ['1.%d', '1.%d'].",
		minor, low, high))
	if low <= minor && minor <= high {
		h.Set("X-OpenStack-Ironic-API-Version", fmt.Sprintf("1.%d", minor))
		s.advance()
		status, body, err = s.route(r)
	}
	if err != nil {
		status = http.StatusInternalServerError
		if f, ok := err.(*fault); ok { //nolint:errorlint // made here, never wrapped
			status = f.status
		}
		inner, _ := json.Marshal(map[string]any{"faultcode": "Client", "faultstring": err.Error(), "debuginfo": nil})
		body = map[string]string{"error_message": string(inner)}
	}
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // whoever asked may have gone
	}
}

// route is the table of what there is.
func (s *Ironic) route(r *http.Request) (int, any, error) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 2 || parts[0] != "v1" || len(parts) > 5 {
		return 0, nil, faultf(http.StatusNotFound, "Not Found")
	}
	var in any
	if r.Body != nil && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch) {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			return 0, nil, faultf(http.StatusBadRequest, "Malformed request: %v", err)
		}
	}
	kind := r.Method + " " + parts[1]
	if len(parts) > 2 {
		kind += "/X"
	}
	if len(parts) > 3 {
		kind += "/" + strings.Join(parts[3:], "/")
	}
	switch kind {
	case "GET nodes":
		return s.list(r, "nodes", s.nodes)
	case "POST nodes":
		return s.createNode(in)
	case "GET ports":
		return s.listPorts(r)
	case "POST ports":
		return s.createPort(in)
	case "PATCH ports/X", "DELETE ports/X":
		return s.changePort(r.Method, parts[2], in)
	case "GET nodes/X", "PATCH nodes/X", "DELETE nodes/X", "PUT nodes/X/traits", "PUT nodes/X/states/provision", "PUT nodes/X/maintenance":
	default:
		return 0, nil, faultf(http.StatusNotFound, "The resource could not be found.")
	}
	n := s.node(parts[2])
	if n == nil {
		return 0, nil, faultf(http.StatusNotFound, "Node %s could not be found.", parts[2])
	}
	if r.Method == http.MethodGet {
		body, err := n.show(fieldsOf(r))
		return http.StatusOK, body, err
	}
	if err := s.reserve(n); err != nil {
		return 0, nil, err
	}
	switch kind {
	case "PATCH nodes/X":
		return s.patchNode(n, in)
	case "DELETE nodes/X":
		return s.deleteNode(n)
	case "PUT nodes/X/traits":
		return n.setTraits(in)
	case "PUT nodes/X/maintenance":
		n.fields["maintenance"], n.fields["maintenance_reason"] = true, in.(map[string]any)["reason"]
		return http.StatusAccepted, nil, nil
	}
	return s.provision(n, in)
}

// node finds a node by name or UUID.
func (s *Ironic) node(ident string) *object {
	i := slices.IndexFunc(s.nodes, func(n *object) bool { return n.fields["uuid"] == ident || n.fields["name"] == ident })
	if i < 0 || ident == "" {
		return nil
	}
	return s.nodes[i]
}

// reserve refuses a change of a node that is locked.
func (s *Ironic) reserve(n *object) error {
	name := n.word("name")
	if s.locks[name] > 0 {
		s.locks[name]--
		return faultf(http.StatusConflict,
			"Node %s is locked by host double, please retry after the current operation is completed.", n.word("uuid"))
	}
	return nil
}

// list answers with one page, and the link to the next.
func (s *Ironic) list(r *http.Request, kind string, all []*object) (int, any, error) {
	size := s.PageSize
	if size == 0 {
		size = 1000
	}
	q := r.URL.Query()
	if limit, err := strconv.Atoi(q.Get("limit")); err == nil && limit > 0 {
		size = min(size, limit)
	}
	if marker := q.Get("marker"); marker != "" {
		at := slices.IndexFunc(all, func(o *object) bool { return o.fields["uuid"] == marker })
		if at < 0 {
			return 0, nil, faultf(http.StatusBadRequest, "Marker %s could not be found.", marker)
		}
		all = all[at+1:]
	}
	body := map[string]any{}
	if len(all) > size {
		all = all[:size]
		q.Set("marker", all[size-1].word("uuid"))
		body["next"] = "http://" + r.Host + r.URL.Path + "?" + q.Encode()
	}
	shown := []any{}
	for _, o := range all {
		one, err := o.show(fieldsOf(r))
		if err != nil {
			return 0, nil, err
		}
		shown = append(shown, one)
	}
	body[kind] = shown
	return http.StatusOK, body, nil
}

func fieldsOf(r *http.Request) []string {
	if f := r.URL.Query().Get("fields"); f != "" {
		return strings.Split(f, ",")
	}
	return nil
}

// show is an object as the API shows it, passwords hidden.
func (o *object) show(fields []string) (map[string]any, error) {
	body := map[string]any{}
	for k, v := range o.fields {
		if fields == nil || slices.Contains(fields, k) {
			body[k] = v
		}
	}
	for _, f := range fields {
		if _, ok := o.fields[f]; !ok {
			return nil, faultf(http.StatusBadRequest, "Field(s) \"%s\" are not valid.", f)
		}
	}
	if info, ok := body["driver_info"].(map[string]any); ok {
		hidden := map[string]any{}
		for k, v := range info {
			if strings.Contains(k, "password") {
				v = "******"
			}
			hidden[k] = v
		}
		body["driver_info"] = hidden
	}
	return body, nil
}

// word is a field that is a string.
func (o *object) word(field string) string {
	w, _ := o.fields[field].(string)
	return w
}
