package ipmi

import (
	"context"
	"errors"
	"fmt"
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
	paramUnsupported  code = 0x80 // of boot options, LAN, SOL and system info parameters
	alreadyInProgress code = 0x81 // §28.12: set in progress is set already
	paramReadOnly     code = 0x82 // §28.12
	privilegeExceeds  code = 0x81 // §22.18
	badSessionID      code = 0x87 // §22.19
	modeUnsupported   code = 0x83 // §22.22: access mode
	nodeBusy          code = 0xc0
	invalidCommand    code = 0xc1
	invalidLUN        code = 0xc2
	timedOut          code = 0xc3
	outOfSpace        code = 0xc4
	reservationGone   code = 0xc5
	invalidLength     code = 0xc7
	outOfRange        code = 0xc9
	notPresent        code = 0xcb
	invalidField      code = 0xcc
	notPrivileged     code = 0xd4
	wrongState        code = 0xd5
	unspecified       code = 0xff

	noReply code = 0x100 // nothing is sent, now or ever
)

// String is the code as the specification writes it.
func (c code) String() string { return fmt.Sprintf("%02Xh", uint16(c)) }

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
	later   bool         // there will be a response, but not now
	visit   *visit       // nil: there is no gate
}

// key is what a command is found by.
type key struct{ netFn, command uint8 }

func keyOf(m *wire.Message) key { return key{m.NetFn, m.Command} }

// cmdSetUserPassword is the command whose data are secret.
const cmdSetUserPassword = 0x47

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
	{wire.NetFnApp, 0x01}:               {"Get Device ID", user, 0, getDeviceID},                                   // §20.1
	{wire.NetFnApp, 0x02}:               {"Cold Reset", administrator, 0, coldReset},                               // §20.2
	{wire.NetFnApp, 0x03}:               {"Warm Reset", administrator, 0, warmReset},                               // §20.3
	{wire.NetFnApp, 0x04}:               {"Get Self Test Results", user, 0, getSelfTest},                           // §20.4
	{wire.NetFnApp, 0x07}:               {"Get ACPI Power State", user, 0, getACPIPowerState},                      // §20.7
	{wire.NetFnApp, 0x08}:               {"Get Device GUID", user, 0, getGUID},                                     // §20.8
	{wire.NetFnApp, 0x22}:               {"Reset Watchdog Timer", operator, 0, resetWatchdog},                      // §27.5
	{wire.NetFnApp, 0x24}:               {"Set Watchdog Timer", operator, 6, setWatchdog},                          // §27.6
	{wire.NetFnApp, 0x25}:               {"Get Watchdog Timer", user, 0, getWatchdog},                              // §27.7
	{wire.NetFnApp, 0x2e}:               {"Set BMC Global Enables", administrator, 1, setGlobalEnables},            // §22.1
	{wire.NetFnApp, 0x2f}:               {"Get BMC Global Enables", user, 0, getGlobalEnables},                     // §22.2
	{wire.NetFnApp, 0x37}:               {"Get System GUID", none, 0, getGUID},                                     // §22.14
	{wire.NetFnApp, 0x38}:               {"Get Channel Authentication Capabilities", none, 2, getAuthCapabilities}, // §22.13
	{wire.NetFnApp, 0x3b}:               {"Set Session Privilege Level", user, 1, setSessionPrivilege},             // §22.18
	{wire.NetFnApp, 0x3c}:               {"Close Session", callback, 4, closeSession},                              // §22.19
	{wire.NetFnApp, 0x3d}:               {"Get Session Info", user, 1, getSessionInfo},                             // §22.20
	{wire.NetFnApp, 0x40}:               {"Set Channel Access", administrator, 3, setChannelAccess},                // §22.22
	{wire.NetFnApp, 0x41}:               {"Get Channel Access", user, 2, getChannelAccess},                         // §22.23
	{wire.NetFnApp, 0x42}:               {"Get Channel Info", user, 1, getChannelInfo},                             // §22.24
	{wire.NetFnApp, 0x43}:               {"Set User Access", administrator, 3, setUserAccess},                      // §22.26
	{wire.NetFnApp, 0x44}:               {"Get User Access", operator, 2, getUserAccess},                           // §22.27
	{wire.NetFnApp, 0x45}:               {"Set User Name", administrator, 17, setUserName},                         // §22.28
	{wire.NetFnApp, 0x46}:               {"Get User Name", operator, 1, getUserName},                               // §22.29
	{wire.NetFnApp, cmdSetUserPassword}: {"Set User Password", administrator, 2, setUserPassword},                  // §22.30
	{wire.NetFnApp, 0x48}:               {"Activate Payload", user, 6, activatePayload},                            // §24.1
	{wire.NetFnApp, 0x49}:               {"Deactivate Payload", user, 6, deactivatePayload},                        // §24.2
	{wire.NetFnApp, 0x4a}:               {"Get Payload Activation Status", user, 1, getPayloadStatus},              // §24.4
	{wire.NetFnApp, 0x4b}:               {"Get Payload Instance Info", user, 2, getPayloadInstance},                // §24.5
	{wire.NetFnApp, 0x4c}:               {"Set User Payload Access", administrator, 6, setUserPayloadAccess},       // §24.6
	{wire.NetFnApp, 0x4d}:               {"Get User Payload Access", operator, 2, getUserPayloadAccess},            // §24.7
	{wire.NetFnApp, 0x4e}:               {"Get Channel Payload Support", user, 1, getPayloadSupport},               // §24.8
	{wire.NetFnApp, 0x4f}:               {"Get Channel Payload Version", user, 2, getPayloadVersion},               // §24.9
	{wire.NetFnApp, 0x54}:               {"Get Channel Cipher Suites", none, 3, getCipherSuites},                   // §22.15
	{wire.NetFnApp, 0x55}:               {"Suspend/Resume Payload Encryption", user, 3, suspendEncryption},         // §24.3
	{wire.NetFnApp, 0x58}:               {"Set System Info Parameters", administrator, 1, setSystemInfo},           // §22.14a
	{wire.NetFnApp, 0x59}:               {"Get System Info Parameters", user, 4, getSystemInfo},                    // §22.14b

	{wire.NetFnChassis, 0x00}: {"Get Chassis Capabilities", user, 0, getChassisCapabilities},    // §28.1
	{wire.NetFnChassis, 0x01}: {"Get Chassis Status", user, 0, getChassisStatus},                // §28.2
	{wire.NetFnChassis, 0x02}: {"Chassis Control", operator, 1, chassisControl},                 // §28.3
	{wire.NetFnChassis, 0x04}: {"Chassis Identify", operator, 0, chassisIdentify},               // §28.5
	{wire.NetFnChassis, 0x06}: {"Set Power Restore Policy", operator, 1, setPowerRestorePolicy}, // §28.8
	{wire.NetFnChassis, 0x07}: {"Get System Restart Cause", user, 0, getRestartCause},           // §28.11
	{wire.NetFnChassis, 0x08}: {"Set System Boot Options", operator, 1, setBootOptions},         // §28.12
	{wire.NetFnChassis, 0x09}: {"Get System Boot Options", operator, 3, getBootOptions},         // §28.13
	{wire.NetFnChassis, 0x0f}: {"Get POH Counter", user, 0, getPOHCounter},                      // §28.14

	{wire.NetFnSensor, 0x02}: {"Platform Event", operator, 7, platformEvent},             // §29.3
	{wire.NetFnSensor, 0x23}: {"Get Sensor Reading Factors", user, 2, getSensorFactors},  // §35.5
	{wire.NetFnSensor, 0x25}: {"Get Sensor Hysteresis", user, 2, getSensorHysteresis},    // §35.7
	{wire.NetFnSensor, 0x27}: {"Get Sensor Thresholds", user, 1, getSensorThresholds},    // §35.9
	{wire.NetFnSensor, 0x29}: {"Get Sensor Event Enable", user, 1, getSensorEventEnable}, // §35.11
	{wire.NetFnSensor, 0x2b}: {"Get Sensor Event Status", user, 1, getSensorEventStatus}, // §35.13
	{wire.NetFnSensor, 0x2d}: {"Get Sensor Reading", user, 1, getSensorReading},          // §35.14
	{wire.NetFnSensor, 0x2f}: {"Get Sensor Type", user, 1, getSensorType},                // §35.16

	{wire.NetFnStorage, 0x10}: {"Get FRU Inventory Area Info", user, 1, getFRUInfo},              // §34.1
	{wire.NetFnStorage, 0x11}: {"Read FRU Data", user, 4, readFRU},                               // §34.2
	{wire.NetFnStorage, 0x12}: {"Write FRU Data", operator, 3, writeFRU},                         // §34.3
	{wire.NetFnStorage, 0x20}: {"Get SDR Repository Info", user, 0, getSDRInfo},                  // §33.9
	{wire.NetFnStorage, 0x21}: {"Get SDR Repository Allocation Info", user, 0, getSDRAllocation}, // §33.10
	{wire.NetFnStorage, 0x22}: {"Reserve SDR Repository", user, 0, reserveSDR},                   // §33.11
	{wire.NetFnStorage, 0x23}: {"Get SDR", user, 6, getSDR},                                      // §33.12
	{wire.NetFnStorage, 0x28}: {"Get SDR Repository Time", user, 0, getTime},                     // §33.17
	{wire.NetFnStorage, 0x40}: {"Get SEL Info", user, 0, getSELInfo},                             // §31.2
	{wire.NetFnStorage, 0x41}: {"Get SEL Allocation Info", user, 0, getSELAllocation},            // §31.3
	{wire.NetFnStorage, 0x42}: {"Reserve SEL", user, 0, reserveSEL},                              // §31.4
	{wire.NetFnStorage, 0x43}: {"Get SEL Entry", user, 6, getSELEntry},                           // §31.5
	{wire.NetFnStorage, 0x44}: {"Add SEL Entry", operator, 16, addSELEntry},                      // §31.6
	{wire.NetFnStorage, 0x46}: {"Delete SEL Entry", operator, 4, deleteSELEntry},                 // §31.8
	{wire.NetFnStorage, 0x47}: {"Clear SEL", operator, 6, clearSEL},                              // §31.9
	{wire.NetFnStorage, 0x48}: {"Get SEL Time", user, 0, getTime},                                // §31.10
	{wire.NetFnStorage, 0x49}: {"Set SEL Time", operator, 4, setTime},                            // §31.11
	{wire.NetFnStorage, 0x5c}: {"Get SEL Time UTC Offset", user, 0, getUTCOffset},                // §31.11a
	{wire.NetFnStorage, 0x5d}: {"Set SEL Time UTC Offset", operator, 2, setUTCOffset},            // §31.11b

	{wire.NetFnTransport, 0x01}: {"Set LAN Configuration Parameters", administrator, 3, setLAN},       // §23.1
	{wire.NetFnTransport, 0x02}: {"Get LAN Configuration Parameters", operator, 4, getLAN},            // §23.2
	{wire.NetFnTransport, 0x21}: {"Set SOL Configuration Parameters", administrator, 3, setSOLConfig}, // §26.2
	{wire.NetFnTransport, 0x22}: {"Get SOL Configuration Parameters", user, 4, getSOLConfig},          // §26.3

	{wire.NetFnGroup, 0x01}: {"DCMI Get Capabilities Info", user, 2, getDCMICapabilities},                     // DCMI v1.5 §6.1.1
	{wire.NetFnGroup, 0x02}: {"DCMI Get Power Reading", user, 4, getPowerReading},                             // DCMI v1.5 §6.6.1
	{wire.NetFnGroup, 0x03}: {"DCMI Get Power Limit", user, 3, getPowerLimit},                                 // DCMI v1.5 §6.6.2
	{wire.NetFnGroup, 0x06}: {"DCMI Get Asset Tag", user, 3, getAssetTag},                                     // DCMI v1.5 §6.4.2
	{wire.NetFnGroup, 0x07}: {"DCMI Get Sensor Info", user, 5, getDCMISensors},                                // DCMI v1.5 §6.5.2
	{wire.NetFnGroup, 0x08}: {"DCMI Set Asset Tag", operator, 3, setAssetTag},                                 // DCMI v1.5 §6.4.3
	{wire.NetFnGroup, 0x09}: {"DCMI Get Management Controller Identifier", user, 3, getControllerID},          // DCMI v1.5 §6.4.6.1
	{wire.NetFnGroup, 0x0a}: {"DCMI Set Management Controller Identifier", administrator, 3, setControllerID}, // DCMI v1.5 §6.4.6.2
	{wire.NetFnGroup, 0x10}: {"DCMI Get Temperature Readings", user, 5, getTemperatures},                      // DCMI v1.5 §6.7.3
}

// dispatch finds the command, enforces what its line says and answers it.
func (s *Server) dispatch(q *request, out []byte) (code, []byte) {
	m := &q.message
	c, known := commands[keyOf(m)]
	if m.NetFn == wire.NetFnGroup && (len(m.Data) == 0 || m.Data[0] != wire.GroupDCMI) {
		known = false
	}
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
	if q.visit != nil {
		switch e := q.visit.effect; {
		case e.Busy:
			return nodeBusy, out
		case e.Fail:
			return unspecified, out
		case e.Pretend:
			return ok, out
		}
	}
	return c.answer(s, q, out)
}
