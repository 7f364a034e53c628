package wire

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

// TestSOL has packets byte by byte (§15.9, table 15-2).
func TestSOL(t *testing.T) {
	for _, tt := range []struct {
		p    SOL
		wire string
	}{
		{SOL{Sequence: 3, Data: []byte("ls\r")}, "03 00 00 00 6c730d"},
		{SOL{Ack: 3, Accepted: 3, Data: []byte{}}, "00 03 03 00"},
		{SOL{Ack: 15, Accepted: 1, Flags: SOLNack | SOLUnavailable, Data: []byte{}}, "00 0f 01 60"},
	} {
		if got := tt.p.Append(nil); !bytes.Equal(got, unhex(tt.wire)) {
			t.Errorf("%+v is % x, want %s", tt.p, got, tt.wire)
		}
		if got, err := DecodeSOL(unhex(tt.wire)); err != nil || !reflect.DeepEqual(got, tt.p) {
			t.Errorf("%s is %+v, %v", tt.wire, got, err)
		}
	}
	if _, err := DecodeSOL(make([]byte, 3)); err == nil {
		t.Error("a packet of 3 bytes is accepted")
	}
}

// TestFullSensor has a record byte by byte (§43.1, table 43-1).
func TestFullSensor(t *testing.T) {
	r := FullSensor{
		Record: 7, Number: 6, Entity: 7, EntityInstance: 1, Type: 2, Reading: ReadingThreshold, Unit: 4, Name: "12V",
		Scale:  Scale{M: 10, Exponent: -2},
		Limits: [6]uint8{112, 108, 0, 129, 133, 0}, LimitMask: 0x1b,
	}
	want := unhex("0700 51 01 2e" + // header: 46 bytes follow
		"20 00 06" + // owner, LUN, number
		"07 01 41 47 02 01" + // entity, initialization, capabilities, type
		"0030 0030 1b00" + // comparisons of lower and upper limits; readable, settable
		"00 04 00 00" + // unsigned; volts; linear
		"0a 00 00 00 00 e0" + // M 10, exponent -2
		"00 000000 ff 00" + // nominal and normal; range
		"00 85 81 00 6c 70" + // limits from above
		"00 00 0000 00 c3 313256")
	if got := r.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("record\n% x, want\n% x", got, want)
	}
	if v := r.Scale.Value(121); math.Abs(v-12.1) > 1e-9 {
		t.Errorf("raw 121 is %v", v)
	}
	if r.Scale.Raw(12.14) != 121 || r.Scale.Raw(-5) != 0 || r.Scale.Raw(99) != 255 || !r.Scale.Exact(11.2) || r.Scale.Exact(11.25) {
		t.Error("values do not become the nearest readings")
	}
}

// TestFRU has an inventory byte by byte.
func TestFRU(t *testing.T) {
	got := FRU{
		Chassis: FRUChassis{Type: 0x17, Serial: "S1"},
		Board:   FRUBoard{Manufacturer: "T", Name: "N2", Custom: []string{"x1"}},
		Product: FRUProduct{Manufacturer: "TT", AssetTag: "A1"},
	}.Append(nil)
	want := unhex("01 00 01 03 06 00 00 f5" +
		"01 02 17 00 c2 5331 c1 00000000 00000000" + // to 16 bytes
		"01 03 00 000000 c2 5420 c2 4e32 00 00 00 c2 7831 c1 00 00 00 00 00" +
		"01 02 00 c2 5454 00 00 00 00 c2 4131 00 c1 00")
	if len(got) != 8+16+24+16 {
		t.Fatalf("%d bytes: % x", len(got), got)
	}
	for _, area := range [][2]int{{0, 8}, {8, 24}, {24, 48}, {48, 64}} {
		if sum(got[area[0]:area[1]]) != 0 {
			t.Errorf("the checksum of bytes %d to %d is wrong", area[0], area[1])
		}
	}
	got[23], got[47], got[63] = 0, 0, 0 // checksums, checked above
	if !bytes.Equal(got[:7], want[:7]) || !bytes.Equal(got[8:24], want[8:24]) || !bytes.Equal(got[24:48], want[24:48]) || !bytes.Equal(got[48:], want[48:]) {
		t.Errorf("got\n% x, want\n% x", got, want)
	}
}
