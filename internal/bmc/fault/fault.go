// Package fault makes a BMC misbehave on demand, and tells who asked it what.
// Protocols ask a [Gate] before they answer; what a rule says to do is done by
// the protocol in its own words.
package fault

import (
	"context"
	"time"
)

// Protocols, as rules name them.
const (
	IPMI    = "ipmi"
	Redfish = "redfish"
	SNMP    = "snmp"
)

// Request is something that a client asked.
type Request struct {
	Protocol  string `json:"protocol"`         // IPMI, Redfish, SNMP
	Operation string `json:"operation"`        // "Chassis Control", "POST ComputerSystem.Reset", "SET outlet"; as `tenks bmc trace` shows it
	From      string `json:"from"`             // the client's address and port
	Detail    string `json:"detail,omitempty"` // more of it, without secrets
}

// Effect is what a protocol is to do with a request. The zero value is: answer
// it as usual.
type Effect struct {
	Delay time.Duration // before anything else is done
	Drop  bool          // no answer at all
	Busy  bool          // answer in the protocol's words for "busy, ask again"
	Fail  bool          // answer in the protocol's words for "internal error"
	Deny  bool          // a log-in: answer as if the password were wrong
	// Pretend acknowledges the request and does nothing.
	Pretend bool
}

// Gate is asked before every answer; nil lets everything pass.
type Gate interface {
	// Enter says what to do with a request. It does not wait.
	Enter(ctx context.Context, r Request) Effect
	// Leave notes what was answered, and how long that took.
	Leave(ctx context.Context, r Request, answer string, took time.Duration)
}

// Enter is g.Enter for a g that may be nil.
func Enter(ctx context.Context, g Gate, r Request) Effect {
	if g == nil {
		return Effect{}
	}
	return g.Enter(ctx, r)
}

// Leave is g.Leave for a g that may be nil.
func Leave(ctx context.Context, g Gate, r Request, answer string, took time.Duration) {
	if g != nil {
		g.Leave(ctx, r, answer, took)
	}
}
