package cluster

import (
	"fmt"
	"log/slog"
)

// Secret is a password. It hides itself from fmt and slog. encoding/json writes
// it in clear, because a plan travels to its hypervisor as JSON: what is shown
// to people or stored in a log is built from plan.Change, never from a State.
type Secret string

const hidden = "(hidden)"

// String hides the secret.
func (Secret) String() string { return hidden }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return hidden }

// Format hides the secret from every verb.
func (Secret) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(hidden)) }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
