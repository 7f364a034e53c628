package ipmi

import (
	"context"
	"errors"
	"time"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
	"github.com/tenks/tenks/internal/machine"
)

// privilege is a privilege level (§6.8).
type privilege uint8

// Privilege levels. A command with privilege none is answered outside of a
// session too.
const (
	none privilege = iota
	callback
	user
	operator
	administrator
)

// code is a completion code (§5.2, table 5-2), or noReply.
type code uint16

// Completion codes of all commands, and those that some commands have for
// themselves.
const (
	ok                code = 0x00
	paramUnsupported  code = 0x80 // of boot options and LAN parameters
	alreadyInProgress code = 0x81 // §28.12: set in progress is set already
	paramReadOnly     code = 0x82 // §28.12
	privilegeExceeds  code = 0x81 // §22.18
	badSessionID      code = 0x87 // §22.19
	nodeBusy          code = 0xc0
	invalidCommand    code = 0xc1
	invalidLUN        code = 0xc2
	timedOut          code = 0xc3
	invalidLength     code = 0xc7
	outOfRange        code = 0xc9
	notPresent        code = 0xcb
	invalidField      code = 0xcc
	notPrivileged     code = 0xd4
	wrongState        code = 0xd5
	unspecified       code = 0xff

	noReply code = 0x100 // nothing is sent, now or ever
)

// codeFor is the only place where an error becomes a completion code (table 5-2).
func codeFor(err error) code {
	switch {
	case err == nil:
		return ok
	case errors.Is(err, machine.ErrBusy):
		return nodeBusy
	case errors.Is(err, machine.ErrUnknown):
		// The truth will be known later, so "ask again" is right, and
		// clients do; a state made up, or FFh, would be taken for final.
		return nodeBusy
	case errors.Is(err, machine.ErrOff):
		return wrongState
	case errors.Is(err, machine.ErrUnsupported):
		// The command is there; what its data ask for is not (§28.3).
		return invalidField
	case errors.Is(err, context.DeadlineExceeded):
		return timedOut
	}
	return unspecified
}

// request is an IPMI message with all that its answer depends on.
type request struct {
	session *session // nil: outside of a session
	plus    bool     // outside of a session: in the format of IPMI 2.0
	from    peer
	now     time.Time
	message wire.Message // its Data refer to the read buffer
	after   func()       // what to do when the response has been sent
}

// key is what a command is found by.
type key struct{ netFn, command uint8 }

// command is one line of the table.
type command struct {
	name      string
	privilege privilege // least that may send it
	min       int       // least bytes of data
	// answer appends the data of the response to out, in which the place
	// of the completion code is taken already.
	answer func(s *Server, q *request, out []byte) (code, []byte)
}

// commands is every command this BMC answers. To add one, add a line. The
// privilege is the least that may send it (appendix G).
var commands = map[key]command{
	{wire.NetFnApp, 0x01}: {"Get Device ID", user, 0, getDeviceID},                                   // §20.1
	{wire.NetFnApp, 0x02}: {"Cold Reset", administrator, 0, coldReset},                               // §20.2
	{wire.NetFnApp, 0x03}: {"Warm Reset", administrator, 0, warmReset},                               // §20.3
	{wire.NetFnApp, 0x04}: {"Get Self Test Results", user, 0, getSelfTest},                           // §20.4
	{wire.NetFnApp, 0x08}: {"Get Device GUID", user, 0, getGUID},                                     // §20.8
	{wire.NetFnApp, 0x37}: {"Get System GUID", none, 0, getGUID},                                     // §22.14
	{wire.NetFnApp, 0x38}: {"Get Channel Authentication Capabilities", none, 2, getAuthCapabilities}, // §22.13
	{wire.NetFnApp, 0x3b}: {"Set Session Privilege Level", user, 1, setSessionPrivilege},             // §22.18
	{wire.NetFnApp, 0x3c}: {"Close Session", callback, 4, closeSession},                              // §22.19
	{wire.NetFnApp, 0x3d}: {"Get Session Info", user, 1, getSessionInfo},                             // §22.20
	{wire.NetFnApp, 0x41}: {"Get Channel Access", user, 2, getChannelAccess},                         // §22.23
	{wire.NetFnApp, 0x42}: {"Get Channel Info", user, 1, getChannelInfo},                             // §22.24
	{wire.NetFnApp, 0x44}: {"Get User Access", operator, 2, getUserAccess},                           // §22.27
	{wire.NetFnApp, 0x46}: {"Get User Name", operator, 1, getUserName},                               // §22.29
	{wire.NetFnApp, 0x54}: {"Get Channel Cipher Suites", none, 3, getCipherSuites},                   // §22.15

	{wire.NetFnChassis, 0x00}: {"Get Chassis Capabilities", user, 0, getChassisCapabilities},    // §28.1
	{wire.NetFnChassis, 0x01}: {"Get Chassis Status", user, 0, getChassisStatus},                // §28.2
	{wire.NetFnChassis, 0x02}: {"Chassis Control", operator, 1, chassisControl},                 // §28.3
	{wire.NetFnChassis, 0x04}: {"Chassis Identify", operator, 0, chassisIdentify},               // §28.5
	{wire.NetFnChassis, 0x06}: {"Set Power Restore Policy", operator, 1, setPowerRestorePolicy}, // §28.8
	{wire.NetFnChassis, 0x07}: {"Get System Restart Cause", user, 0, getRestartCause},           // §28.11
	{wire.NetFnChassis, 0x08}: {"Set System Boot Options", operator, 1, setBootOptions},         // §28.12
	{wire.NetFnChassis, 0x09}: {"Get System Boot Options", operator, 3, getBootOptions},         // §28.13

	{wire.NetFnTransport, 0x02}: {"Get LAN Configuration Parameters", operator, 4, getLAN}, // §23.2

	{wire.NetFnStorage, 0x20}: {"Get SDR Repository Info", user, 0, getSDRInfo}, // §33.9
	{wire.NetFnStorage, 0x22}: {"Reserve SDR Repository", user, 0, reserve},     // §33.11
	{wire.NetFnStorage, 0x23}: {"Get SDR", user, 6, getSDR},                     // §33.12
	{wire.NetFnStorage, 0x40}: {"Get SEL Info", user, 0, getSELInfo},            // §31.2
	{wire.NetFnStorage, 0x42}: {"Reserve SEL", user, 0, reserve},                // §31.4
	{wire.NetFnStorage, 0x43}: {"Get SEL Entry", user, 6, getSELEntry},          // §31.5
}

// dispatch finds the command, enforces what its line says and answers it.
func (s *Server) dispatch(q *request, out []byte) (code, []byte) {
	m := &q.message
	c, known := commands[key{m.NetFn, m.Command}]
	if q.session != nil {
		q.session.requests++
	}
	switch {
	case !known:
		return invalidCommand, out
	case m.ToLUN != 0:
		return invalidLUN, out
	case c.privilege != none && (q.session == nil || q.session.privilege < c.privilege):
		return notPrivileged, out
	case len(m.Data) < c.min:
		return invalidLength, out
	}
	return c.answer(s, q, out)
}
