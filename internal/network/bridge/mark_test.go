package bridge

import (
	"strings"
	"testing"
)

func TestMark(t *testing.T) {
	for _, c := range []struct {
		mark  mark
		alias string
	}{
		{mark{Cluster: "dev", Node: "dev-0", Port: 1}, "tenks cluster=dev node=dev-0 port=1"},
		{mark{Cluster: "dev", Node: "dev-0"}, "tenks cluster=dev node=dev-0 port=0"},
		{mark{Cluster: "dev", Network: "provision", Bridge: "tk-p"}, "tenks cluster=dev network=provision bridge=tk-p"},
		{
			mark{Cluster: "dev", Network: "provision", Bridge: "tk-p", Uplink: "eth1", UplinkPort: "u", UplinkPeer: "p", Was: "down"},
			"tenks cluster=dev network=provision bridge=tk-p uplink=eth1 uplink-port=u uplink-peer=p was=down",
		},
		{mark{Cluster: "a b", Network: "x=y%"}, "tenks cluster=a+b network=x%3Dy%25"},
		{mark{Cluster: "dev", Network: "n", MAC: "52:00:00:00:00:01"}, "tenks cluster=dev network=n mac=52%3A00%3A00%3A00%3A00%3A01"},
	} {
		if got := c.mark.String(); got != c.alias {
			t.Errorf("%+v:\nhave %s\nwant %s", c.mark, got, c.alias)
		}
		if got, ok := parseMark(c.alias); !ok || got != c.mark {
			t.Errorf("%s:\nhave %+v, %v\nwant %+v", c.alias, got, ok, c.mark)
		}
	}
}

func TestNoMark(t *testing.T) {
	for _, alias := range []string{
		"", "tenks", "uplink to the office", "tenks uplink", "tenks network=provision", "tenks cluster=",
		"TENKS cluster=dev", "my tenks cluster=dev", "tenks cluster=%zz", "tenks cluster=dev node=n port=one",
	} {
		if m, ok := parseMark(alias); ok {
			t.Errorf("%q is taken for the mark %+v", alias, m)
		}
	}
	if m, ok := parseMark("tenks cluster=dev network=n colour=red"); !ok || m.Cluster != "dev" || m.Network != "n" {
		t.Errorf("a mark of a later version is not understood: %+v, %v", m, ok)
	}
}

func TestMarkTooLong(t *testing.T) {
	m := mark{Cluster: strings.Repeat("c", 100), Network: strings.Repeat("n", 100), Bridge: strings.Repeat("b", 15), Uplink: strings.Repeat("u", 15)}
	if s, err := m.alias(); err == nil { // 5 + 9+100 + 9+100 + 8+15 + 8+15 = 269
		t.Errorf("%d bytes fit into an alias", len(s))
	}
	m.Uplink = "" // 246
	if _, err := m.alias(); err != nil {
		t.Error(err)
	}
}

func TestValidName(t *testing.T) {
	for name, valid := range map[string]bool{
		"tk-prov": true, "abcdefghijklmno": true, "a.b~c_d": true,
		"": false, "abcdefghijklmnop": false, ".": false, "..": false, "a/b": false, "a:b": false, "a b": false, "tap%d": false,
	} {
		if err := validName(name); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		}
	}
}
