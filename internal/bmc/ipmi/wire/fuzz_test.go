package wire

import (
	"reflect"
	"testing"
)

// appender is every packet.
type appender interface{ Append([]byte) []byte }

// fuzz checks that decode panics at nothing, and that what it accepts can be
// written and is the same when it is read again. Reserved bits are ignored when
// they are read, so that the bytes may differ.
func fuzz[P appender](f *testing.F, typ PayloadType, decode func([]byte) (P, error)) {
	for _, tt := range recorded {
		for _, s := range []string{tt.open, tt.opened, tt.rakp1, tt.rakp2, tt.rakp3, tt.rakp4} {
			if b := unhex(s); PayloadType(b[5]) == typ {
				f.Add(b[16:])
			}
			f.Add(unhex(s)[4:])
		}
		f.Add(unhex(tt.request)[4:])
	}
	for _, m := range messages {
		f.Add(unhex(m.wire))
	}
	f.Add(unhex("000011be 80 2a 00 00"))
	f.Add(unhex("e0 c7 fb 0f 1f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err != nil {
			return
		}
		written := p.Append(nil)
		p2, err := decode(written)
		if err != nil {
			t.Fatalf("decoded % x\nwritten % x: %v", b, written, err)
		}
		if again := p2.Append(nil); !reflect.DeepEqual(again, written) {
			t.Errorf("decoded % x\nwritten % x\nwritten again % x", b, written, again)
		}
	})
}

func FuzzDecodeRMCP(f *testing.F)         { fuzz(f, 0, DecodeRMCP) }
func FuzzDecodeASF(f *testing.F)          { fuzz(f, 0, DecodeASF) }
func FuzzDecodePacket(f *testing.F)       { fuzz(f, 0, DecodePacket) }
func FuzzDecodeMessage(f *testing.F)      { fuzz(f, 0, DecodeMessage) }
func FuzzDecodeOpenRequest(f *testing.F)  { fuzz(f, PayloadOpenRequest, DecodeOpenRequest) }
func FuzzDecodeOpenResponse(f *testing.F) { fuzz(f, PayloadOpenResponse, DecodeOpenResponse) }
func FuzzDecodeRAKP1(f *testing.F)        { fuzz(f, PayloadRAKP1, DecodeRAKP1) }
func FuzzDecodeRAKP2(f *testing.F)        { fuzz(f, PayloadRAKP2, DecodeRAKP2) }
func FuzzDecodeRAKP3(f *testing.F)        { fuzz(f, PayloadRAKP3, DecodeRAKP3) }
func FuzzDecodeRAKP4(f *testing.F)        { fuzz(f, PayloadRAKP4, DecodeRAKP4) }
func FuzzDecodeSOL(f *testing.F)          { fuzz(f, PayloadSOL, DecodeSOL) }
func FuzzDecodeBootFlags(f *testing.F)    { fuzz(f, 0, DecodeBootFlags) }

// FuzzOpen: whatever comes in a session, opening it does not panic.
func FuzzOpen(f *testing.F) {
	for _, tt := range recorded {
		f.Add(unhex(tt.request)[4:], uint8(tt.suite))
	}
	f.Add(NewCipher(Suite3, nil).Seal(nil, 1, 1, PayloadIPMI, nil)[4:], uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, suite uint8) {
		s := Suite17
		if suite == 3 {
			s = Suite3
		}
		p, err := DecodePacket(b)
		if err != nil {
			return
		}
		c := NewCipher(s, nil)
		_, _ = c.Open(p)
		// As if the code were right: what it protects must not panic either.
		_, _ = c.decrypt(p.Payload)
	})
}
