package ipmi

import (
	"encoding/binary"
	"slices"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
)

// What the BMC says of itself (§20.1).
const (
	deviceID        = 0x20
	deviceRevision  = 0x01
	firmwareMajor   = 0x01
	firmwareMinor   = 0x00 // BCD
	ipmiVersion     = 0x02 // BCD, the major digit in the low half: 2.0
	deviceSupport   = 0x80 | 0x04 | 0x02
	manufacturerID  = 0x000000 // "unspecified" (§20.1): Tenks has no IANA enterprise number
	productID       = 0x0000   // "unspecified"
	selfTestPassed  = 0x55     // §20.4
	lanChannel      = 1        // the only channel
	presentChannel  = 0x0e     // "the channel this request came by" (§6.3)
	firstUserID     = 2        // 1 is the null user, who may not log in
	channelMask     = 0x0f
	alwaysAvailable = 0x02 // channel access mode (§22.23)
)

func getDeviceID(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, deviceID, deviceRevision, firmwareMajor, firmwareMinor, ipmiVersion,
		deviceSupport, // chassis device, SEL device, SDR repository device
		manufacturerID&0xff, manufacturerID>>8&0xff, manufacturerID>>16,
		productID&0xff, productID>>8,
		0, 0, 0, 0) // auxiliary firmware revision
}

// coldReset ends all sessions and forgets what is volatile. It answers first: a
// client would take silence for a failure.
func coldReset(s *Server, q *request, out []byte) (code, []byte) {
	q.after = func() {
		s.sessions.deleteFunc(func(*session) bool { return true })
		s.chassis = chassis{}
	}
	return ok, out
}

// warmReset ends the sessions of others. The session that asked stays: ipmitool
// closes it afterwards, and would wait for the answer.
func warmReset(s *Server, q *request, out []byte) (code, []byte) {
	s.sessions.deleteFunc(func(v *session) bool { return v != q.session })
	return ok, out
}

func getSelfTest(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, selfTestPassed, 0)
}

func getGUID(s *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, s.guid[:]...)
}

// channelOf returns the channel that a byte names, and whether it is there.
func channelOf(b uint8) (uint8, bool) {
	n := b & channelMask
	return lanChannel, n == lanChannel || n == presentChannel
}

func getAuthCapabilities(_ *Server, q *request, out []byte) (code, []byte) {
	const (
		extended      = 0x80 // in the request: IPMI 2.0 data wanted; in the response: they are there
		nonNullUsers  = 0x04
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
	return ok, append(out, channel, types, nonNullUsers, connections, 0, 0, 0, 0)
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
	q.after = func() { delete(s.sessions.byID, id) }
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
	out = append(out, v.handle, maxActive, uint8(len(all)), v.userID, uint8(v.privilege), plusProtocol|lanChannel)
	out = append(out, ip[:]...)
	out = append(out, 0, 0, 0, 0, 0, 0) // MAC address: not known to a socket
	return ok, binary.LittleEndian.AppendUint16(out, from.Port())
}

func getChannelAccess(_ *Server, q *request, out []byte) (code, []byte) {
	const kindMask, nonVolatile, volatile, alertingOff = 0xc0, 0x40, 0x80, 0x20
	d := q.message.Data
	kind := d[1] & kindMask
	if _, found := channelOf(d[0]); !found || kind != nonVolatile && kind != volatile {
		return invalidField, out
	}
	return ok, append(out, alertingOff|alwaysAvailable, uint8(administrator))
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

func getUserAccess(s *Server, q *request, out []byte) (code, []byte) {
	const enabled, disabled, messaging, noAccess = 0x40, 0x80, 0x10, 0x0f
	d := q.message.Data
	_, found := channelOf(d[0])
	id, users := int(d[1]&0x3f), min(len(s.Users), 0x3f-1)
	if !found || id == 0 || id > users+1 {
		return invalidField, out
	}
	status, access := uint8(disabled), uint8(noAccess)
	if id >= firstUserID {
		status, access = enabled, messaging|uint8(administrator)
	}
	// The names cannot be changed here: all are fixed.
	return ok, append(out, uint8(users+1), status|uint8(users), uint8(users+1), access)
}

func getUserName(s *Server, q *request, out []byte) (code, []byte) {
	id := int(q.message.Data[0] & 0x3f)
	if id == 0 || id > len(s.Users)+1 {
		return invalidField, out
	}
	var name [wire.NameMax]byte
	if id >= firstUserID {
		copy(name[:], s.Users[id-firstUserID].Name)
	}
	return ok, append(out, name[:]...)
}
