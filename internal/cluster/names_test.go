package cluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tenks/tenks/internal/cluster"
)

// Names are for life: a version of Tenks that derives others cannot find what
// the one before has made. The expected values were computed with Python's uuid
// and hashlib, and must never change.
func TestNamesAreForLife(t *testing.T) {
	for got, want := range map[string]string{
		cluster.UUID("dev", "node", "dev-0"):         "462718c2-bcf7-5365-8a5c-aa7b25002017",
		cluster.PoolUUID("dev"):                      "2b568744-373d-5ca9-adde-4c046778f2d8",
		cluster.PoolName("dev"):                      "tenks-dev",
		cluster.Serial("dev", "dev-0"):               "TKBB4ED44251",
		cluster.MAC("dev", "dev-0", 0, 0):            "52:a3:a0:e7:7c:61",
		cluster.MAC("dev", "dev-0", 1, 0):            "52:d3:6f:df:30:f3",
		cluster.MAC("dev", "dev-0", 0, 1):            "52:7f:7b:30:52:a2",
		cluster.LinkName("br-dev-prov"):              "br-dev-prov",
		cluster.LinkName("exactly-fifteen"):          "exactly-fifteen",
		cluster.LinkName("verylongnodename-0-0"):     "verylo-8b952f44",
		cluster.PasswordMark("u-1", "s3cret"):        "da09",
		fmt.Sprintf("%#x", cluster.LinkGroup("dev")): "0x4eaeb7ab",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

var (
	uuidForm   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`) // RFC 9562 §5.5
	macForm    = regexp.MustCompile(`^52(:[0-9a-f]{2}){5}$`)                                                 // 0x52: locally administered, unicast
	serialForm = regexp.MustCompile(`^TK[0-9A-F]{10}$`)
)

// Whatever the names, what is derived from them has its form, and names that
// differ, or are cut differently, give something else.
func TestForms(t *testing.T) {
	name := rapid.StringMatching(`[a-z0-9.-]{0,40}`)
	rapid.Check(t, func(t *rapid.T) {
		c, n := name.Draw(t, "cluster"), name.Draw(t, "node")
		if u := cluster.UUID(c, "node", n); !uuidForm.MatchString(u) {
			t.Errorf("UUID %s", u)
		}
		if m := cluster.MAC(c, n, rapid.IntRange(0, 100).Draw(t, "port"), 0); !macForm.MatchString(m) {
			t.Errorf("MAC %s", m)
		}
		if s := cluster.Serial(c, n); !serialForm.MatchString(s) {
			t.Errorf("serial %s", s)
		}
		if l := cluster.LinkName(n); len(l) > 15 || len(n) <= 15 && l != n {
			t.Errorf("link %s", l)
		}
		if g := cluster.LinkGroup(c); g == 0 || g > 1<<31-1 {
			t.Errorf("group %d", g)
		}
		if len(n) > 0 { // "ab"+"c" is not "a"+"bc"
			c2, n2 := c+n[:1], n[1:]
			if cluster.UUID(c, "node", n) == cluster.UUID(c2, "node", n2) || cluster.MAC(c, n, 0, 0) == cluster.MAC(c2, n2, 0, 0) ||
				cluster.Serial(c, n) == cluster.Serial(c2, n2) {
				t.Errorf("%q/%q is taken for %q/%q", c, n, c2, n2)
			}
		}
		if cluster.MAC(c, n, 1, 0) == cluster.MAC(c, n, 0, 1) || cluster.MAC(c, n, 0, 0) == cluster.MAC(c, n, 1, 0) {
			t.Error("ports and attempts do not tell MAC addresses apart")
		}
	})
}

// A secret hides from everything that prints; only JSON, which travels to the
// hypervisor, tells it.
func TestSecret(t *testing.T) {
	b := cluster.BMC{Node: "dev-0", Password: "s3cret"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", b.Password, "bmc", fmt.Sprint(b))
	for _, text := range []string{
		fmt.Sprint(b.Password), fmt.Sprintf("%s|%v|%q|%x|%d|%#v|%10s", b.Password, b.Password, b.Password, b.Password, b.Password, b.Password, b.Password),
		fmt.Sprintf("%v|%+v|%#v", b, b, &b), b.Password.String(), fmt.Errorf("x: %w", fmt.Errorf("%v", b)).Error(), log.String(),
	} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "733363726574") || !strings.Contains(text, "(hidden)") {
			t.Errorf("%s", text)
		}
	}
	var again cluster.BMC
	if text, err := json.Marshal(b); err != nil || json.Unmarshal(text, &again) != nil || again.Password != "s3cret" {
		t.Error("the hypervisor does not get the password")
	}
}

func TestUnknown(t *testing.T) {
	for want, u := range map[string]cluster.Unknown{
		"Ironic: 503":                      {Cause: "503"},
		"hypervisor hv1: no route":         {Hypervisor: "hv1", Cause: "no route"},
		"hypervisor hv1, libvirt: is down": {Hypervisor: "hv1", Provider: "libvirt", Cause: "is down"},
	} {
		if u.String() != want {
			t.Errorf("%q, want %q", u, want)
		}
	}
}
