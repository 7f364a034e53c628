package config_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/hint"
)

var update = flag.Bool("update", false, "write the golden files")

// files returns the files that match pattern, which must be some.
func files(t testing.TB, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil || len(list) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return list
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden compares got with the file at path, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, path)), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it):\n%s", path, diff)
	}
}

// TestDesign parses the example of the design page, and expects every default
// that the pages promise, each worked out by hand.
func TestDesign(t *testing.T) {
	got, err := config.Load("testdata/good/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := config.File{
		Path:             "testdata/good/design.yaml",
		Cluster:          "dev",
		PhysicalNetworks: []config.PhysicalNetwork{{Name: "provision"}},
		NodeTypes: []config.NodeType{{
			Name: "small", Provider: "libvirt", VCPUs: 1, MemoryMB: 3072, Volumes: []int64{6 * 1024 * 1024 * 1024},
			Networks: []string{"provision"}, BootMode: "uefi", Driver: "ipmi",
		}},
		Specs: []config.Spec{{
			Name: "small", Type: "small", Count: 3, NamePrefix: "dev-",
			Ironic: &config.IronicNodes{ResourceClass: "baremetal"},
		}},
		// printf 'bmc pool\0dev' | sha256sum: first byte 0x32 = 50; 100 + 50 mod 128 = 150
		BMC:    config.BMC{Pool: "127.150.0.0/16", Username: "admin"},
		Ironic: &config.Ironic{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("File (-want +got):\n%s", diff)
	}
}

// TestFull parses a file that says all there is to say.
func TestFull(t *testing.T) {
	got, err := config.Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := config.File{
		Path:    "testdata/good/full.yaml",
		Cluster: "ci-1",
		PhysicalNetworks: []config.PhysicalNetwork{
			{Name: "provision", Uplink: "eth1"}, {Name: "tenant.net_2", Uplink: "br-tenant"}, {Name: "alone"},
		},
		NodeTypes: []config.NodeType{
			{
				Name: "big", Provider: "libvirt", VCPUs: 255, MemoryMB: 1536, Volumes: []int64{20_000_000_000, 1 << 20},
				Networks: []string{"tenant.net_2", "provision"}, BootMode: "bios", Driver: "ipmi",
			},
			{
				Name: "Spoon", Provider: "synthetic", VCPUs: 2, MemoryMB: 1, Networks: []string{"provision", "alone"},
				BootMode: "uefi", Driver: "ipmi",
			},
		},
		Specs: []config.Spec{
			{Name: "compute", Type: "big", Count: 2, NamePrefix: "compute", Ironic: &config.IronicNodes{
				ResourceClass: "bm.large_1",
				Traits:        []string{"CUSTOM_GOLD", "HW_CPU_X86_VMX"},
				Properties:    map[string]string{"cpu_arch": "x86_64", "rack": "12", "ok": "yes", "ratio": "1.50", "hot": "true", "by.pass": "x"},
				Capabilities:  map[string]string{"boot_mode": "bios", "boot_option": "local", "trusted": "true"},
				Interfaces: map[string]string{
					"bios": "no-bios", "boot": "ipxe", "console": "no-console", "deploy": "direct", "inspect": "agent",
					"management": "ipmitool", "network": "noop", "power": "ipmitool", "raid": "no-raid", "rescue": "no-rescue",
					"storage": "noop", "vendor": "no-vendor",
				},
			}},
			{Name: "Spoon", Type: "Spoon", Count: 0, NamePrefix: "ci-1-"},
			{Name: "big", Type: "big", Count: 1, NamePrefix: "3-"},
		},
		BMC: config.BMC{Address: "192.0.2.1", FirstPort: 6230, LastPort: 6299, Username: "root", Password: "calvin and hobbes 20"},
		Ironic: &config.Ironic{
			Cloud: "bifrost", DeployKernel: "http://192.0.2.1/ipa.kernel", DeployRamdisk: "file:///httpboot/ipa.initramfs",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("File (-want +got):\n%s", diff)
	}
}

// TestPassword is apart from TestFull because cmp shows no Secret.
func TestPassword(t *testing.T) {
	f, err := config.Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if f.BMC.Password != cluster.Secret("calvin and hobbes 20") {
		t.Error("another password than the file has")
	}
	if s := fmt.Sprintf("%v %+v", f, f.BMC); strings.Contains(s, "calvin") {
		t.Errorf("the password is shown: %s", s)
	}
}

func TestGood(t *testing.T) {
	for _, path := range slices.Concat(files(t, "testdata/good/*.yaml"), files(t, "../../examples/*.yaml")) {
		if _, err := config.Load(path); err != nil {
			t.Errorf("%s:\n%s", path, report(err))
		}
	}
}

func TestQuickstartNeedsNoIronic(t *testing.T) {
	f, err := config.Load("../../examples/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if f.Ironic != nil {
		t.Error("Ironic is not nil")
	}
	var got []string
	for _, s := range f.Specs {
		got = append(got, fmt.Sprintf("%s %d", s.Type, s.Count))
	}
	if want := []string{"bios 1", "uefi 1", "synthetic 1"}; !slices.Equal(got, want) {
		t.Errorf("specs %q, want %q", got, want)
	}
}

func TestNewFile(t *testing.T) {
	f, err := config.Parse("new.yaml", []byte(config.NewFile("lab-7")))
	if err != nil {
		t.Fatal(report(err))
	}
	if f.Cluster != "lab-7" || f.Ironic != nil || len(f.Specs) != 1 || f.Specs[0].NamePrefix != "lab-7-" {
		t.Errorf("%+v", f)
	}
	if lines := strings.Count(config.Example, "\n"); lines > 12 {
		t.Errorf("the example has %d lines", lines)
	}
	if config.NewFile("dev") != config.Example {
		t.Error("NewFile differs from Example")
	}
	if _, err := config.Parse("new.yaml", []byte(config.NewFile("No Good"))); err == nil {
		t.Error("a bad name was taken")
	}
}

// report writes an error as the command line does.
func report(err error) string {
	var b strings.Builder
	hint.Each(err, func(err error, advice string) {
		fmt.Fprintln(&b, err)
		var m *config.Mistake
		if errors.As(err, &m) {
			fmt.Fprintln(&b, m.Frame)
		}
		if advice != "" {
			fmt.Fprintln(&b, "hint:", advice)
		}
	})
	return b.String()
}

// TestBad compares what is told of bad files, in full.
func TestBad(t *testing.T) {
	for _, path := range files(t, "testdata/bad/*.yaml") {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			_, err := config.Parse(name, read(t, path))
			if err == nil {
				t.Fatal("no mistake was found")
			}
			got := report(err)
			if strings.Contains(got, "hunter2") {
				t.Errorf("the password is shown:\n%s", got)
			}
			checkMistakes(t, err, read(t, path))
			golden(t, strings.TrimSuffix(path, ".yaml")+".txt", got)
		})
	}
}

// checkMistakes checks what is true of every error of Parse.
func checkMistakes(t *testing.T, err error, src []byte) {
	t.Helper()
	last := config.Mistake{}
	hint.Each(err, func(err error, _ string) {
		var m *config.Mistake
		if !errors.As(err, &m) {
			t.Fatalf("%T is no Mistake: %v", err, err)
		}
		if m.Line < last.Line || m.Line == last.Line && m.Column < last.Column {
			t.Errorf("%d:%d comes after %d:%d", m.Line, m.Column, last.Line, last.Column)
		}
		last = *m
		n, width := config.Lines(string(src))
		if m.Line < 1 || m.Line > n {
			t.Errorf("line %d of %d", m.Line, n)
		} else if m.Column < 1 || m.Column > width(m.Line)+1 {
			t.Errorf("line %d: column %d of %d", m.Line, m.Column, width(m.Line))
		}
		if strings.ContainsAny(m.Text+m.Hint, "\n\r") || m.Text == "" {
			t.Errorf("not one line: %q, %q", m.Text, m.Hint)
		}
		if hint.Of(m) != m.Hint {
			t.Errorf("hint.Of: %q, want %q", hint.Of(m), m.Hint)
		}
		frame := strings.Split(m.Frame, "\n")
		if len(frame) < 2 || len(frame) > 3 || !strings.HasSuffix(frame[len(frame)-1], "^") {
			t.Errorf("frame:\n%s", m.Frame)
		}
	})
}

// TestPasswordStaysHidden breaks files that have a password in all ways that one
// character can break them, and looks for the password in what is told.
func TestPasswordStaysHidden(t *testing.T) {
	const head = "cluster: X\nnode_types: {small: {memory: 1}}\nspecs: [{type: small, count: 1}]\n"
	hidden := 0
	for _, section := range []string{
		"bmc:\n  username: admin\n  password: hunter2\n  ports: 1\n",
		"bmc:\n  password: 'a hunter2: b'\n  adresses: x\n",
		"bmc: {password: hunter2, ports: 1}\nironic: {x: y}\n",
		"bmc: {username: \"admin\",\n  \"password\": \"hunter2\",\n  ports: 1}\nironic: {x: y}\n",
		"bmc:\n  password:\n    hunter2\n  ports: 1\n",
		"bmc:\n  password: |\n    hunter2\n  ports: 1\n",
		"bmc:\n  ports: 1 # password: hunter2\n  # password: hunter2\n  username: []\n",
	} {
		for i := range len(section) + 1 {
			broken := []string{section[:i]}
			if i < len(section) {
				broken = append(broken, section[:i]+section[i+1:])
			}
			for _, c := range "\"'{}[]:,*&!@%\t#|>-?` \nx" {
				broken = append(broken, section[:i]+string(c)+section[i:])
			}
			for _, b := range broken {
				_, err := config.Parse("f", []byte(head+b))
				got := report(err)
				if strings.Contains(got, "(hidden)") {
					hidden++
				}
				if strings.Contains(got, "hunter2") {
					t.Errorf("%q:\n%s", b, got)
				}
			}
		}
	}
	if hidden < 1000 {
		t.Errorf("only %d reports had something to hide", hidden)
	}
}

func TestLoadMissing(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) || hint.Of(err) == "" {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestCapacity(t *testing.T) {
	for _, tt := range []struct {
		bmc  config.BMC
		want int
	}{
		{config.BMC{Pool: "127.64.0.0/16"}, 65534},
		{config.BMC{Pool: "127.64.0.0/24"}, 254},
		{config.BMC{Pool: "127.64.0.0/31"}, 2},
		{config.BMC{Pool: "127.64.0.1/32"}, 1},
		{config.BMC{Address: "192.0.2.1", FirstPort: 6230, LastPort: 6239}, 10},
		{config.BMC{Address: "192.0.2.1", FirstPort: 623, LastPort: 623}, 1},
	} {
		if got := tt.bmc.Capacity(); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.bmc, got, tt.want)
		}
	}
}

func TestManyNodes(t *testing.T) {
	for _, tt := range []struct {
		provider, bmc string
		count         int
		want          string
	}{
		{"libvirt", "", 16_000, ""},
		{"libvirt", "", 16_001, "16001 libvirt nodes are more than Tenks can do: 16000"},
		{"synthetic", "", 65_534, ""},
		{"synthetic", "", 65_535, "65535 nodes need as many addresses, and there are only 65534"},
		{"synthetic", "bmc: {addresses: 127.64.0.0/12}", 65_535, ""},
		{"synthetic", "bmc: {address: 192.0.2.1, ports: 6230-6239}", 10, ""},
		{"synthetic", "bmc: {address: 192.0.2.1, ports: 6230-6239}", 11, "11 nodes need as many ports, and there are only 10"},
	} {
		src := fmt.Sprintf("cluster: x\nnode_types: {a: {provider: %s, memory: 1GiB}}\nspecs: [{type: a, count: %d}]\n%s\n", tt.provider, tt.count, tt.bmc)
		_, err := config.Parse("f", []byte(src))
		if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%s %d %s: %v, want %q", tt.provider, tt.count, tt.bmc, got, tt.want)
		}
	}
}

// TestAliasBomb: aliases of long lists do not keep the decoder busy.
func TestAliasBomb(t *testing.T) {
	src := "cluster: x\nnode_types: {a: {memory: 1GiB}}\nspecs:\n" +
		"- &s {type: a, count: 0, ironic: {resource_class: x, traits: [" + strings.Repeat("A, ", 2000) + "]}}\n" +
		strings.Repeat("- *s\n", 2000)
	_, err := config.Parse("f", []byte(src))
	if err == nil || !strings.Contains(err.Error(), "the file has more than 1000000 values") {
		t.Errorf("%.300v", err)
	}
}

// TestManySpecs: a file of 10,000 specs is read in well under a second.
func TestManySpecs(t *testing.T) {
	var b strings.Builder
	b.WriteString("cluster: x\nnode_types: {a: {provider: synthetic, memory: 1GiB}}\nspecs:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "- {type: a, count: 1, name: s%d, name_prefix: n%d-, ironic: {resource_class: x, traits: [CUSTOM_A]}}\n", i, i)
	}
	start := time.Now()
	if f, err := config.Parse("f", []byte(b.String())); err != nil || len(f.Specs) != 10_000 {
		t.Fatalf("%d specs, %.200v", len(f.Specs), err)
	}
	took := time.Since(start)
	t.Log(took)
	if took > 10*time.Second { // far more than a busy machine needs
		t.Errorf("took %v", took)
	}
}

// TestManyMistakes: a file with countless mistakes is told in a bounded time.
func TestManyMistakes(t *testing.T) {
	src := "cluster: x\nnode_types: {a: {memory: 1GiB}}\nspecs:\n" + strings.Repeat("- {type: a, count: yes}\n", 3000)
	_, err := config.Parse("f", []byte(src))
	var texts []string
	hint.Each(err, func(err error, _ string) { texts = append(texts, err.Error()) })
	// Each spec has a bad count and, but for the first, a name that is taken.
	if n := len(texts); n != 1001 || texts[0] != `f:4:20: specs[0].count: "yes" is not a whole number` ||
		!strings.HasSuffix(texts[n-1], "here and below are 4999 more mistakes") {
		t.Errorf("%d mistakes, the last: %s", n, texts[n-1])
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range slices.Concat(files(f, "testdata/*/*.yaml"), files(f, "../../examples/*.yaml")) {
		f.Add(read(f, path))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 1<<16 {
			return
		}
		file, err := config.Parse("f.yaml", src)
		if err != nil {
			checkMistakes(t, err, src)
			return
		}
		if file.Cluster == "" || file.BMC.Username == "" || (file.BMC.Pool == "") == (file.BMC.Address == "") {
			t.Errorf("accepted without what must be there: %+v", file)
		}
		nodes := 0
		for _, s := range file.Specs {
			nodes += s.Count
		}
		if nodes > file.BMC.Capacity() {
			t.Errorf("%d nodes for %d BMCs", nodes, file.BMC.Capacity())
		}
	})
}
