package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // IPMI v2.0 §13.28: RAKP-HMAC-SHA1; its use as an HMAC is not broken
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
)

// Suite is a cipher suite, by its number (§22.15.2, table 22-20). Only those
// below are spoken here: both authenticate and encrypt every packet.
type Suite uint8

// Cipher suites.
const (
	Suite3  Suite = 3  // RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128
	Suite17 Suite = 17 // RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128
)

// Algorithms returns the numbers of the suite's algorithms (tables 13-17 to 13-19).
func (s Suite) Algorithms() (auth, integrity, confidentiality uint8) {
	if s == Suite3 {
		return 1, 1, 1
	}
	return 3, 4, 1
}

// hash returns the hash that all of the suite's HMACs use.
func (s Suite) hash() func() hash.Hash {
	if s == Suite3 {
		return sha1.New
	}
	return sha256.New
}

// icvLen is the length of an integrity check value in bytes (§13.28.1, §13.28.4).
func (s Suite) icvLen() int {
	if s == Suite3 {
		return 12
	}
	return 16
}

func (s Suite) mac(key, data []byte) []byte {
	h := hmac.New(s.hash(), key)
	h.Write(data)
	return h.Sum(nil)
}

// Exchange is what both ends of a session know when RAKP 2 has arrived. The
// codes below are what they prove it with (§13.31).
type Exchange struct {
	Suite         Suite
	Password      string // at most 20 bytes
	BMCKey        string // Kg, at most 20 bytes; "": there is none
	ConsoleID     uint32 // SIDm
	SystemID      uint32 // SIDc
	ConsoleRandom [16]byte
	SystemRandom  [16]byte
	GUID          [16]byte
	Role          uint8 // RoleM, the whole byte of RAKP 1
	Name          string
}

// appendUser appends RoleM, ULengthM and UNameM.
func (x *Exchange) appendUser(b []byte) []byte {
	b = append(b, x.Role, uint8(len(x.Name)))
	return append(b, x.Name...)
}

// Code2 is the key exchange authentication code of RAKP 2.
func (x *Exchange) Code2() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 80), x.ConsoleID)
	b = binary.LittleEndian.AppendUint32(b, x.SystemID)
	b = append(b, x.ConsoleRandom[:]...)
	b = append(b, x.SystemRandom[:]...)
	b = append(b, x.GUID[:]...)
	return x.Suite.mac([]byte(x.Password), x.appendUser(b))
}

// Code3 is the key exchange authentication code of RAKP 3.
func (x *Exchange) Code3() []byte {
	b := append(make([]byte, 0, 48), x.SystemRandom[:]...)
	b = binary.LittleEndian.AppendUint32(b, x.ConsoleID)
	return x.Suite.mac([]byte(x.Password), x.appendUser(b))
}

// SessionKey is the session integrity key, SIK. Where there is no BMC key the
// password takes its place, as §13.31 says.
func (x *Exchange) SessionKey() []byte {
	key := x.BMCKey
	if key == "" {
		key = x.Password
	}
	b := append(make([]byte, 0, 64), x.ConsoleRandom[:]...)
	b = append(b, x.SystemRandom[:]...)
	return x.Suite.mac([]byte(key), x.appendUser(b))
}

// Code4 is the integrity check value of RAKP 4.
func (x *Exchange) Code4(sessionKey []byte) []byte {
	b := append(make([]byte, 0, 48), x.ConsoleRandom[:]...)
	b = binary.LittleEndian.AppendUint32(b, x.SystemID)
	b = append(b, x.GUID[:]...)
	return x.Suite.mac(sessionKey, b)[:x.Suite.icvLen()]
}

// EqualCodes compares authentication codes in constant time.
func EqualCodes(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// cbc is a block mode that can be used for one packet after another; those of
// crypto/aes can.
type cbc interface {
	cipher.BlockMode
	SetIV([]byte)
}

// Cipher seals and opens the packets of one session. It keeps the state of the
// keys, so that a packet costs no key schedule. It is not safe for concurrent use.
type Cipher struct {
	suite    Suite
	mac      hash.Hash // keyed with K1
	block    cipher.Block
	enc, dec cbc // nil: made anew for each packet
	sum      []byte
}

// NewCipher derives the keys of a session (§13.32): K1 for integrity, K2 for
// confidentiality.
func NewCipher(s Suite, sessionKey []byte) *Cipher {
	var one, two [20]byte
	for i := range one {
		one[i], two[i] = 1, 2
	}
	block, err := aes.NewCipher(s.mac(sessionKey, two[:])[:aes.BlockSize])
	if err != nil {
		panic(err) // 16 bytes are a key
	}
	c := &Cipher{suite: s, mac: hmac.New(s.hash(), s.mac(sessionKey, one[:])), block: block}
	var zero [aes.BlockSize]byte
	c.enc, _ = cipher.NewCBCEncrypter(block, zero[:]).(cbc)
	c.dec, _ = cipher.NewCBCDecrypter(block, zero[:]).(cbc)
	return c
}

func (c *Cipher) code(signed []byte) []byte {
	c.mac.Reset()
	c.mac.Write(signed)
	c.sum = c.mac.Sum(c.sum[:0])
	return c.sum[:c.suite.icvLen()]
}

// nextHeader is the only value that the field has (§13.28.4, table 13-8).
const nextHeader = 0x07

// Open checks that p is genuine and returns its payload in clear. The payload
// takes the place of the encrypted one in p. A packet that is not both
// authenticated and encrypted is refused: errors wrap [ErrIntegrity] or
// [ErrFormat].
func (c *Cipher) Open(p Packet) ([]byte, error) {
	if !p.Authenticated || !p.Encrypted {
		return nil, fmt.Errorf("packet is not protected: %w", ErrIntegrity)
	}
	icv := c.suite.icvLen()
	n := len(p.Trailer) - icv // the pad, its length and the next header
	if n < 2 {
		return nil, fmt.Errorf("session trailer: %w", ErrShort)
	}
	end := len(p.Signed) - icv
	if !EqualCodes(c.code(p.Signed[:end]), p.Signed[end:]) {
		return nil, ErrIntegrity
	}
	if int(p.Trailer[n-2]) != n-2 || p.Trailer[n-1] != nextHeader {
		return nil, fmt.Errorf("session trailer: %w", ErrFormat)
	}
	return c.decrypt(p.Payload)
}

// decrypt decrypts in place (§13.29.2): an initialisation vector, and encrypted
// the data, a pad of up to 15 bytes and its length.
func (c *Cipher) decrypt(b []byte) ([]byte, error) {
	if len(b) < 2*aes.BlockSize || len(b)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%d encrypted bytes: %w", len(b), ErrFormat)
	}
	iv, data := b[:aes.BlockSize], b[aes.BlockSize:]
	var mode cipher.BlockMode = c.dec
	if c.dec != nil {
		c.dec.SetIV(iv)
	} else {
		mode = cipher.NewCBCDecrypter(c.block, iv)
	}
	mode.CryptBlocks(data, data)
	pad := int(data[len(data)-1])
	if pad >= aes.BlockSize {
		return nil, fmt.Errorf("confidentiality pad of %d bytes: %w", pad, ErrFormat)
	}
	n := len(data) - 1 - pad
	return data[:n:n], nil
}

// Seal appends a whole datagram, with RMCP header, that carries payload to the
// other end of the session, which calls it id. The initialisation vector is
// random.
func (c *Cipher) Seal(dst []byte, id, sequence uint32, t PayloadType, payload []byte) []byte {
	dst = append(dst, rmcpVersion, 0, NoAck, ClassIPMI)
	start := len(dst)
	pad := (aes.BlockSize - (len(payload)+1)%aes.BlockSize) % aes.BlockSize
	length := aes.BlockSize + len(payload) + pad + 1
	dst = appendPlus(dst, t, true, true, id, sequence, length)

	body := len(dst)
	var iv [aes.BlockSize]byte
	dst = append(dst, iv[:]...)
	_, _ = rand.Read(dst[body:]) // never fails
	dst = append(dst, payload...)
	for i := range pad {
		dst = append(dst, uint8(i+1))
	}
	dst = append(dst, uint8(pad))
	vector, data := dst[body:body+aes.BlockSize], dst[body+aes.BlockSize:]
	var mode cipher.BlockMode = c.enc
	if c.enc != nil {
		c.enc.SetIV(vector)
	} else {
		mode = cipher.NewCBCEncrypter(c.block, vector)
	}
	mode.CryptBlocks(data, data)

	pad = (4 - (len(dst)-start+2)%4) % 4
	for range pad {
		dst = append(dst, 0xff)
	}
	dst = append(dst, uint8(pad), nextHeader)
	return append(dst, c.code(dst[start:])...)
}
