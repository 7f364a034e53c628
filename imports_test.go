package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport says which packages of Tenks each package may import; anything not
// listed is forbidden. Test files may also import provider/synthetic, the
// …test packages and those below test/.
var mayImport = map[string]string{
	"cluster": "", "machine": "", "hint": "", "bmc/ipmi/wire": "", // words and packets
	"config": "cluster hint", "schedule": "cluster config hint", "plan": "cluster hint", // pure
	"provider":         "cluster machine",
	"provider/libvirt": "cluster machine provider hint", "provider/synthetic": "cluster machine provider hint",
	"provider/providertest": "cluster machine provider",
	"network":               "cluster", "network/bridge": "cluster network hint", "network/networktest": "cluster network",
	"hypervisor": "cluster plan", "hypervisor/hypervisortest": "cluster plan hypervisor",
	"hypervisor/local": "cluster plan hypervisor provider network bmc/deploy hint",
	"bmc/account":      "", "bmc/fault": "", "bmc/media": "", // what the protocols share
	"bmc/ipmi": "machine bmc/account bmc/fault bmc/ipmi/wire", "bmc/redfish": "machine bmc/account bmc/fault bmc/media",
	"bmc/pdu": "machine bmc/fault", "bmc": "machine bmc/account bmc/fault bmc/media bmc/ipmi bmc/redfish bmc/pdu hint",
	"bmc/deploy": "cluster bmc hint",
	"enrol":      "cluster plan", "enrol/ironic": "cluster plan enrol hint", "enrol/enroltest": "cluster plan enrol",
	"observe": "cluster hypervisor enrol hint", "apply": "cluster plan hypervisor enrol hint",
	"host": "hint",
	"cli":  "*", // wiring
}

// pure packages compute and do nothing else.
var pure = []string{"cluster", "schedule", "plan"}

// impure is what they may not import.
var impure = []string{"context", "os", "net", "net/http", "time", "log/slog", "os/exec", "crypto/rand", "math/rand", "math/rand/v2"}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports " "}}`, "./internal/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "github.com/tenks/tenks/internal/"
	for line := range strings.Lines(string(out)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		name := strings.TrimPrefix(path, prefix)
		allowed, listed := mayImport[name]
		if !listed {
			t.Errorf("package %s is not listed in imports_test.go", name)
		}
		for imp := range strings.FieldsSeq(imports) {
			if name == "cluster" && imp == "log/slog" {
				continue // cluster.Secret hides itself from logs
			}
			if slices.Contains(pure, name) && slices.Contains(impure, imp) {
				t.Errorf("%s is pure and may not import %s", name, imp)
			}
			dep, ours := strings.CutPrefix(imp, prefix)
			if ours && allowed != "*" && !slices.Contains(strings.Fields(allowed), dep) {
				t.Errorf("%s may not import %s", name, dep)
			}
		}
	}
}
