// Package wire has the packets of IPMI over LAN: RMCP and ASF, the session
// wrappers of IPMI 1.5 and 2.0 (RMCP+), the session set-up (Open Session and
// RAKP 1 to 4), IPMI messages, and the cryptography of cipher suites 3 and 17.
//
// The package only turns bytes into values and back. It opens no socket, keeps
// no session and decides nothing: package ipmi does. No input makes it panic.
//
// Sections named in comments are those of the "Intelligent Platform Management
// Interface Specification, Second Generation, v2.0, revision 1.1".
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors of the decoders. A BMC drops such a packet unanswered.
var (
	// ErrShort: the packet ends before it should.
	ErrShort = errors.New("packet is too short")
	// ErrFormat: a field has a value that this packet may not have.
	ErrFormat = errors.New("packet is malformed")
	// ErrChecksum: a checksum of an IPMI message is wrong.
	ErrChecksum = errors.New("checksum is wrong")
	// ErrIntegrity: the packet was not made by the other end of the session.
	ErrIntegrity = errors.New("integrity check failed")
)

// Classes of RMCP messages (§13.1.3).
const (
	ClassASF  uint8 = 0x06
	ClassIPMI uint8 = 0x07
)

const (
	rmcpLen     = 4
	rmcpVersion = 0x06 // RMCP 1.0
	rmcpAck     = 0x80 // in the class byte: this is an acknowledgement
)

// NoAck is the RMCP sequence number of a message that wants no RMCP
// acknowledgement; IPMI always uses it (§13.1.3).
const NoAck uint8 = 0xff

// RMCP is the header in front of every datagram (§13.1.3, table 13-1).
type RMCP struct {
	Sequence uint8 // NoAck for IPMI
	Ack      bool  // an acknowledgement, without data
	Class    uint8 // ClassASF, ClassIPMI
	Data     []byte
}

// DecodeRMCP decodes a datagram. Data refers to b.
func DecodeRMCP(b []byte) (RMCP, error) {
	if len(b) < rmcpLen {
		return RMCP{}, ErrShort
	}
	if b[0] != rmcpVersion {
		return RMCP{}, fmt.Errorf("RMCP version %#x: %w", b[0], ErrFormat)
	}
	return RMCP{Sequence: b[2], Ack: b[3]&rmcpAck != 0, Class: b[3] & 0x1f, Data: b[rmcpLen:]}, nil
}

// Append appends the datagram to dst.
func (r RMCP) Append(dst []byte) []byte {
	class := r.Class & 0x1f
	if r.Ack {
		class |= rmcpAck
	}
	dst = append(dst, rmcpVersion, 0, r.Sequence, class)
	return append(dst, r.Data...)
}

// Types of ASF messages (DSP0136 §3.2.4).
const (
	ASFPing uint8 = 0x80 // Presence Ping
	ASFPong uint8 = 0x40 // Presence Pong
)

// asfEnterprise is the IANA enterprise number of ASF.
const asfEnterprise = 4542

// ASF is an ASF message, the data of an RMCP message (§13.2.2; DSP0136 §3.2.2.3).
type ASF struct {
	Type uint8 // ASFPing, ASFPong
	Tag  uint8 // the answer repeats it
	Data []byte
}

// DecodeASF decodes the data of an RMCP message of class ASF. Data refers to b.
func DecodeASF(b []byte) (ASF, error) {
	const header = 8
	if len(b) < header {
		return ASF{}, ErrShort
	}
	if n := binary.BigEndian.Uint32(b); n != asfEnterprise {
		return ASF{}, fmt.Errorf("ASF enterprise number %d: %w", n, ErrFormat)
	}
	n := int(b[7])
	if len(b) < header+n {
		return ASF{}, ErrShort
	}
	return ASF{Type: b[4], Tag: b[5], Data: b[header : header+n]}, nil
}

// Append appends the message to dst. Data may have 255 bytes at most.
func (a ASF) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, asfEnterprise)
	dst = append(dst, a.Type, a.Tag, 0, uint8(len(a.Data)))
	return append(dst, a.Data...)
}

// Pong is the answer to a Presence Ping with this tag: a system with IPMI and
// no other entity or interaction (§13.2.4, table 13-6).
func Pong(tag uint8) ASF {
	const ipmiSupported, asf1 = 0x80, 0x01
	data := make([]byte, 16)
	binary.BigEndian.PutUint32(data, asfEnterprise)
	data[8] = ipmiSupported | asf1
	return ASF{Type: ASFPong, Tag: tag, Data: data}
}
