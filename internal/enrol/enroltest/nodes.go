package enroltest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The interfaces of the double's one driver, fake-hardware, and their defaults.
var defaults = map[string]string{
	"bios_interface": "fake", "boot_interface": "ipxe", "console_interface": "no-console", "deploy_interface": "direct",
	"inspect_interface": "no-inspect", "management_interface": "fake", "network_interface": "noop", "power_interface": "fake",
	"raid_interface": "no-raid", "rescue_interface": "no-rescue", "storage_interface": "noop", "vendor_interface": "no-vendor",
}

var (
	traitPattern = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,254}$`)
	uuidPattern  = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// settable says which fields of a node a client may give.
func settable(field string) bool {
	return slices.Contains([]string{"name", "driver", "driver_info", "properties", "resource_class", "extra"}, field) ||
		defaults[field] != ""
}

func (s *Ironic) createNode(in any) (int, any, error) {
	body, ok := in.(map[string]any)
	if !ok {
		return 0, nil, faultf(http.StatusBadRequest, "Schema error for node: not an object")
	}
	s.made++
	n := &object{id: s.made, fields: map[string]any{
		"uuid": fmt.Sprintf("00000000-0000-4000-8000-%012d", s.made), "name": nil, "driver": nil,
		"driver_info": map[string]any{}, "properties": map[string]any{}, "resource_class": "baremetal", "extra": map[string]any{},
		"traits": []string{}, "provision_state": "enroll", "target_provision_state": nil, "last_error": nil,
		"maintenance": false, "maintenance_reason": nil, "instance_uuid": nil,
	}}
	for k, v := range defaults {
		n.fields[k] = v
	}
	for k, v := range body {
		if k != "uuid" && !settable(k) {
			return 0, nil, faultf(http.StatusBadRequest, "Schema error for node: Additional properties are not allowed ('%s' was unexpected)", k)
		}
		n.fields[k] = v
	}
	if n.word("driver") != "fake-hardware" {
		return 0, nil, faultf(http.StatusBadRequest,
			"No valid host was found. Reason: No conductor service registered which supports driver %s.", n.word("driver"))
	}
	if !uuidPattern.MatchString(n.word("uuid")) {
		return 0, nil, faultf(http.StatusBadRequest, "Schema error for node: '%s' is not a UUID", n.word("uuid"))
	}
	for _, other := range s.nodes {
		if other.fields["uuid"] == n.fields["uuid"] {
			return 0, nil, faultf(http.StatusConflict, "A node with UUID %s already exists.", n.word("uuid"))
		}
		if n.word("name") != "" && other.fields["name"] == n.fields["name"] {
			return 0, nil, faultf(http.StatusConflict, "A node with name %s already exists.", n.word("name"))
		}
	}
	s.nodes = append(s.nodes, n)
	shown, err := n.show(nil)
	return http.StatusCreated, shown, err
}

func (s *Ironic) deleteNode(n *object) (int, any, error) {
	state := n.word("provision_state")
	may := slices.Contains([]string{"manageable", "enroll", "adopt failed"}, state) || state == "available" && !s.KeepAvailable
	if n.fields["maintenance"] != true {
		if n.fields["instance_uuid"] != nil {
			return 0, nil, faultf(http.StatusConflict, "Node %s is associated with instance %v.", n.word("uuid"), n.fields["instance_uuid"])
		}
		if !may {
			return 0, nil, faultf(http.StatusConflict, `Can not delete node "%s" while it is in provision state "%s".`+
				` Valid provision states to perform deletion are: ..., or set the node into maintenance mode`, n.word("uuid"), state)
		}
	}
	s.nodes = slices.DeleteFunc(s.nodes, func(o *object) bool { return o == n })
	s.ports = slices.DeleteFunc(s.ports, func(p *object) bool { return p.fields["node_uuid"] == n.fields["uuid"] })
	return http.StatusNoContent, nil, nil
}

func (n *object) setTraits(in any) (int, any, error) {
	body, _ := in.(map[string]any)
	list, ok := body["traits"].([]any)
	if !ok {
		return 0, nil, faultf(http.StatusBadRequest, "Schema error for body: traits")
	}
	traits := []string{}
	for _, t := range list {
		name, _ := t.(string)
		if !traitPattern.MatchString(name) {
			return 0, nil, faultf(http.StatusBadRequest, "Schema error for body: '%v' is not a valid trait", t)
		}
		traits = append(traits, name)
	}
	n.fields["traits"] = traits
	return http.StatusNoContent, nil, nil
}

// patchNode applies a JSON patch (RFC 6902: add, replace, remove).
func (s *Ironic) patchNode(n *object, in any) (int, any, error) {
	state := n.word("provision_state")
	if n.fields["target_provision_state"] != nil && !strings.HasSuffix(state, " failed") && state != "verifying" {
		return 0, nil, faultf(http.StatusConflict, "Node %s can not be updated while a state transition is in progress.", n.word("uuid"))
	}
	var changed []string
	fields, err := patched(n.fields, in, func(field string) bool {
		changed = append(changed, field)
		return settable(field)
	})
	if err != nil {
		return 0, nil, err
	}
	if fields["driver"] != "fake-hardware" {
		return 0, nil, faultf(http.StatusBadRequest,
			"No valid host was found. Reason: No conductor service registered which supports driver %v.", fields["driver"])
	}
	free := slices.Contains([]string{"enroll", "inspecting", "inspect wait", "manageable", "available"}, state)
	for _, f := range changed {
		if defaults[f] != "" || f == "resource_class" {
			if !free && n.fields["maintenance"] != true {
				return 0, nil, faultf(http.StatusConflict,
					"Node %s can not have %s updated unless it is in one of allowed (...) states or in maintenance mode.", n.word("uuid"), f)
			}
			if fields[f] == nil && defaults[f] != "" {
				fields[f] = defaults[f]
			}
		}
	}
	for _, other := range s.nodes {
		if other != n && fields["name"] != nil && other.fields["name"] == fields["name"] {
			return 0, nil, faultf(http.StatusConflict, "A node with name %v already exists.", fields["name"])
		}
	}
	n.fields = fields
	shown, err := n.show(nil)
	return http.StatusOK, shown, err
}

// patchPath is what the real one's schema accepts, escapes (RFC 6901) not among it.
var patchPath = regexp.MustCompile(`^(/[\w-]+)+$`)

// patched is a copy of fields with a patch applied.
func patched(fields map[string]any, in any, may func(field string) bool) (map[string]any, error) {
	list, ok := in.([]any)
	if !ok {
		return nil, faultf(http.StatusBadRequest, "Schema error for patch: not an array")
	}
	text, _ := json.Marshal(fields)
	out := map[string]any{}
	_ = json.Unmarshal(text, &out) // it was just made
	out["traits"] = fields["traits"]
	whole, _ := json.Marshal(in)
	for _, one := range list {
		c, _ := one.(map[string]any)
		op, _ := c["op"].(string)
		path, _ := c["path"].(string)
		if !patchPath.MatchString(path) {
			return nil, faultf(http.StatusBadRequest, "Schema error for patch: '%s' does not match '%s'", path, patchPath)
		}
		keys := strings.Split(strings.TrimPrefix(path, "/"), "/")
		if !may(keys[0]) || len(keys) > 2 {
			return nil, faultf(http.StatusBadRequest, "'%s' is an internal attribute and can not be updated", path)
		}
		at, key := out, keys[0]
		if len(keys) == 2 {
			at, _ = out[keys[0]].(map[string]any)
			key = keys[1]
		}
		_, there := at[key]
		switch {
		case at != nil && (op == "add" || op == "replace" && there):
			at[key] = c["value"]
		case at != nil && op == "remove" && there:
			delete(at, key)
			if len(keys) == 1 {
				at[key] = nil
			}
		default:
			// Ironic repeats the whole patch, passwords and all.
			return nil, faultf(http.StatusBadRequest, "Couldn't apply patch '%s'. Reason: can't %s a non-existent object '%s'", whole, op, key)
		}
	}
	return out, nil
}

// provision starts a change of state, as far as nodes without an instance go.
func (s *Ironic) provision(n *object, in any) (int, any, error) {
	body, _ := in.(map[string]any)
	verb, _ := body["target"].(string)
	state := n.word("provision_state")
	var via, next string
	switch verb + " " + state {
	case "manage enroll":
		via, next = "verifying", "manageable"
	case "manage available", "manage clean failed", "manage inspect failed", "manage adopt failed":
		next = "manageable"
	case "provide manageable":
		if n.fields["maintenance"] == true {
			return 0, nil, faultf(http.StatusBadRequest,
				"The providing operation can't be performed on node %s because it's in maintenance mode.", n.word("uuid"))
		}
		via, next = "cleaning", "available"
	case "abort clean wait":
		next = "clean failed"
	case "abort inspect wait":
		next = "inspect failed"
	default:
		if n.fields["target_provision_state"] != nil {
			return 0, nil, faultf(http.StatusConflict,
				"Node %s is locked by host double, please retry after the current operation is completed.", n.word("uuid"))
		}
		return 0, nil, faultf(http.StatusBadRequest,
			`The requested action "%s" can not be performed on node "%s" while it is in state "%s".`, verb, n.word("uuid"), state)
	}
	n.fields["last_error"] = nil
	if via == "" {
		n.fields["provision_state"], n.fields["target_provision_state"] = next, nil
		return http.StatusAccepted, nil, nil
	}
	delay := s.Delay
	if delay == 0 {
		delay = 5 * time.Millisecond
	}
	n.fields["provision_state"], n.fields["target_provision_state"] = via, next
	n.next, n.due = next, time.Now().Add(delay)
	return http.StatusAccepted, nil, nil
}

// advance ends the changes of state whose time has come.
func (s *Ironic) advance() {
	for _, n := range s.nodes {
		if n.next == "" || time.Now().Before(n.due) {
			continue
		}
		n.fields["provision_state"], n.fields["target_provision_state"] = n.next, nil
		if n.next == "manageable" && s.Verify != nil {
			if err := s.Verify(n.word("name")); err != nil {
				n.fields["provision_state"] = "enroll"
				n.fields["last_error"] = fmt.Sprintf("Failed to get power state for node %s. Error: %v", n.word("uuid"), err)
			}
		}
		n.next = ""
	}
}
