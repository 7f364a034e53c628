package enroltest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
)

var macPattern = regexp.MustCompile(`^([0-9a-f]{2}:){5}[0-9a-f]{2}$`)

// listPorts lists all ports, those of a node, or the one with an address.
func (s *Ironic) listPorts(r *http.Request) (int, any, error) {
	q := r.URL.Query()
	ports := slices.Clone(s.ports)
	if ident := q.Get("node"); ident != "" {
		n := s.node(ident)
		if n == nil {
			return 0, nil, faultf(http.StatusNotFound, "Node %s could not be found.", ident)
		}
		ports = slices.DeleteFunc(ports, func(p *object) bool { return p.fields["node_uuid"] != n.fields["uuid"] })
	}
	if address := q.Get("address"); address != "" {
		ports = slices.DeleteFunc(ports, func(p *object) bool { return p.fields["address"] != address })
	}
	return s.list(r, "ports", ports)
}

func (s *Ironic) createPort(in any) (int, any, error) {
	body, _ := in.(map[string]any)
	s.made++
	p := &object{id: s.made, fields: map[string]any{
		"uuid": fmt.Sprintf("00000000-0000-4000-9000-%012d", s.made), "address": nil, "node_uuid": nil,
		"physical_network": nil, "pxe_enabled": true, "extra": map[string]any{},
	}}
	for k, v := range body {
		if _, ok := p.fields[k]; !ok {
			return 0, nil, faultf(http.StatusBadRequest, "Schema error for port: Additional properties are not allowed ('%s' was unexpected)", k)
		}
		p.fields[k] = v
	}
	if !macPattern.MatchString(p.word("address")) {
		return 0, nil, faultf(http.StatusBadRequest, "Expected a MAC address but received %v.", p.fields["address"])
	}
	n := s.node(p.word("node_uuid"))
	if n == nil {
		return 0, nil, faultf(http.StatusBadRequest, "Node %v could not be found.", p.fields["node_uuid"])
	}
	if err := s.reserve(n); err != nil {
		return 0, nil, err
	}
	if s.taken(p) {
		return 0, nil, faultf(http.StatusConflict, "A port with MAC address %s already exists.", p.word("address"))
	}
	s.ports = append(s.ports, p)
	shown, err := p.show(nil)
	return http.StatusCreated, shown, err
}

func (s *Ironic) taken(p *object) bool {
	return slices.ContainsFunc(s.ports, func(o *object) bool { return o != p && o.fields["address"] == p.fields["address"] })
}

func (s *Ironic) changePort(method, uuid string, in any) (int, any, error) {
	at := slices.IndexFunc(s.ports, func(p *object) bool { return p.fields["uuid"] == uuid })
	if at < 0 {
		return 0, nil, faultf(http.StatusNotFound, "Port %s could not be found.", uuid)
	}
	p := s.ports[at]
	n := s.node(p.word("node_uuid"))
	if err := s.reserve(n); err != nil {
		return 0, nil, err
	}
	if method == http.MethodDelete {
		s.ports = slices.Delete(s.ports, at, at+1)
		return http.StatusNoContent, nil, nil
	}
	connectivity := false
	fields, err := patched(p.fields, in, func(field string) bool {
		connectivity = connectivity || field == "pxe_enabled" || field == "physical_network"
		_, ok := p.fields[field]
		return ok && field != "uuid"
	})
	if err != nil {
		return 0, nil, err
	}
	delete(fields, "traits")
	state := n.word("provision_state")
	free := slices.Contains([]string{"enroll", "inspecting", "inspect wait", "manageable"}, state) || n.fields["maintenance"] == true
	if connectivity && !free {
		return 0, nil, faultf(http.StatusConflict, "Port %s can not have any connectivity attributes (...) updated unless node %s"+
			" is in a ... state or in maintenance mode. The current state is %s.", uuid, n.word("uuid"), state)
	}
	p.fields = fields
	shown, err := p.show(nil)
	return http.StatusOK, shown, err
}
