package config

import (
	"fmt"
	"strings"

	"github.com/tenks/tenks/internal/hint"
)

// exampleCluster is the name of the cluster in Example.
const exampleCluster = "dev"

// Example is a short cluster file to start from. It needs no Ironic.
const Example = `# A cluster of virtual bare metal. All keys: docs/cluster-file.md
cluster: ` + exampleCluster + `                # marks everything that Tenks makes
physical_networks:
  provision: {}             # an isolated bridge; {uplink: eth1} joins a NIC or a bridge
node_types:
  small: {vcpus: 1, memory: 3GiB, volumes: [{size: 6GiB}], physical_networks: [provision]}
specs:
  - type: small
    count: 3                # nodes, each with its own BMC
    # ironic: {resource_class: baremetal}   # enrol them in the cloud of OS_CLOUD
`

// NewFile is [Example] for a cluster of another name. A name that no cluster can
// have makes a file that [Parse] refuses.
func NewFile(clusterName string) string {
	column := "cluster: " + exampleCluster
	return strings.Replace(Example, column, "cluster: "+clusterName, 1)
}

// CheckCluster returns an error, with a hint, if no cluster can have the name: on
// a command line it could be a path, or nothing at all.
func CheckCluster(name string) error {
	if clusterNameKind.pattern.MatchString(name) {
		return nil
	}
	return hint.Add(fmt.Errorf("%s is not %s", quote(name), clusterNameKind.what), "%s", clusterNameKind.rule)
}
