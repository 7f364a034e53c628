package wire

import (
	"encoding/binary"
	"fmt"
)

// Status is a status code of the session set-up (§13.24, table 13-15).
type Status uint8

// Status codes.
const (
	StatusOK                  Status = 0x00
	StatusNoResources         Status = 0x01 // insufficient resources to create a session
	StatusInvalidSession      Status = 0x02
	StatusInvalidPayload      Status = 0x03
	StatusInvalidAuth         Status = 0x04
	StatusInvalidIntegrity    Status = 0x05
	StatusNoAuthPayload       Status = 0x06
	StatusNoIntegrityPayload  Status = 0x07
	StatusInactiveSession     Status = 0x08
	StatusInvalidRole         Status = 0x09
	StatusUnauthorizedRole    Status = 0x0a
	StatusNoResourcesForRole  Status = 0x0b
	StatusInvalidNameLength   Status = 0x0c
	StatusUnauthorizedName    Status = 0x0d
	StatusUnauthorizedGUID    Status = 0x0e
	StatusInvalidCheckValue   Status = 0x0f // the password is wrong
	StatusInvalidConfidential Status = 0x10
	StatusNoSuite             Status = 0x11 // no cipher suite matches the proposed algorithms
	StatusIllegalParameter    Status = 0x12
)

// Wildcard is an algorithm in an [OpenRequest] that the BMC may choose. No
// algorithm has this number: they have 6 bits.
const Wildcard uint8 = 0xff

// OpenRequest is an RMCP+ Open Session Request (§13.17, table 13-9).
type OpenRequest struct {
	Tag       uint8 // the response repeats it
	Privilege uint8 // highest wanted; 0: the highest that there is
	ConsoleID uint32

	Auth, Integrity, Confidentiality uint8 // algorithms, or Wildcard
}

const openRequestLen = 32

// DecodeOpenRequest decodes an Open Session Request.
func DecodeOpenRequest(b []byte) (OpenRequest, error) {
	if len(b) < openRequestLen {
		return OpenRequest{}, ErrShort
	}
	r := OpenRequest{Tag: b[0], Privilege: b[1] & 0x0f, ConsoleID: binary.LittleEndian.Uint32(b[4:])}
	for i, alg := range []*uint8{&r.Auth, &r.Integrity, &r.Confidentiality} {
		record := b[8+8*i:][:8]
		if int(record[0]) != i {
			return OpenRequest{}, fmt.Errorf("payload %d has type %d: %w", i, record[0], ErrFormat)
		}
		switch record[3] {
		case 0:
			*alg = Wildcard
		case 8:
			*alg = record[4] & 0x3f
		default:
			return OpenRequest{}, fmt.Errorf("payload %d has length %d: %w", i, record[3], ErrFormat)
		}
	}
	return r, nil
}

// Append appends the request to dst.
func (r OpenRequest) Append(dst []byte) []byte {
	dst = append(dst, r.Tag, r.Privilege&0x0f, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, r.ConsoleID)
	return appendAlgorithms(dst, r.Auth, r.Integrity, r.Confidentiality)
}

func appendAlgorithms(dst []byte, algs ...uint8) []byte {
	for i, alg := range algs {
		length := uint8(8)
		if alg == Wildcard {
			alg, length = 0, 0
		}
		dst = append(dst, uint8(i), 0, 0, length, alg&0x3f, 0, 0, 0)
	}
	return dst
}

// OpenResponse is an RMCP+ Open Session Response (§13.18, table 13-10). With a
// Status other than StatusOK nothing follows ConsoleID.
type OpenResponse struct {
	Tag       uint8
	Status    Status
	Privilege uint8 // highest that a session with these algorithms can have
	ConsoleID uint32
	SystemID  uint32 // the BMC's name for the session

	Auth, Integrity, Confidentiality uint8
}

// DecodeOpenResponse decodes an Open Session Response.
func DecodeOpenResponse(b []byte) (OpenResponse, error) {
	if len(b) < 8 {
		return OpenResponse{}, ErrShort
	}
	r := OpenResponse{Tag: b[0], Status: Status(b[1]), Privilege: b[2] & 0x0f, ConsoleID: binary.LittleEndian.Uint32(b[4:])}
	if r.Status != StatusOK {
		return r, nil
	}
	if len(b) < 36 {
		return OpenResponse{}, ErrShort
	}
	r.SystemID = binary.LittleEndian.Uint32(b[8:])
	for i, alg := range []*uint8{&r.Auth, &r.Integrity, &r.Confidentiality} {
		*alg = b[12+8*i+4] & 0x3f
	}
	return r, nil
}

// Append appends the response to dst.
func (r OpenResponse) Append(dst []byte) []byte {
	dst = append(dst, r.Tag, uint8(r.Status), r.Privilege&0x0f, 0)
	dst = binary.LittleEndian.AppendUint32(dst, r.ConsoleID)
	if r.Status != StatusOK {
		return dst
	}
	dst = binary.LittleEndian.AppendUint32(dst, r.SystemID)
	return appendAlgorithms(dst, r.Auth, r.Integrity, r.Confidentiality)
}

// NameMax is the most bytes of a user name (§13.20).
const NameMax = 16

// Parts of the role byte of RAKP 1 (§13.20, table 13-11).
const (
	RolePrivilege uint8 = 0x0f // highest privilege that the session wants
	RoleNameOnly  uint8 = 0x10 // find the user by name alone, not by name and privilege
)

// RAKP1 begins the key exchange (§13.20, table 13-11).
type RAKP1 struct {
	Tag      uint8
	SystemID uint32
	Random   [16]byte // the remote console's
	// Role is the whole byte, as it is part of what is authenticated.
	Role uint8
	Name []byte // the sender may claim more than NameMax bytes
}

// DecodeRAKP1 decodes a RAKP message 1. Name refers to b.
func DecodeRAKP1(b []byte) (RAKP1, error) {
	const fixed = 28
	if len(b) < fixed {
		return RAKP1{}, ErrShort
	}
	n := int(b[27])
	// Some consoles send the name's field in its full length.
	if len(b) < fixed+n {
		return RAKP1{}, ErrShort
	}
	return RAKP1{
		Tag: b[0], SystemID: binary.LittleEndian.Uint32(b[4:]),
		Random: [16]byte(b[8:24]), Role: b[24],
		Name: b[fixed : fixed+n],
	}, nil
}

// Append appends the message to dst.
func (r RAKP1) Append(dst []byte) []byte {
	dst = append(dst, r.Tag, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, r.SystemID)
	dst = append(dst, r.Random[:]...)
	dst = append(dst, r.Role, 0, 0, uint8(len(r.Name)))
	return append(dst, r.Name...)
}

// RAKP2 answers RAKP 1 (§13.21, table 13-12). With a Status other than StatusOK
// nothing follows ConsoleID.
type RAKP2 struct {
	Tag       uint8
	Status    Status
	ConsoleID uint32
	Random    [16]byte // the BMC's
	GUID      [16]byte
	Code      []byte // see [Exchange.Code2]
}

// DecodeRAKP2 decodes a RAKP message 2. Code refers to b.
func DecodeRAKP2(b []byte) (RAKP2, error) {
	if len(b) < 8 {
		return RAKP2{}, ErrShort
	}
	r := RAKP2{Tag: b[0], Status: Status(b[1]), ConsoleID: binary.LittleEndian.Uint32(b[4:])}
	if r.Status != StatusOK {
		return r, nil
	}
	if len(b) < 40 {
		return RAKP2{}, ErrShort
	}
	r.Random, r.GUID, r.Code = [16]byte(b[8:24]), [16]byte(b[24:40]), b[40:]
	return r, nil
}

// Append appends the message to dst.
func (r RAKP2) Append(dst []byte) []byte {
	dst = append(dst, r.Tag, uint8(r.Status), 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, r.ConsoleID)
	if r.Status != StatusOK {
		return dst
	}
	dst = append(dst, r.Random[:]...)
	dst = append(dst, r.GUID[:]...)
	return append(dst, r.Code...)
}

// RAKP3 proves that the console knows the password (§13.22, table 13-13). With
// a Status other than StatusOK it ends the set-up and has no Code.
type RAKP3 struct {
	Tag      uint8
	Status   Status
	SystemID uint32
	Code     []byte // see [Exchange.Code3]
}

// DecodeRAKP3 decodes a RAKP message 3. Code refers to b.
func DecodeRAKP3(b []byte) (RAKP3, error) {
	tag, status, id, code, err := decodeProof(b)
	return RAKP3{Tag: tag, Status: status, SystemID: id, Code: code}, err
}

// Append appends the message to dst.
func (r RAKP3) Append(dst []byte) []byte {
	return appendProof(dst, r.Tag, r.Status, r.SystemID, r.Code)
}

// RAKP4 ends the set-up (§13.23, table 13-14). With a Status other than
// StatusOK it has no Code.
type RAKP4 struct {
	Tag       uint8
	Status    Status
	ConsoleID uint32
	Code      []byte // see [Exchange.Code4]
}

// DecodeRAKP4 decodes a RAKP message 4. Code refers to b.
func DecodeRAKP4(b []byte) (RAKP4, error) {
	tag, status, id, code, err := decodeProof(b)
	return RAKP4{Tag: tag, Status: status, ConsoleID: id, Code: code}, err
}

// Append appends the message to dst.
func (r RAKP4) Append(dst []byte) []byte {
	return appendProof(dst, r.Tag, r.Status, r.ConsoleID, r.Code)
}

// decodeProof decodes RAKP 3 and 4, which have the same form.
func decodeProof(b []byte) (tag uint8, status Status, id uint32, code []byte, err error) {
	if len(b) < 8 {
		return 0, 0, 0, nil, ErrShort
	}
	if status = Status(b[1]); status == StatusOK {
		code = b[8:]
	}
	return b[0], status, binary.LittleEndian.Uint32(b[4:]), code, nil
}

func appendProof(dst []byte, tag uint8, status Status, id uint32, code []byte) []byte {
	dst = append(dst, tag, uint8(status), 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, id)
	if status != StatusOK {
		return dst
	}
	return append(dst, code...)
}
