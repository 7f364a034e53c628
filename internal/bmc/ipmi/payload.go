package ipmi

import (
	"bytes"
	"encoding/binary"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
)

// Completion codes of the payload commands (§24).
const (
	payloadActive      code = 0x80 // §24.1: on another session
	payloadInactive    code = 0x80 // §24.2
	payloadDisabled    code = 0x81
	payloadUnencrypted code = 0x84 // §24.1: cannot be activated without encryption
	payloadUnknown     code = 0x80 // §24.3, §24.9: not for this payload type
	payloadNotNow      code = 0x81 // §24.3: not as it is configured
	payloadNotThere    code = 0x83 // §24.3
)

const (
	solInstance    = 1    // the only one
	payloadMask    = 0x3f // of a payload type
	solAccessBit   = 1 << wire.PayloadSOL
	payloadVersion = 0x10 // 1.0
)

// solAllowed tells whether the session may use Serial over LAN.
func (s *Server) solAllowed(q *request) code {
	c := s.solConfig()
	switch {
	case !c.Enabled || q.session.account.NoSOL:
		return payloadDisabled
	case q.session.privilege < privilege(c.Privilege):
		return notPrivileged
	}
	return ok
}

func activatePayload(s *Server, q *request, out []byte) (code, []byte) {
	const encrypted, noVLAN = 0x80, 0xffff
	d := q.message.Data
	if wire.PayloadType(d[0]&payloadMask) != wire.PayloadSOL || d[1]&0x0f != solInstance {
		return invalidField, out
	}
	if c := s.solAllowed(q); c != ok {
		return c, out
	}
	if d[2]&encrypted == 0 {
		return payloadUnencrypted, out
	}
	if s.sol != nil {
		s.sessions.find(s.sol.session.id, q.now) // its time may be over
	}
	if s.sol != nil {
		return payloadActive, out
	}
	if c := s.startSOL(q); c != ok {
		return c, out
	}
	out = append(out, 0, 0, 0, 0)
	out = binary.LittleEndian.AppendUint16(out, solPayloadMax) // to the BMC
	out = binary.LittleEndian.AppendUint16(out, solPayloadMax) // from it
	out = binary.LittleEndian.AppendUint16(out, s.port)
	return ok, binary.LittleEndian.AppendUint16(out, noVLAN)
}

// deactivatePayload ends Serial over LAN, whosever it is: that is how another
// client takes it over.
func deactivatePayload(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	if wire.PayloadType(d[0]&payloadMask) != wire.PayloadSOL || d[1]&0x0f != solInstance {
		return invalidField, out
	}
	if c := s.solAllowed(q); c != ok {
		return c, out
	}
	if s.sol == nil {
		return payloadInactive, out
	}
	notice := ""
	if s.sol.session != q.session {
		notice = "deactivated by " + q.session.account.Name + " from " + q.from.addrPort().Addr().String()
	}
	s.endSOL(notice)
	return ok, out
}

func getPayloadStatus(s *Server, q *request, out []byte) (code, []byte) {
	const capacity = 1
	if wire.PayloadType(q.message.Data[0]&payloadMask) != wire.PayloadSOL {
		return invalidField, out
	}
	var active uint8
	if s.sol != nil && s.sessions.find(s.sol.session.id, q.now) != nil {
		active = 1 << (solInstance - 1)
	}
	return ok, append(out, capacity, active, 0)
}

func getPayloadInstance(s *Server, q *request, out []byte) (code, []byte) {
	const serialPort = 1
	d := q.message.Data
	if wire.PayloadType(d[0]&payloadMask) != wire.PayloadSOL || d[1]&0x0f != solInstance {
		return invalidField, out
	}
	id := uint32(0)
	if s.sol != nil {
		id = s.sol.session.id
	}
	out = binary.LittleEndian.AppendUint32(out, id)
	return ok, append(out, serialPort, 0, 0, 0, 0, 0, 0, 0)
}

func setUserPayloadAccess(s *Server, q *request, out []byte) (code, []byte) {
	const operationShift, enable, disable = 6, 0, 1
	d := q.message.Data
	_, found := channelOf(d[0])
	a, null, c := s.accountOf(d[1])
	operation := d[1] >> operationShift
	switch {
	case !found || null || c != ok || operation > disable:
		return invalidField, out
	case d[2]&solAccessBit == 0: // nothing changes
		return ok, out
	case a.Name == "":
		return wrongState, out
	}
	a.NoSOL = operation != enable
	return s.setAccount(q.session, a), out
}

func getUserPayloadAccess(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	_, found := channelOf(d[0])
	a, _, c := s.accountOf(d[1])
	if !found || c != ok {
		return invalidField, out
	}
	var standard uint8
	if a.Name != "" && !a.NoSOL {
		standard = solAccessBit
	}
	return ok, append(out, standard, 0, 0, 0)
}

func getPayloadSupport(_ *Server, q *request, out []byte) (code, []byte) {
	const standard, setUp = 1<<wire.PayloadIPMI | 1<<wire.PayloadSOL, 0x3f
	if _, found := channelOf(q.message.Data[0]); !found {
		return invalidField, out
	}
	return ok, append(out, standard, 0, setUp, 0, 0, 0, 0, 0)
}

func getPayloadVersion(_ *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	if _, found := channelOf(d[0]); !found {
		return invalidField, out
	}
	switch t := wire.PayloadType(d[1] & payloadMask); {
	case t <= wire.PayloadSOL, t >= wire.PayloadOpenRequest && t <= wire.PayloadRAKP4:
		return ok, append(out, payloadVersion)
	}
	return payloadUnknown, out
}

// suspendEncryption refuses: every packet is encrypted, always.
func suspendEncryption(s *Server, q *request, out []byte) (code, []byte) {
	const suspend, resume, operationMask = 0, 1, 0x1f
	d := q.message.Data
	switch operation := d[2] & operationMask; {
	case wire.PayloadType(d[0]&payloadMask) != wire.PayloadSOL || operation > resume:
		return payloadUnknown, out
	case s.sol == nil || s.sol.session != q.session || d[1]&0x0f != solInstance:
		return payloadNotThere, out
	case operation == suspend:
		return payloadNotNow, out
	}
	return ok, out
}

// solConfig are the SOL configuration parameters that can be set (§26.3, table 26-5).
type solConfig struct {
	Enabled       bool  `json:"enabled"`
	Privilege     uint8 `json:"privilege"`      // least that may activate it
	Accumulate    uint8 `json:"accumulate"`     // how long characters are collected, in 5 ms
	Threshold     uint8 `json:"threshold"`      // as many characters are sent at once
	Retries       uint8 `json:"retries"`        // of a packet that is not acknowledged
	RetryInterval uint8 `json:"retry_interval"` // in 10 ms
	BitRate       uint8 `json:"bit_rate"`       // table 26-5; has no effect
}

// solConfig returns the parameters as they are.
func (s *Server) solConfig() solConfig {
	if s.kept.SOL != nil {
		return *s.kept.SOL
	}
	const rate115200 = 0x0a
	return solConfig{Enabled: true, Privilege: uint8(operator), Accumulate: 1, Threshold: 220, Retries: 7, RetryInterval: 20, BitRate: rate115200}
}

// SOL configuration parameters (§26.3, table 26-5).
const (
	solInProgress     = 0
	solEnable         = 1
	solAuthentication = 2
	solAccumulate     = 3
	solRetry          = 4
	solBitRateKept    = 5
	solBitRate        = 6
	solChannel        = 7
	solPort           = 8

	solForced = 0xc0 // encryption and authentication are
)

// solValue is the value of a parameter; nil if there is no such parameter.
func (s *Server) solValue(param uint8) []byte {
	c := s.solConfig()
	switch param {
	case solInProgress:
		return []byte{0}
	case solEnable:
		if c.Enabled {
			return []byte{1}
		}
		return []byte{0}
	case solAuthentication:
		return []byte{solForced | c.Privilege}
	case solAccumulate:
		return []byte{c.Accumulate, c.Threshold}
	case solRetry:
		return []byte{c.Retries, c.RetryInterval}
	case solBitRateKept, solBitRate:
		return []byte{c.BitRate}
	case solChannel:
		return []byte{lanChannel}
	case solPort:
		return binary.LittleEndian.AppendUint16(nil, s.port)
	}
	return nil
}

func getSOLConfig(s *Server, q *request, out []byte) (code, []byte) {
	const revision, revisionOnly = 0x11, 0x80
	d := q.message.Data
	if _, found := channelOf(d[0]); !found {
		return invalidField, out
	}
	out = append(out, revision)
	if d[0]&revisionOnly != 0 {
		return ok, out
	}
	value := s.solValue(d[1])
	if value == nil {
		return paramUnsupported, out[:1]
	}
	return ok, append(out, value...)
}

func setSOLConfig(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	if _, found := channelOf(d[0]); !found {
		return invalidField, out
	}
	param, d := d[1], d[2:]
	value := s.solValue(param)
	switch {
	case value == nil:
		return paramUnsupported, out
	case len(d) != len(value):
		return invalidLength, out
	case bytes.Equal(d, value):
		return ok, out
	}
	c := s.solConfig()
	if code := c.set(param, d); code != ok {
		return code, out
	}
	return codeFor(s.keep(func(k *kept) { k.SOL = &c })), out
}

// set changes a parameter, which has the right length.
func (c *solConfig) set(param uint8, d []byte) code {
	const lastRate = 0x0a
	switch param {
	case solInProgress:
		if d[0]&0x03 > 1 { // commit write: nothing is kept back
			return invalidField
		}
	case solEnable:
		c.Enabled = d[0]&1 != 0
	case solAuthentication: // that encryption is forced cannot be changed
		level := privilege(d[0] & 0x0f)
		if level < user || level > administrator {
			return invalidField
		}
		c.Privilege = uint8(level)
	case solAccumulate:
		if d[0] == 0 || d[1] == 0 {
			return invalidField
		}
		c.Accumulate, c.Threshold = d[0], d[1]
	case solRetry:
		c.Retries, c.RetryInterval = d[0]&0x07, d[1]
	case solBitRateKept, solBitRate:
		if d[0]&0x0f > lastRate {
			return invalidField
		}
		c.BitRate = d[0] & 0x0f
	default:
		return paramReadOnly
	}
	return ok
}
