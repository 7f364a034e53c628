package wire

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"reflect"
	"strings"
	"testing"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// recorded are datagrams of log-ins to a BMC whose user "admin" has the password
// "s3cret"; those to the BMC were made by ipmitool 1.8.19 and FreeIPMI 1.6.10.
var recorded = []struct {
	name                                     string
	suite                                    Suite
	open, opened, rakp1, rakp2, rakp3, rakp4 string
	request, message                         string // the first packet in the session, and what is in it
	sequence                                 uint32
}{
	{
		"ipmitool, suite 3", Suite3,
		"0600ff0706100000000000000000200000000000a4a3a2a0000000080100000001000008010000000200000801000000",
		"0600ff0706110000000000000000240000000400a4a3a2a0b541eb7f000000080100000001000008010000000200000801000000",
		"0600ff0706120000000000000000210000000000b541eb7f30296930aa8040827dde4419618c6f3c1400000561646d696e",
		"0600ff07061300000000000000003c0000000000a4a3a2a037322c998a8b43aaa45360aba304a707550e005b02105f8a6e5c0e3d5c217a9b5a27e17c33fbe98cac5c9f8352e5998361afd585",
		"0600ff07061400000000000000001c0000000000b541eb7f6f0386a52a3e63d58fed326f1c8efb46cb0158de",
		"0600ff0706150000000000000000140000000000a4a3a2a06eeac4acf2ee3796e90eefac",
		"0600ff0706c0b541eb7f030000002000934eeb40b6729309cab98eff53865e9edbe0444e7ddd994265243e4c063c59e2ffff02076832c991c418f22ccd218444",
		"20 18 c8 81 04 3b 04 3c", 3, // Set Session Privilege Level: administrator
	},
	{
		"ipmitool, suite 17", Suite17,
		"0600ff0706100000000000000000200000000000a4a3a2a0000000080300000001000008040000000200000801000000",
		"0600ff0706110000000000000000240000000400a4a3a2a01f066a84000000080300000001000008040000000200000801000000",
		"0600ff07061200000000000000002100000000001f066a84db52a478b942101a6b8e11b92167f1df1400000561646d696e",
		"0600ff0706130000000000000000480000000000a4a3a2a0794eaf292178971841319dcd599de22a550e005b02105f8a6e5c0e3d5c217a9b2587e2677d1d3f707203486b3eba8f838c60eef4b679a5ba19d1e3f13885f25f",
		"0600ff07061400000000000000002800000000001f066a84cff9b2eaedd0396481d13783d3e396a6e6572fe5ccce13cc5cffa38d3aef9f85",
		"0600ff0706150000000000000000180000000000a4a3a2a0ae13ba5ff901d4fa796802ee1c1756d9",
		"0600ff0706c01f066a84030000002000e15100170d2e9da95850cdd7ee5d0af5886f5dbb6f2e7649cde7ca4f2d58bff3ffff0207bffbb53360e6dcc8b96f9a1546135b5c",
		"20 18 c8 81 04 3b 04 3c", 3,
	},
	{
		"ipmipower, suite 17", Suite17,
		"0600ff07061000000000000000002000bf000000293963f0000000080300000001000008040000000200000801000000",
		"0600ff07061100000000000000002400bf000400293963f0efe905aa000000080300000001000008040000000200000801000000",
		"0600ff07061200000000000000002100c0000000efe905aaff40362514b831c55563d436e836be5f1300000561646d696e",
		"0600ff07061300000000000000004800c0000000293963f074cf72ca02ce56d85e8cf6ac6c8a51e2550e005b02105f8a6e5c0e3d5c217a9b99449e84d9698f72db364f3301b7c3742f4360bfd168d8fed640ba0623ac41db",
		"0600ff07061400000000000000002800c1000000efe905aa2b8e5fd2704d3704456993526e5399a3486d29f62f4fd07679d15a79efe792de",
		"0600ff07061500000000000000001800c1000000293963f0b114bb2dcb238def9f059240b6140580",
		"0600ff0706c0efe905aa0100000020008fc67dff114e3f96c6a6cc99e4f1bb1df1a732af28fca63dd4a04d852d964f9cffff0207de567aa0b5499bb27e7bca88c4ddea25",
		"20 18 c8 81 14 3b 03 2d", 1, // Set Session Privilege Level: operator
	},
}

// payload returns what a datagram outside of a session carries.
func payload(t *testing.T, datagram string, typ PayloadType) []byte {
	t.Helper()
	b := unhex(datagram)
	r, err := DecodeRMCP(b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := DecodePacket(r.Data)
	if err != nil || p.Type != typ || p.SessionID != 0 || p.Sequence != 0 || p.Encrypted || p.Authenticated {
		t.Fatalf("packet %+v, %v", p, err)
	}
	if again := (RMCP{Sequence: r.Sequence, Class: r.Class, Data: p.Append(nil)}).Append(nil); !bytes.Equal(again, b) {
		t.Errorf("decoded % x\nwritten % x", b, again)
	}
	return p.Payload
}

// again compares a decoded value's bytes with those it was decoded from.
func again(t *testing.T, written, b []byte) {
	t.Helper()
	if !bytes.Equal(written, b) {
		t.Errorf("decoded % x\nwritten % x", b, written)
	}
}

// TestRecorded: what real consoles send is decoded, and their authentication
// codes are those that we compute.
func TestRecorded(t *testing.T) {
	for _, tt := range recorded {
		t.Run(tt.name, func(t *testing.T) {
			b := payload(t, tt.open, PayloadOpenRequest)
			open, err := DecodeOpenRequest(b)
			a, i, c := tt.suite.Algorithms()
			if err != nil || open.Auth != a || open.Integrity != i || open.Confidentiality != c || open.Privilege != 0 {
				t.Fatalf("open %+v, %v", open, err)
			}
			again(t, open.Append(nil), b)
			b = payload(t, tt.opened, PayloadOpenResponse)
			opened, err := DecodeOpenResponse(b)
			if err != nil || opened.Tag != open.Tag || opened.ConsoleID != open.ConsoleID || opened.Privilege != 4 {
				t.Fatalf("opened %+v, %v", opened, err)
			}
			again(t, opened.Append(nil), b)
			b = payload(t, tt.rakp1, PayloadRAKP1)
			r1, err := DecodeRAKP1(b)
			if err != nil || r1.SystemID != opened.SystemID || string(r1.Name) != "admin" || r1.Role&RoleNameOnly == 0 {
				t.Fatalf("RAKP 1 %+v, %v", r1, err)
			}
			again(t, r1.Append(nil), b)
			b = payload(t, tt.rakp2, PayloadRAKP2)
			r2, err := DecodeRAKP2(b)
			if err != nil || r2.ConsoleID != open.ConsoleID {
				t.Fatalf("RAKP 2 %+v, %v", r2, err)
			}
			again(t, r2.Append(nil), b)
			b = payload(t, tt.rakp3, PayloadRAKP3)
			r3, err := DecodeRAKP3(b)
			if err != nil || r3.SystemID != opened.SystemID {
				t.Fatalf("RAKP 3 %+v, %v", r3, err)
			}
			again(t, r3.Append(nil), b)
			b = payload(t, tt.rakp4, PayloadRAKP4)
			r4, err := DecodeRAKP4(b)
			if err != nil || r4.ConsoleID != open.ConsoleID {
				t.Fatalf("RAKP 4 %+v, %v", r4, err)
			}
			again(t, r4.Append(nil), b)

			x := Exchange{
				Suite: tt.suite, Password: "s3cret", ConsoleID: open.ConsoleID, SystemID: opened.SystemID,
				ConsoleRandom: r1.Random, SystemRandom: r2.Random, GUID: r2.GUID, Role: r1.Role, Name: string(r1.Name),
			}
			if got := x.Code2(); !bytes.Equal(got, r2.Code) {
				t.Errorf("code 2 % x, want % x", got, r2.Code)
			}
			if got := x.Code3(); !bytes.Equal(got, r3.Code) {
				t.Errorf("code 3 % x, want % x", got, r3.Code)
			}
			if got := x.Code4(x.SessionKey()); !bytes.Equal(got, r4.Code) {
				t.Errorf("code 4 % x, want % x", got, r4.Code)
			}
			p, err := DecodePacket(unhex(tt.request)[4:])
			if err != nil || p.SessionID != opened.SystemID || p.Sequence != tt.sequence {
				t.Fatalf("request %+v, %v", p, err)
			}
			got, err := NewCipher(tt.suite, x.SessionKey()).Open(p)
			if err != nil || !bytes.Equal(got, unhex(tt.message)) {
				t.Errorf("request has % x, %v, want %s", got, err, tt.message)
			}
		})
	}
}

// TestCodes computes the codes of §13.31 and the keys of §13.32 by hand.
func TestCodes(t *testing.T) {
	x := Exchange{Password: "s3cret", ConsoleID: 0x04030201, SystemID: 0x14131211, Role: 0x14, Name: "admin"}
	for i := range 16 {
		x.ConsoleRandom[i], x.SystemRandom[i], x.GUID[i] = byte(0x20+i), byte(0x40+i), byte(0x60+i)
	}
	const (
		rm, rc   = "202122232425262728292a2b2c2d2e2f", "404142434445464748494a4b4c4d4e4f"
		guid     = "606162636465666768696a6b6c6d6e6f"
		sm, sc   = "01020304", "11121314"
		roleName = "14 05 61646d696e"
	)
	for _, tt := range []struct {
		suite Suite
		hash  func() hash.Hash
		icv   int
	}{{Suite3, sha1.New, 12}, {Suite17, sha256.New, 16}} {
		mac := func(key []byte, parts ...string) []byte {
			h := hmac.New(tt.hash, key)
			h.Write(unhex(strings.Join(parts, "")))
			return h.Sum(nil)
		}
		x.Suite = tt.suite
		user := []byte("s3cret\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 20 bytes
		sik := mac(user, rm, rc, roleName)
		for _, c := range []struct {
			name      string
			got, want []byte
		}{
			{"code 2", x.Code2(), mac(user, sm, sc, rm, rc, guid, roleName)},
			{"code 3", x.Code3(), mac(user, rc, sm, roleName)},
			{"session key", x.SessionKey(), sik},
			{"code 4", x.Code4(sik), mac(sik, rm, sc, guid)[:tt.icv]},
		} {
			if !bytes.Equal(c.got, c.want) {
				t.Errorf("suite %d, %s: % x, want % x", tt.suite, c.name, c.got, c.want)
			}
		}

		k1, k2 := mac(sik, strings.Repeat("01", 20)), mac(sik, strings.Repeat("02", 20))
		block, err := aes.NewCipher(k2[:16])
		if err != nil {
			t.Fatal(err)
		}
		for n := range 70 { // every length of both pads
			data := bytes.Repeat([]byte{0xab}, n)
			b := NewCipher(tt.suite, sik).Seal([]byte{0xee}, 0x04030201, 7, PayloadIPMI, data)[1:]
			if !bytes.HasPrefix(b, unhex("0600ff07 06c0 01020304 07000000")) {
				t.Fatalf("packet begins % x", b[:16])
			}
			signed, code := b[4:len(b)-tt.icv], b[len(b)-tt.icv:]
			if !bytes.Equal(code, mac(k1, hex.EncodeToString(signed))[:tt.icv]) || len(signed)%4 != 0 {
				t.Fatalf("suite %d, %d bytes: authentication code of % x", tt.suite, n, b)
			}
			length := int(b[14])
			enc := bytes.Clone(b[32 : 16+length])
			cipher.NewCBCDecrypter(block, b[16:32]).CryptBlocks(enc, enc)
			pad := int(enc[len(enc)-1])
			if !bytes.Equal(enc[:n], data) || n+pad+1 != len(enc) || pad > 15 {
				t.Fatalf("suite %d, %d bytes: decrypted % x", tt.suite, n, enc)
			}
			for i := range pad {
				if int(enc[n+i]) != i+1 {
					t.Fatalf("pad % x", enc[n:])
				}
			}
			p, err := DecodePacket(b[4:])
			if err != nil {
				t.Fatal(err)
			}
			if got, err := NewCipher(tt.suite, sik).Open(p); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("opened % x, %v", got, err)
			}
		}
	}
}

// TestOpenRefuses: a packet with any bit changed is refused.
func TestOpenRefuses(t *testing.T) {
	key := []byte("some session key")
	for _, suite := range []Suite{Suite3, Suite17} {
		c := NewCipher(suite, key)
		good := c.Seal(nil, 1, 2, PayloadIPMI, []byte("hello"))[4:]
		for i := range len(good) * 8 {
			b := bytes.Clone(good)
			b[i/8] ^= 1 << (i % 8)
			p, err := DecodePacket(b)
			if err != nil {
				continue
			}
			if got, err := c.Open(p); err == nil {
				t.Errorf("suite %d: bit %d of byte %d changed, opened %q", suite, i%8, i/8, got)
			}
		}
		for n := range good {
			if p, err := DecodePacket(good[:n]); err == nil {
				if _, err := c.Open(p); err == nil {
					t.Errorf("suite %d: opened %d of %d bytes", suite, n, len(good))
				}
			}
		}
		p, err := DecodePacket(good)
		if err != nil {
			t.Fatal(err)
		}
		p.Encrypted = false
		if _, err := c.Open(p); !errors.Is(err, ErrIntegrity) {
			t.Errorf("suite %d: a packet in clear: %v", suite, err)
		}
	}
}

// messages are IPMI messages; the first was made by ipmitool, the others by hand.
var messages = []struct {
	wire string
	want Message
}{
	{"20 18 c8 81 00 38 8e 04 b5", Message{To: 0x20, NetFn: 6, From: 0x81, Command: 0x38, Data: []byte{0x8e, 0x04}}},
	{"20 00 e0 81 fc 01 82", Message{To: 0x20, NetFn: 0, From: 0x81, Sequence: 63, Command: 1, Data: []byte{}}},
	{"81 1d 62 20 0a 01 d4 01", Message{To: 0x81, NetFn: 7, ToLUN: 1, From: 0x20, Sequence: 2, FromLUN: 2, Command: 1, Data: []byte{0xd4}}},
}

func TestMessage(t *testing.T) {
	for _, tt := range messages {
		got, err := DecodeMessage(unhex(tt.wire))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v, want %+v", tt.wire, got, err, tt.want)
		}
		again(t, tt.want.Append(nil), unhex(tt.wire))
	}
	for wire, want := range map[string]error{
		"20 18 c8 81 00 38 8e 04 b6": ErrChecksum, "20 18 c9 81 00 38 8e 04 b5": ErrChecksum,
		"20 18 c8 81 00 38": ErrShort, "": ErrShort,
	} {
		if _, err := DecodeMessage(unhex(wire)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", wire, err, want)
		}
	}
	// §5.2: the response goes back with the next network function.
	got := messages[0].want.Response(0xc1, []byte{0}).Append(nil)
	again(t, got, unhex("81 1c 63 20 00 38 c1 e7"))
}

// TestRefused has packets that must not be accepted.
func TestRefused(t *testing.T) {
	tests := []struct {
		name, wire string
		want       error
	}{
		{"empty", "", ErrShort},
		{"IPMI 1.5 with a password", "04 00000000 00000000 00000000000000000000000000000000 00", ErrFormat},
		{"IPMI 1.5, longer than the datagram", "00 00000000 00000000 02 00", ErrFormat},
		{"IPMI 1.5, two bytes more", "00 00000000 00000000 00 0000", ErrFormat},
		{"RMCP+, cut", "06 00 00000000 00000000 01", ErrShort},
		{"RMCP+, longer than the datagram", "06 00 00000000 00000000 ffff 00", ErrShort},
		{"RMCP+, bytes after the payload", "06 00 00000000 00000000 0000 00", ErrFormat},
		{"OEM payload", "06 02 00000000 00000000 0000 0000 0000", ErrFormat},
	}
	for _, tt := range tests {
		if p, err := DecodePacket(unhex(tt.wire)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v, want %v", tt.name, p, err, tt.want)
		}
	}
	// The packet that crashed another server: its name is said to have more
	// bytes than there are, and their sum overflows a byte.
	rakp1 := append(make([]byte, 27), 0xff)
	for n := range 240 {
		if _, err := DecodeRAKP1(append(rakp1, make([]byte, n)...)); !errors.Is(err, ErrShort) {
			t.Errorf("RAKP 1 with %d of 255 bytes of a name: %v", n, err)
		}
	}
	for _, wire := range []string{"05 00 ff 07", "06 00 ff"} {
		if _, err := DecodeRMCP(unhex(wire)); err == nil {
			t.Errorf("RMCP %s was accepted", wire)
		}
	}
	for _, wire := range []string{"000011bf 80 00 00 00", "000011be 80 00 00 01", "000011be"} {
		if _, err := DecodeASF(unhex(wire)); err == nil {
			t.Errorf("ASF %s was accepted", wire)
		}
	}
}
