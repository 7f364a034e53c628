package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// envelope is a step on its way to a hypervisor.
type envelope struct {
	Step string          `json:"step"`
	Data json.RawMessage `json:"data"`
}

// kind is a type of step and its name in JSON.
type kind struct {
	name   string
	typ    reflect.Type
	decode func([]byte) (Step, error)
}

// kinds are all steps that [Encode] writes and [Decode] reads.
var kinds = []kind{
	kindOf[CreatePool]("create_pool"),
	kindOf[DeletePool]("delete_pool"),
	kindOf[CreateNetwork]("create_network"),
	kindOf[UpdateNetwork]("update_network"),
	kindOf[DeleteNetwork]("delete_network"),
	kindOf[CreateTaps]("create_taps"),
	kindOf[DeleteTaps]("delete_taps"),
	kindOf[CreateNode]("create_node"),
	kindOf[UpdateNode]("update_node"),
	kindOf[DeleteNode]("delete_node"),
	kindOf[CreateBMCs]("create_bmcs"),
	kindOf[UpdateBMCs]("update_bmcs"),
	kindOf[DeleteBMCs]("delete_bmcs"),
	kindOf[RememberCloud]("remember_cloud"),
	kindOf[ForgetCloud]("forget_cloud"),
	kindOf[Enrol]("enrol"),
	kindOf[UpdateEnrolment]("update_enrolment"),
	kindOf[Unenrol]("unenrol"),
}

func kindOf[T Step](name string) kind {
	return kind{name, reflect.TypeFor[T](), func(b []byte) (Step, error) {
		var s T
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields() // both ends are the same program
		if err := d.Decode(&s); err != nil {
			return nil, err
		}
		return s, nil
	}}
}

// Encode writes a step as JSON. The JSON holds passwords in clear: it is for
// the hypervisor, not for a log.
func Encode(s Step) ([]byte, error) {
	for _, k := range kinds {
		if k.typ != reflect.TypeOf(s) {
			continue
		}
		data, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("encode step %s: %w", k.name, err)
		}
		return json.Marshal(envelope{k.name, data})
	}
	return nil, fmt.Errorf("encode step: %T is no step", s)
}

// Decode reads a step that [Encode] has written.
func Decode(b []byte) (Step, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("decode step: %w", err)
	}
	for _, k := range kinds {
		if k.name == e.Step {
			s, err := k.decode(e.Data)
			if err != nil {
				return nil, fmt.Errorf("decode step %s: %w", k.name, err)
			}
			return s, nil
		}
	}
	return nil, fmt.Errorf("decode step: there is no step %q", e.Step)
}
