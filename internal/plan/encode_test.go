package plan_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/plan"
)

var (
	node      = cluster.Node{Name: "dev-0", Hypervisor: "hv1", Provider: cluster.Libvirt, Power: cluster.PowerOn, Volumes: []cluster.Volume{{Name: "dev-0-vol0", Size: 1 << 30}}}
	tap       = cluster.Tap{Name: "dev-0-0", Hypervisor: "hv1", Bridge: "br-dev-prov", Node: "dev-0"}
	bmc       = cluster.BMC{Node: "dev-0", Hypervisor: "hv1", Address: "127.64.0.1", Port: 623, Password: "s3cret", Serving: true}
	net       = cluster.Network{Name: "prov", Hypervisor: "hv1", Bridge: "br-dev-prov", Uplink: "eth1", Up: true}
	pool      = cluster.Pool{Name: "tenks-dev", Hypervisor: "hv1", Active: true}
	cloud     = cluster.Cloud{Hypervisor: "hv1", ID: "cloud:lab"}
	enrolment = cluster.Enrolment{Node: "dev-0", Driver: "ipmi", Password: "s3cret", Traits: []string{"CUSTOM_A"}, State: "available"}
)

// everyStep is one of each; the fields are filled, so that a forgotten one shows.
var everyStep = []plan.Step{
	plan.CreatePool{Pool: pool, Reason: "is not active"}, plan.DeletePool{Pool: pool},
	plan.CreateNetwork{Network: net}, plan.UpdateNetwork{Old: net, New: net}, plan.DeleteNetwork{Network: net},
	plan.CreateTaps{Hypervisor: "hv1", Taps: []cluster.Tap{tap}, Old: []cluster.Tap{tap}}, plan.DeleteTaps{Hypervisor: "hv1", Taps: []cluster.Tap{tap}},
	plan.CreateNode{Node: node}, plan.UpdateNode{Old: node, New: node}, plan.DeleteNode{Node: node},
	plan.CreateBMCs{Hypervisor: "hv1", BMCs: []cluster.BMC{bmc}}, plan.UpdateBMCs{Hypervisor: "hv1", Old: []cluster.BMC{bmc}, New: []cluster.BMC{bmc}},
	plan.DeleteBMCs{Hypervisor: "hv1", BMCs: []cluster.BMC{bmc}},
	plan.RememberCloud{Cloud: cloud}, plan.ForgetCloud{Cloud: cloud},
	plan.Enrol{Enrolment: enrolment, Reason: "is not available"}, plan.UpdateEnrolment{Old: enrolment, New: enrolment}, plan.Unenrol{Enrolment: enrolment},
}

// What a hypervisor receives is what was sent, passwords included; what people
// read holds none.
func TestEncode(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range everyStep {
		if v := reflect.ValueOf(s); true {
			for i := range v.NumField() {
				if v.Field(i).IsZero() {
					t.Errorf("the test leaves %T.%s empty", s, v.Type().Field(i).Name)
				}
			}
		}
		b, err := plan.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Step string }
		if err := json.Unmarshal(b, &e); err != nil || e.Step == "" || seen[e.Step] {
			t.Errorf("%T is %q in JSON, %v", s, e.Step, err)
		}
		seen[e.Step] = true
		again, err := plan.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(s, again) { // cmp would not show two secrets
			t.Errorf("%T does not survive JSON:\n%s", s, cmp.Diff(s, again))
		}
		if again.Where() != s.Where() {
			t.Errorf("%T is for %q, and then for %q", s, s.Where(), again.Where())
		}
		for _, c := range s.Changes() {
			if text, err := json.Marshal(c); err != nil || strings.Contains(string(text)+c.String(), "s3cret") {
				t.Errorf("%T tells a password: %s, %v", s, text, err)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":         ``,
		"no JSON":         `{`,
		"unknown step":    `{"step": "reboot_host", "data": {}}`,
		"no step":         `{"data": {}}`,
		"unknown field":   `{"step": "delete_node", "data": {"Node": {"name": "a"}, "Force": true}}`,
		"field of a node": `{"step": "delete_node", "data": {"Node": {"nam": "a"}}}`,
		"wrong type":      `{"step": "create_node", "data": {"Node": {"vcpus": "two"}}}`,
	} {
		if s, err := plan.Decode([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "decode step") {
			t.Errorf("%s: %#v, %v", name, s, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range everyStep {
		b, err := plan.Encode(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := plan.Decode(b)
		if err != nil {
			return
		}
		again, err := plan.Encode(s)
		if err != nil {
			t.Fatalf("decoded and not encoded: %v", err)
		}
		twice, err := plan.Decode(again)
		if err != nil {
			t.Fatalf("encoded and not decoded: %v", err)
		}
		if last, err := plan.Encode(twice); err != nil || string(last) != string(again) { // an empty list may become none
			t.Errorf("%s\nis then %s, %v", again, last, err)
		}
		_ = s.Where()
		_ = s.Changes() // must not panic
	})
}
