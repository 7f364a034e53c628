package ipmi

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// What the BMC says of itself (§20.1).
const (
	deviceID        = 0x20
	deviceRevision  = 0x01
	firmwareMajor   = 0x01
	firmwareMinor   = 0x00 // BCD
	ipmiVersion     = 0x02 // BCD, the major digit in the low half: 2.0
	deviceSupport   = 0x80 | 0x08 | 0x04 | 0x02 | 0x01
	manufacturerID  = 0x000000 // "unspecified" (§20.1): Tenks has no IANA enterprise number
	productID       = 0x0000   // "unspecified"
	selfTestPassed  = 0x55     // §20.4
	lanChannel      = 1        // the only channel
	presentChannel  = 0x0e     // "the channel this request came by" (§6.3)
	channelMask     = 0x0f
	alwaysAvailable = 0x02 // channel access mode (§22.23)
)

func getDeviceID(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, deviceID, deviceRevision, firmwareMajor, firmwareMinor, ipmiVersion,
		deviceSupport, // chassis, FRU inventory, SEL, SDR repository, sensor device
		manufacturerID&0xff, manufacturerID>>8&0xff, manufacturerID>>16,
		productID&0xff, productID>>8,
		0, 0, 0, 0) // auxiliary firmware revision
}

// usualResetTime is how long the BMC is silent after a Cold Reset.
const usualResetTime = 3 * time.Second

func (s *Server) resetTime() time.Duration {
	if s.ResetTime != 0 {
		return s.ResetTime
	}
	return usualResetTime
}

// coldReset ends all sessions and forgets what is volatile. It answers first: a
// client would take silence for a failure.
func coldReset(s *Server, q *request, out []byte) (code, []byte) {
	q.after = func() {
		s.sessions.deleteFunc(func(*session) bool { return true })
		s.watchdog.stop()
		s.watchdog = watchdog{}
		s.chassis.options = options{}
		s.access = channelAccess{limit: administrator}
		s.storage.cancel()
		s.silent, s.spared = time.Now().Add(s.resetTime()), 0
		s.Machine.Log().Add(machine.Event{Kind: machine.BMCRestarted, Text: "cold reset"})
	}
	return ok, out
}

// warmReset ends the sessions of others. The session that asked stays, so that
// its client can close it.
func warmReset(s *Server, q *request, out []byte) (code, []byte) {
	q.after = func() {
		s.sessions.deleteFunc(func(v *session) bool { return v != q.session })
		s.silent, s.spared = time.Now().Add(s.resetTime()/3), q.session.id
		s.Machine.Log().Add(machine.Event{Kind: machine.BMCRestarted, Text: "warm reset"})
	}
	return ok, out
}

func getSelfTest(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, selfTestPassed, 0)
}

// systemLogging is the one global enable that is on: events go to the SEL.
const systemLogging = 0x08

func getGlobalEnables(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, systemLogging)
}

// setGlobalEnables accepts what is so: the rest is for in-band interfaces.
func setGlobalEnables(_ *Server, q *request, out []byte) (code, []byte) {
	if q.message.Data[0] != systemLogging {
		return invalidField, out
	}
	return ok, out
}

func getACPIPowerState(s *Server, _ *request, out []byte) (code, []byte) {
	const working, softOff, deviceOn, deviceUnknown = 0x00, 0x05, 0x00, 0x2a // table 20-8
	on, err := s.Machine.On()
	switch {
	case err != nil:
		return codeFor(err), out
	case on:
		return ok, append(out, working, deviceOn)
	}
	return ok, append(out, softOff, deviceUnknown)
}

func getGUID(s *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, s.guid[:]...)
}

// channelOf returns the channel that a byte names, and whether it is there.
func channelOf(b uint8) (uint8, bool) {
	n := b & channelMask
	return lanChannel, n == lanChannel || n == presentChannel
}

func getAuthCapabilities(s *Server, q *request, out []byte) (code, []byte) {
	const (
		extended      = 0x80 // in the request: IPMI 2.0 data wanted; in the response: they are there
		nonNullUsers  = 0x04
		keyNeeded     = 0x20 // Kg is set
		supportsPlus  = 0x02 // IPMI 2.0 connections; bit 0, IPMI 1.5 connections, is not set
		noAuthTypes15 = 0x00
	)
	channel, found := channelOf(q.message.Data[0])
	level := privilege(q.message.Data[1] & 0x0f)
	if !found || level < callback || level > administrator {
		return invalidField, out
	}
	types, connections := uint8(noAuthTypes15), uint8(0)
	if q.message.Data[0]&extended != 0 {
		types, connections = noAuthTypes15|extended, supportsPlus
	}
	status := uint8(nonNullUsers)
	if s.BMCKey != "" {
		status |= keyNeeded
	}
	return ok, append(out, channel, types, status, connections, 0, 0, 0, 0)
}

// cipherSuiteRecords are the records of table 22-19 for the suites on offer.
func cipherSuiteRecords(bySuite bool) []byte {
	const standard, integrityTag, confidentialityTag = 0xc0, 0x40, 0x80
	if bySuite {
		var b []byte
		for _, suite := range suites {
			a, i, c := suite.Algorithms()
			b = append(b, standard, uint8(suite), a, integrityTag|i, confidentialityTag|c)
		}
		return b
	}
	var as, is, cs []byte
	for _, suite := range suites {
		a, i, c := suite.Algorithms()
		as, is, cs = append(as, a), append(is, integrityTag|i), append(cs, confidentialityTag|c)
	}
	return slices.Concat(as, is, slices.Compact(cs))
}

func getCipherSuites(_ *Server, q *request, out []byte) (code, []byte) {
	const bySuite, indexMask, perResponse = 0x80, 0x3f, 16
	d := q.message.Data
	channel, found := channelOf(d[0])
	if !found {
		return invalidField, out
	}
	records := cipherSuiteRecords(d[2]&bySuite != 0)
	from := min(int(d[2]&indexMask)*perResponse, len(records))
	to := min(from+perResponse, len(records))
	return ok, append(append(out, channel), records[from:to]...)
}

func setSessionPrivilege(_ *Server, q *request, out []byte) (code, []byte) {
	want, v := privilege(q.message.Data[0]&0x0f), q.session
	switch {
	case want == none: // only asks
	case want == callback || want > administrator:
		return invalidField, out
	case want > v.limit:
		return privilegeExceeds, out
	default:
		v.privilege = want
	}
	return ok, append(out, uint8(v.privilege))
}

func closeSession(s *Server, q *request, out []byte) (code, []byte) {
	id := binary.LittleEndian.Uint32(q.message.Data)
	v := s.sessions.find(id, q.now)
	if v == nil || v.state != active {
		return badSessionID, out
	}
	if v != q.session && q.session.privilege < administrator {
		return notPrivileged, out
	}
	if v == q.session && s.sol != nil && s.sol.session == v {
		s.endSOL("") // its client knows
	}
	q.after = func() {
		if s.sessions.byID[id] == v {
			s.sessions.remove(v)
		}
	}
	return ok, out
}

func getSessionInfo(s *Server, q *request, out []byte) (code, []byte) {
	const byHandle, byID, plusProtocol = 0xfe, 0xff, 0x10
	d := q.message.Data
	s.sessions.expire(q.now)
	all := s.sessions.active()
	var v *session
	switch index := d[0]; {
	case index == 0:
		v = q.session
	case index == byHandle && len(d) >= 2:
		if i := slices.IndexFunc(all, func(v *session) bool { return v.handle == d[1] }); i >= 0 {
			v = all[i]
		}
	case index == byID && len(d) >= 5:
		id := binary.LittleEndian.Uint32(d[1:])
		if i := slices.IndexFunc(all, func(v *session) bool { return v.id == id }); i >= 0 {
			v = all[i]
		}
	case index == byHandle, index == byID:
		return invalidLength, out
	case int(index) <= len(all):
		v = all[index-1]
	}
	if v == nil {
		return ok, append(out, 0, maxActive, uint8(len(all)))
	}
	from := v.from.addrPort()
	var ip [4]byte // an IPv6 address has no place here
	if a := from.Addr().Unmap(); a.Is4() {
		ip = a.As4()
	}
	out = append(out, v.handle, maxActive, uint8(len(all)), uint8(v.account.ID), uint8(v.privilege), plusProtocol|lanChannel)
	out = append(out, ip[:]...)
	out = append(out, 0, 0, 0, 0, 0, 0) // MAC address: not known to a socket
	return ok, binary.LittleEndian.AppendUint16(out, from.Port())
}

// channelAccess is what can be changed of the channel's access, until the BMC
// restarts: a limit that stayed would lock everybody out for ever.
type channelAccess struct {
	limit privilege // of all sessions
}

const (
	accessMask, nonVolatile, volatile = 0xc0, 0x40, 0x80
	alertingOff                       = 0x20
)

func getChannelAccess(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	kind := d[1] & accessMask
	if _, found := channelOf(d[0]); !found || kind != nonVolatile && kind != volatile {
		return invalidField, out
	}
	limit := administrator
	if kind == volatile {
		limit = s.access.limit
	}
	return ok, append(out, alertingOff|alwaysAvailable, uint8(limit))
}

// setChannelAccess accepts the access mode that is, and a limit of privileges
// for new sessions until the BMC restarts.
func setChannelAccess(s *Server, q *request, out []byte) (code, []byte) {
	const modeMask = 0x07
	d := q.message.Data
	mode, kind := d[1]&accessMask, d[2]&accessMask
	limit := privilege(d[2] & 0x0f)
	_, found := channelOf(d[0])
	switch {
	case !found, mode == accessMask, kind == accessMask:
		return invalidField, out
	case mode != 0 && d[1]&modeMask != alwaysAvailable:
		return modeUnsupported, out
	case kind == 0:
		return ok, out
	case limit < user || limit > administrator, kind == nonVolatile && limit != administrator:
		return invalidField, out
	}
	s.access.limit = limit
	return ok, out
}

func getChannelInfo(s *Server, q *request, out []byte) (code, []byte) {
	const medium802, protocolIPMB, multiSession = 0x04, 0x01, 0x80
	channel, found := channelOf(q.message.Data[0])
	if !found {
		return invalidField, out
	}
	s.sessions.expire(q.now)
	return ok, append(out, channel, medium802, protocolIPMB, multiSession|uint8(len(s.sessions.active())),
		0xf2, 0x1b, 0x00, // the protocol is specified by the IPMI forum, enterprise 7154 (§22.24)
		0, 0)
}
