package deploy

import (
	"os"
	"path/filepath"

	"github.com/tenks/tenks/internal/bmc"
)

// usesPrefix and the name of a provider are the name of a file that says that
// the cluster has, or has had, objects of that provider on this host. While the
// provider does not answer, it is how nothing is told from unknown.
const usesPrefix = "uses-"

// Use notes that the cluster is about to have objects of a provider here.
func (h *Host) Use(clusterName, provider string) error {
	if h.Uses(clusterName, provider) {
		return nil
	}
	root, err := h.open(clusterName)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return bmc.WriteFile(root, usesPrefix+provider, nil, 0o600)
}

// Uses tells whether the cluster may have objects of the provider here.
func (h *Host) Uses(clusterName, provider string) bool {
	_, err := os.Stat(filepath.Join(h.folder(clusterName), usesPrefix+provider))
	return err == nil
}

// Unuse notes that the cluster has nothing of the provider here any more.
func (h *Host) Unuse(clusterName, provider string) error {
	return remove(filepath.Join(h.folder(clusterName), usesPrefix+provider))
}
