package libvirt

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
)

// namespace is that of the mark in a domain's <metadata>, and metadataKey the
// prefix it is written with.
const (
	namespace   = "urn:tenks:node:1"
	metadataKey = "tenks"
)

// mark is what a domain of ours carries: whose it is, and what cannot be read
// off the domain itself.
type mark struct {
	Cluster string       `json:"cluster"`
	Node    cluster.Node `json:"node"` // as it was asked for
	// Removing are volumes that are not the node's any more and may still be
	// in the pool: an update was interrupted.
	Removing []cluster.Volume `json:"removing,omitempty"`
	// NVRAM is the UEFI variable store of a node that boots from BIOS now;
	// autoNVRAM if libvirt has chosen where it is.
	NVRAM string `json:"nvram,omitempty"`
}

// autoNVRAM: libvirt knows where the variable store is, and tells only QEMU.
const autoNVRAM = "auto"

// newMark returns the mark of a node. What changes by itself is left out.
func newMark(clusterName string, n cluster.Node) mark {
	n.Power, n.Hypervisor = "", ""
	return mark{Cluster: clusterName, Node: n}
}

// element is the mark as it stands in <metadata>. The cluster is an attribute
// too, for people and for scripts.
func (m mark) element() (*element, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	e := &element{name: metadataKey + ":node"}
	e.setAttr("xmlns:"+metadataKey, namespace)
	e.setAttr("cluster", m.Cluster)
	e.setText(string(b))
	return e, nil
}

// findMark returns the mark in a domain's XML; ok is false if it has none. A
// mark that cannot be read is an error: such a domain is nobody else's.
func findMark(domain *element) (m mark, ok bool, err error) {
	e := markElement(domain)
	if e == nil {
		return mark{}, false, nil
	}
	if err := json.Unmarshal([]byte(e.text()), &m); err != nil {
		return mark{}, true, fmt.Errorf("domain %s: its Tenks metadata cannot be read: %w", domain.at("name").text(), err)
	}
	return m, true, nil
}

// markElement finds the child of <metadata> in our namespace, whatever its prefix.
func markElement(domain *element) *element {
	meta := domain.at("metadata")
	if meta == nil {
		return nil
	}
	for _, k := range meta.kids {
		e, ok := k.(*element)
		if !ok {
			continue
		}
		prefix, local, found := strings.Cut(e.name, ":")
		declaration := "xmlns:" + prefix
		if !found {
			local, declaration = e.name, "xmlns"
		}
		if local == "node" && (e.attr(declaration) == namespace || meta.attr(declaration) == namespace ||
			domain.attr(declaration) == namespace) {
			return e
		}
	}
	return nil
}

// setMark puts the mark into a domain's XML, and leaves other metadata alone.
func setMark(domain *element, m mark) error {
	e, err := m.element()
	if err != nil {
		return err
	}
	meta := domain.child("metadata")
	if old := markElement(domain); old != nil {
		meta.remove(old)
	}
	meta.kids = append(meta.kids, e)
	return nil
}
