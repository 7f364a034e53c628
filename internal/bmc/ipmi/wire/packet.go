package wire

import (
	"encoding/binary"
	"fmt"
)

// Authentication types and formats, the first byte of a session header (§13.6).
const (
	authNone   = 0x00 // IPMI 1.5 header, no authentication code
	formatPlus = 0x06 // IPMI 2.0 header (RMCP+)
)

// PayloadType says what an RMCP+ packet carries (§13.27.3, table 13-16).
type PayloadType uint8

// Payload types. Requests go to the BMC, responses come from it.
const (
	PayloadIPMI         PayloadType = 0x00
	PayloadSOL          PayloadType = 0x01
	PayloadOEM          PayloadType = 0x02
	PayloadOpenRequest  PayloadType = 0x10
	PayloadOpenResponse PayloadType = 0x11
	PayloadRAKP1        PayloadType = 0x12
	PayloadRAKP2        PayloadType = 0x13
	PayloadRAKP3        PayloadType = 0x14
	PayloadRAKP4        PayloadType = 0x15
)

// Packet is a session header with what it wraps: the data of an RMCP message
// of class IPMI (§13.6, table 13-8).
type Packet struct {
	// Plus tells whether the header is that of IPMI 2.0. That of IPMI 1.5
	// has only SessionID, Sequence and Payload; authenticated packets of
	// IPMI 1.5 are not decoded.
	Plus bool

	Type          PayloadType
	Encrypted     bool
	Authenticated bool
	SessionID     uint32 // 0 outside of a session
	Sequence      uint32 // 0 outside of a session
	Payload       []byte // with confidentiality header and trailer, if Encrypted

	// Trailer is the integrity pad, its length, the next header and the
	// authentication code; only if Authenticated.
	Trailer []byte
	// Signed is what the authentication code covers, and the code itself:
	// the packet as it was received. Append ignores it.
	Signed []byte
}

// DecodePacket decodes the data of an RMCP message of class IPMI. The packet
// refers to b. Whether it is genuine is for [Cipher.Open] to say.
func DecodePacket(b []byte) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, ErrShort
	}
	switch b[0] & 0x0f {
	case formatPlus:
		return decodePlus(b)
	case authNone:
		return decodeLegacy(b)
	}
	return Packet{}, fmt.Errorf("authentication type %#x: %w", b[0], ErrFormat)
}

// decodeLegacy decodes a packet of IPMI 1.5 without authentication.
func decodeLegacy(b []byte) (Packet, error) {
	const header = 10
	if len(b) < header {
		return Packet{}, ErrShort
	}
	payload, n := b[header:], int(b[9])
	// Some lengths are followed by one byte, the legacy pad (§13.6).
	if len(payload) < n || len(payload) > n+1 {
		return Packet{}, fmt.Errorf("payload length %d: %w", n, ErrFormat)
	}
	return Packet{
		Sequence:  binary.LittleEndian.Uint32(b[1:]),
		SessionID: binary.LittleEndian.Uint32(b[5:]),
		Payload:   payload[:n],
	}, nil
}

const plusLen = 12 // of an IPMI 2.0 session header without OEM fields

// Bits of the payload type byte.
const (
	encryptedBit     = 0x80
	authenticatedBit = 0x40
)

// decodePlus decodes a packet of IPMI 2.0.
func decodePlus(b []byte) (Packet, error) {
	if len(b) < plusLen {
		return Packet{}, ErrShort
	}
	p := Packet{
		Plus:          true,
		Type:          PayloadType(b[1] & 0x3f),
		Encrypted:     b[1]&encryptedBit != 0,
		Authenticated: b[1]&authenticatedBit != 0,
		SessionID:     binary.LittleEndian.Uint32(b[2:]),
		Sequence:      binary.LittleEndian.Uint32(b[6:]),
	}
	if p.Type == PayloadOEM { // has two more fields, and nobody here speaks it
		return Packet{}, fmt.Errorf("OEM payload: %w", ErrFormat)
	}
	n, rest := int(binary.LittleEndian.Uint16(b[10:])), b[plusLen:]
	if len(rest) < n {
		return Packet{}, ErrShort
	}
	p.Payload, rest = rest[:n:n], rest[n:]
	if p.Authenticated {
		p.Trailer, p.Signed = rest, b
	} else if len(rest) != 0 {
		return Packet{}, fmt.Errorf("%d bytes after the payload: %w", len(rest), ErrFormat)
	}
	return p, nil
}

// Append appends the packet to dst, without RMCP header. The payload may have
// 255 bytes at most in the format of IPMI 1.5, and 65,535 in that of 2.0.
func (p Packet) Append(dst []byte) []byte {
	if !p.Plus {
		dst = append(dst, authNone)
		dst = binary.LittleEndian.AppendUint32(dst, p.Sequence)
		dst = binary.LittleEndian.AppendUint32(dst, p.SessionID)
		dst = append(dst, uint8(len(p.Payload)))
		return append(dst, p.Payload...)
	}
	dst = appendPlus(dst, p.Type, p.Encrypted, p.Authenticated, p.SessionID, p.Sequence, len(p.Payload))
	dst = append(dst, p.Payload...)
	return append(dst, p.Trailer...)
}

// appendPlus appends an IPMI 2.0 session header.
func appendPlus(dst []byte, t PayloadType, encrypted, authenticated bool, id, seq uint32, length int) []byte {
	typ := uint8(t) & 0x3f
	if encrypted {
		typ |= encryptedBit
	}
	if authenticated {
		typ |= authenticatedBit
	}
	dst = append(dst, formatPlus, typ)
	dst = binary.LittleEndian.AppendUint32(dst, id)
	dst = binary.LittleEndian.AppendUint32(dst, seq)
	return binary.LittleEndian.AppendUint16(dst, uint16(length))
}
