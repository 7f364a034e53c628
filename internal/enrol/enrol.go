// Package enrol is the contract with the services that nodes are enrolled in.
// Package enrol/ironic implements it for OpenStack's bare metal service;
// enrol/enroltest has an Ironic with memory only and the suite both pass.
package enrol

import (
	"context"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/plan"
)

// Found is what the service has of a cluster, and the names and MAC addresses
// in it that are not the cluster's.
type Found struct {
	Enrolments []cluster.Enrolment
	Strangers  []cluster.Stranger // StrangerNode, StrangerMAC
}

// Enroller enrols nodes. Methods are safe for concurrent use.
type Enroller interface {
	// ID names the service so that a later run finds it again: "cloud:NAME"
	// for a cloud of clouds.yaml, "endpoint:URL" for one out of OS_*.
	ID() string

	// Observe returns what there is. The number of requests does not grow
	// with the number of nodes but for paging.
	Observe(ctx context.Context, clusterName string) (Found, error)

	// Do carries out a step: [plan.Enrol], [plan.UpdateEnrolment] or
	// [plan.Unenrol]. It may be interrupted at any point and made again, and
	// it returns when the node has the wanted provision state.
	Do(ctx context.Context, clusterName string, s plan.Step) error
}
