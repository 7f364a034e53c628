package ipmi_test

import (
	"errors"
	"net"
	"testing"
	"time"
)

// FuzzServer sends what the fuzzer makes up to a server: as it is, with a right
// RMCP header, as a message of a session, and as a well-formed command of a
// session. Nothing makes it panic, and what comes from outside of a session
// does not disturb it.
func FuzzServer(f *testing.F) {
	ping := []byte{0x06, 0, 0xff, 0x06, 0, 0, 0x11, 0xbe, 0x80, 0, 0, 0}
	f.Add(uint8(0), ping)
	f.Add(uint8(1), plain(0x10, openPayload(1, 4, 2, 3, 4, 1))[4:])
	f.Add(uint8(1), plain(0x12, make([]byte, 28))[4:])
	f.Add(uint8(1), plain(0x14, make([]byte, 28))[4:])
	f.Add(uint8(1), append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 9}, message(nil, 0x06, 0, 0x38, 0x8e, 4)...))
	f.Add(uint8(2), message(nil, 0x06, 0, 0x01))
	for _, cmd := range [][]byte{
		{0x06, 0x3b, 4}, {0x06, 0x3c, 1, 2, 3, 4}, {0x06, 0x3d, 0}, {0x06, 0x3d, 0xfe, 1}, {0x06, 0x44, 1, 2}, {0x06, 0x46, 2}, {0x06, 0x54, 0x0e, 0, 0x80},
		{0x00, 0x01}, {0x00, 0x02, 1}, {0x00, 0x04, 15, 1}, {0x00, 0x06, 3}, {0x00, 0x08, 0, 1}, {0x00, 0x08, 5, 0xe0, 4, 0, 0, 0}, {0x00, 0x09, 5, 0, 0},
		{0x0c, 0x02, 1, 3, 0, 0}, {0x0a, 0x23, 0, 0, 0, 0, 0, 0xff}, {0x06, 0x02}, {0x06, 0x03},
		{0x06, 0x24, 4, 0x21, 1, 0, 20, 0}, {0x06, 0x22}, {0x06, 0x40, 1, 0x42, 0x44}, {0x06, 0x43, 0x91, 3, 4}, {0x06, 0x47, 3, 2, 'a'}, {0x06, 0x45, 3, 'a', 'b'},
		{0x06, 0x48, 1, 1, 0xc0, 0, 0, 0}, {0x06, 0x49, 1, 1, 0, 0, 0, 0}, {0x06, 0x55, 1, 1, 0}, {0x06, 0x58, 2, 0, 0, 3, 'a', 'b', 'c'}, {0x06, 0x59, 0, 2, 0, 0},
		{0x04, 0x02, 4, 1, 1, 1, 0, 0, 0}, {0x04, 0x2d, 1}, {0x0a, 0x12, 0, 1, 0, 1, 2}, {0x0a, 0x11, 0, 0xf0, 1, 0xff}, {0x0a, 0x44, 0, 0, 2}, {0x0a, 0x46, 1, 0, 1, 0},
		{0x0c, 0x01, 1, 7, 1, 2, 3}, {0x0c, 0x21, 1, 3, 1, 1}, {0x2c, 0x08, 0xdc, 0, 2, 'a', 'b'}, {0x2c, 0x0a, 0xdc, 0, 2, 'a', 0}, {0x2c, 0x07, 0xdc, 1, 0x40, 0, 0},
	} {
		f.Add(uint8(3), cmd)
	}
	s := newServer(f, newTalker())
	s.ResetTime = 1
	addr := serve(f, s)
	stranger := mustDial(f, addr)
	f.Fuzz(func(t *testing.T, how uint8, b []byte) {
		if len(b) > 250 {
			b = b[:250]
		}
		bystander := login(t, addr)
		switch how % 4 {
		case 0:
			_, _ = stranger.conn.Write(b)
		case 1:
			_, _ = stranger.conn.Write(append([]byte{0x06, 0, 0xff, 0x07}, b...))
		case 2:
			inSession(t, addr, b)
		case 3:
			if len(b) < 2 {
				b = []byte{0x06, 0x01}
			}
			if err := bystander.logout(); err != nil { // the command may be a reset of the BMC
				t.Fatal(err)
			}
			inSession(t, addr, message(nil, b[0]&0x3e, 1, b[1], b[2:]...))
			bystander = login(t, addr)
		}
		must(t, bystander, 0x06, 0x01)
		if err := bystander.logout(); err != nil {
			t.Error(err)
		}
		if n := s.Panics(); n != 0 {
			t.Fatalf("%d panics", n)
		}
	})
}

// inSession sends a payload in a session of its own, and ends that.
func inSession(t *testing.T, addr *net.UDPAddr, payload []byte) {
	c := login(t, addr)
	c.seq++
	if _, err := c.conn.Write(c.seal(c.seq, payload)); err != nil {
		t.Fatal(err)
	}
	c.timeout = 20 * time.Millisecond
	_, _ = c.read()
	if _, err := c.exchange(c.request(0x06, 0x3c, le32(c.system)...)); err != nil && !errors.Is(err, errSilent) {
		t.Fatal(err)
	}
}
