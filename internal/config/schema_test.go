package config_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/tenks/tenks/internal/config"
)

const schemaFile = "../../docs/cluster.schema.json"

func TestSchemaFile(t *testing.T) {
	golden(t, schemaFile, string(config.Schema()))
}

// compiled is the schema as an editor reads it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("cluster.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("cluster.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is a YAML document as JSON has it.
func instance(t *testing.T, src []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(src, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSchemaAccepts(t *testing.T) {
	s := compiled(t)
	for _, path := range slices.Concat(files(t, "testdata/good/*.yaml"), files(t, "../../examples/*.yaml")) {
		if err := s.Validate(instance(t, read(t, path))); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
	if err := s.Validate(instance(t, []byte(config.Example))); err != nil {
		t.Errorf("the example: %v", err)
	}
}

// structural replaces a part of a good file by one that has the wrong form.
var structural = []struct{ name, old, new string }{
	{"unknown key of the file", "cluster: ci-1", "cluster: ci-1\nhypervisors: []"},
	{"no cluster", "cluster: ci-1\n", ""},
	{"cluster is a number", "cluster: ci-1", "cluster: 1"},
	{"cluster has a capital", "cluster: ci-1", "cluster: Ci-1"},
	{"networks are a list", "  alone:\n", "  alone: []\n"},
	{"network name", "  alone:\n", "  al one:\n"},
	{"unknown key of a network", "{uplink: eth1}", "{uplnk: eth1}"},
	{"uplink is too long", "uplink: eth1", "uplink: a-name-of-16-char"},
	{"uplink has a slash", "uplink: eth1", "uplink: a/b"},
	{"unknown key of a node type", "vcpus: 255", "cpus: 255"},
	{"provider", "provider: libvirt", "provider: vmware"},
	{"no vcpus", "vcpus: 255", "vcpus: 0"},
	{"too many vcpus", "vcpus: 255", "vcpus: 256"},
	{"vcpus are a text", "vcpus: 255", `vcpus: "255"`},
	{"vcpus are null", "vcpus: 255", "vcpus:"},
	{"memory without a unit", "memory: 1.5GiB", "memory: 1536"},
	{"memory in another unit", "memory: 1.5GiB", "memory: 1.5G"},
	{"no memory", "memory: 1.5GiB\n", "\n"},
	{"volumes are a text", "volumes: ,", "volumes: x,"},
	{"volume without size", "- size: 20GB", "- {}"},
	{"unknown key of a volume", "{size: 1MiB}", "{size: 1MiB, bus: scsi}"},
	{"network of a type", "[provision, alone]", "[provision, 1]"},
	{"boot mode", "boot_mode: bios\n", "boot_mode: legacy\n"},
	{"driver", "driver: ipmi", "driver: redfish"},
	{"no count", "    count: 2\n", ""},
	{"count is a text", "count: 2", "count: yes"},
	{"count is negative", "count: 2", "count: -1"},
	{"count is absurd", "count: 2", "count: 100001"},
	{"unknown key of a spec", "    count: 2", "    placement: spread\n    count: 2"},
	{"prefix", "name_prefix: 3-", `name_prefix: "3"`},
	{"no resource class", "      resource_class: bm.large_1\n", ""},
	{"resource class", "resource_class: bm.large_1", "resource_class: bm large"},
	{"trait", "CUSTOM_GOLD", "gold"},
	{"property is a list", "rack: 12", "rack: [12]"},
	{"capability with a comma", "boot_option: local", `boot_option: "a,b"`},
	{"capability with a colon", "boot_option: local", `"a:b": local`},
	{"interface is a number", "network_interface: noop", "network_interface: 1"},
	{"unknown interface", "network_interface: noop", "net_interface: noop"},
	{"addresses and address", "  ports: 6230-6299", "  ports: 6230-6299\n  addresses: 127.0.0.0/8"},
	{"address without ports", "  ports: 6230-6299\n", ""},
	{"ports without address", "  address: 192.0.2.1\n", ""},
	{"ports are one number", "ports: 6230-6299", "ports: 6230"},
	{"user name is too long", "username: root", "username: seventeen-letters"},
	{"password is too long", "calvin and hobbes 20", "calvin and hobbes -21"},
	{"password is a number", "calvin and hobbes 20", "12345"},
	{"kernel without ramdisk", "  deploy_ramdisk: file:///httpboot/ipa.initramfs\n", ""},
	{"cloud is null", "cloud: bifrost", "cloud:"},
}

// TestSchemaRejects: what has the wrong form is refused by the schema and by
// Parse alike.
func TestSchemaRejects(t *testing.T) {
	s := compiled(t)
	full := string(read(t, "testdata/good/full.yaml"))
	for _, tt := range structural {
		if strings.Count(full, tt.old) != 1 {
			t.Errorf("%s: %q is not in full.yaml once", tt.name, tt.old)
			continue
		}
		src := []byte(strings.Replace(full, tt.old, tt.new, 1))
		if err := s.Validate(instance(t, src)); err == nil {
			t.Errorf("%s: the schema accepts it", tt.name)
		}
		if _, err := config.Parse("f", src); err == nil {
			t.Errorf("%s: Parse accepts it", tt.name)
		}
	}
	for _, src := range []string{"[]", "cluster: dev\nnode_types: {}\nspecs: []", "cluster: dev", "x"} {
		if err := s.Validate(instance(t, []byte(src))); err == nil {
			t.Errorf("the schema accepts %q", src)
		}
		if _, err := config.Parse("f", []byte(src)); err == nil {
			t.Errorf("Parse accepts %q", src)
		}
	}
}

// schemaPart is what the tests read of a schema.
type schemaPart struct {
	Description          string
	Properties           map[string]schemaPart
	AdditionalProperties json.RawMessage
	Items                *schemaPart
	Default              any
}

// TestDocs: the page about the cluster file has a row for each key, with its
// default, in the section of its part of the file.
func TestDocs(t *testing.T) {
	page := string(read(t, "../../docs/cluster-file.md"))
	var root schemaPart
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	var walk func(section string, p schemaPart)
	walk = func(section string, p schemaPart) {
		if len(p.Properties) > 0 {
			_, text, found := strings.Cut(page, "\n## "+section+"\n")
			if !found {
				t.Errorf("no section %q", section)
			}
			text, _, _ = strings.Cut(text, "\n## ")
			for name, key := range p.Properties {
				if key.Description == "" {
					t.Errorf("%s, %s: the schema has no description", section, name)
				}
				_, row, found := strings.Cut(text, "\n| `"+name+"` | ")
				row, _, _ = strings.Cut(row, "\n")
				columns := strings.Split(row, " | ")
				if !found || len(columns) != 3 {
					t.Errorf("section %q has no row for %s of four columns", section, name)
					continue
				}
				if key.Default != nil {
					want, _ := json.Marshal(key.Default)
					if got := strings.Trim(columns[1], "`"); got != strings.Trim(string(want), `"`) {
						t.Errorf("section %q: the default of %s is %s, want %s", section, name, got, want)
					}
				}
			}
		}
		for name, key := range p.Properties {
			below := name
			if section != "The file" {
				below = section + "." + name
			}
			walk(below, key)
			var each schemaPart
			if json.Unmarshal(key.AdditionalProperties, &each) == nil {
				walk(below+".NAME", each)
			}
			if key.Items != nil {
				walk(below+"[]", *key.Items)
			}
		}
	}
	walk("The file", root)
}

// TestDocsExamples: the examples of the page are parts of a file that is right.
func TestDocsExamples(t *testing.T) {
	page := string(read(t, "../../docs/cluster-file.md"))
	_, first, _ := strings.Cut(page, "```yaml\n")
	first, _, _ = strings.Cut(first, "```")
	if _, err := config.Parse("page", []byte(first)); err != nil {
		t.Error(report(err))
	}
	_, err := config.Parse("cluster.yaml", []byte(strings.Replace(first, "3GiB", "3XB", 1)))
	told := strings.Replace(report(err), "hint: ", "tenks: hint: ", 1)
	if !strings.Contains(page, "tenks: error: "+told) {
		t.Errorf("the page does not show what is told of a mistake:\n%s", told)
	}

	parts := map[string]string{} // example by section
	for _, section := range strings.Split(page, "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		if _, code, found := strings.Cut(text, "```yaml\n"); found {
			parts[name], _, _ = strings.Cut(code, "```")
		}
	}
	src := "cluster: dev\n" + parts["physical_networks.NAME"] + parts["node_types.NAME"] + parts["specs[]"] + parts["bmc"] + parts["ironic"]
	src = strings.Replace(src, "6230-6299", "6230-8000", 1)
	if _, err := config.Parse("page", []byte(src)); err != nil {
		t.Error(report(err))
	}
	src = "cluster: dev\nnode_types: {controller: {memory: 1GiB}}\n" + parts["specs[].ironic"]
	if _, err := config.Parse("page", []byte(src)); err != nil {
		t.Error(report(err))
	}
}
