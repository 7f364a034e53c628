package ipmi_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net"
	"time"
)

// client is a remote console, written from the specification for these tests. It
// shares no code with the server and package wire, so that a mistake in one is
// not made in the other.
type client struct {
	conn    net.Conn
	timeout time.Duration // 0 means 5 seconds
	suite   int           // 3 or 17
	bmcKey  string        // Kg; "": none
	role    byte          // whole byte of RAKP 1; 0 means 14h: administrator, by name only

	console, system uint32
	guid            []byte
	hash            func() hash.Hash
	icv             int
	k1              hash.Hash
	block           cipher.Block
	seq             uint32
	rq              byte
	aside           [][]byte // packets of Serial over LAN that came while something else was waited for
	buf             [1024]byte
	out             []byte
}

// errSilent: the server has not answered.
var errSilent = errors.New("no answer")

// statusError is a status of the session set-up other than 0.
type statusError byte

func (e statusError) Error() string { return fmt.Sprintf("status %02Xh", byte(e)) }

func dial(addr *net.UDPAddr) (*client, error) {
	conn, err := net.DialUDP("udp4", nil, addr)
	return &client{conn: conn, suite: 3}, err
}

// exchange sends a datagram and returns the next that comes.
func (c *client) exchange(b []byte) ([]byte, error) {
	if _, err := c.conn.Write(b); err != nil {
		return nil, err
	}
	return c.read()
}

func (c *client) read() ([]byte, error) {
	timeout := c.timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	n, err := c.conn.Read(c.buf[:])
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return nil, errSilent
	}
	return c.buf[:n], err
}

func (c *client) mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(c.hash, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// plain wraps a payload in an RMCP+ packet outside of a session.
func plain(typ byte, payload []byte) []byte {
	b := []byte{0x06, 0x00, 0xff, 0x07, 0x06, typ, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(payload)), byte(len(payload) >> 8)}
	return append(b, payload...)
}

// openPayload is an Open Session Request with these algorithms.
func openPayload(tag, privilege byte, console uint32, auth, integrity, conf byte) []byte {
	b := append([]byte{tag, privilege, 0, 0}, le32(console)...)
	return append(b, 0, 0, 0, 8, auth, 0, 0, 0, 1, 0, 0, 8, integrity, 0, 0, 0, 2, 0, 0, 8, conf, 0, 0, 0)
}

// open sends an Open Session Request and keeps what comes back.
func (c *client) open() error {
	auth, integrity := byte(1), byte(1)
	c.hash, c.icv = sha1.New, 12
	if c.suite == 17 {
		auth, integrity, c.hash, c.icv = 3, 4, sha256.New, 16
	}
	c.console = 0xa0a1a2a3
	r, err := c.exchange(plain(0x10, openPayload(7, 0, c.console, auth, integrity, 1)))
	if err != nil {
		return err
	}
	if len(r) < 16+8 || r[5] != 0x11 || r[16] != 7 {
		return fmt.Errorf("open session response % x", r)
	}
	if r[17] != 0 {
		return statusError(r[17])
	}
	if len(r) != 16+36 || binary.LittleEndian.Uint32(r[20:]) != c.console || r[32] != auth || r[40] != integrity || r[48] != 1 {
		return fmt.Errorf("open session response % x", r)
	}
	c.system = binary.LittleEndian.Uint32(r[24:])
	return nil
}

// login sets up a session.
func (c *client) login(user, password string) error {
	if err := c.open(); err != nil {
		return err
	}
	return c.authenticate(user, password)
}

func (c *client) authenticate(user, password string) error {
	if c.role == 0 {
		c.role = 0x14
	}
	var rm [16]byte
	_, _ = rand.Read(rm[:])
	who := append([]byte{c.role, byte(len(user))}, user...)
	rakp1 := append([]byte{8, 0, 0, 0}, le32(c.system)...)
	rakp1 = append(append(rakp1, rm[:]...), c.role, 0, 0, byte(len(user)))
	r, err := c.exchange(plain(0x12, append(rakp1, user...)))
	if err != nil {
		return err
	}
	if len(r) < 24 || r[5] != 0x13 || r[16] != 8 {
		return fmt.Errorf("RAKP 2 % x", r)
	}
	if r[17] != 0 {
		return statusError(r[17])
	}
	rc, guid, code := bytes.Clone(r[24:40]), bytes.Clone(r[40:56]), r[56:]
	key := []byte(password)
	want := c.mac(key, le32(c.console), le32(c.system), rm[:], rc, guid, who)
	right := bytes.Equal(code, want)
	c.guid = guid

	rakp3 := append([]byte{9, 0, 0, 0}, le32(c.system)...)
	rakp3 = append(rakp3, c.mac(key, rc, le32(c.console), who)...)
	r, err = c.exchange(plain(0x14, rakp3))
	if err != nil {
		return err
	}
	if len(r) < 24 || r[5] != 0x15 || r[16] != 9 {
		return fmt.Errorf("RAKP 4 % x", r)
	}
	if r[17] != 0 {
		return statusError(r[17])
	}
	if c.bmcKey != "" {
		key = []byte(c.bmcKey)
	}
	sik := c.mac(key, rm[:], rc, who)
	if !right || !bytes.Equal(r[24:], c.mac(sik, rm[:], le32(c.system), guid)[:c.icv]) {
		return errors.New("the BMC does not prove that it knows the password")
	}
	c.k1 = hmac.New(c.hash, c.mac(sik, bytes.Repeat([]byte{1}, 20)))
	c.block, err = aes.NewCipher(c.mac(sik, bytes.Repeat([]byte{2}, 20))[:16])
	c.seq, c.rq = 0, 0
	return err
}

func checksum(b []byte) byte {
	var s byte
	for _, x := range b {
		s -= x
	}
	return s
}

// message is an IPMI request from 81h to the BMC.
func message(b []byte, netFn, rq, cmd byte, data ...byte) []byte {
	b = append(b, 0x20, netFn<<2)
	b = append(b, checksum(b[len(b)-2:]), 0x81, rq<<2, cmd)
	b = append(b, data...)
	return append(b, checksum(b[len(b)-3-len(data):]))
}

// seal makes a packet of the session that carries an IPMI message.
func (c *client) seal(seq uint32, payload []byte) []byte { return c.sealType(seq, 0, payload) }

// sealType makes a packet of the session that carries payload.
func (c *client) sealType(seq uint32, typ byte, payload []byte) []byte {
	n := len(payload)
	pad := (16 - (n+1)%16) % 16
	total := 16 + n + pad + 1
	b := append(c.out[:0], 0x06, 0x00, 0xff, 0x07, 0x06, 0xc0|typ)
	b = binary.LittleEndian.AppendUint32(b, c.system)
	b = binary.LittleEndian.AppendUint32(b, seq)
	b = append(b, byte(total), byte(total>>8))
	iv := len(b)
	b = append(b, make([]byte, 16)...)
	_, _ = rand.Read(b[iv:])
	b = append(b, payload...)
	for i := 1; i <= pad; i++ {
		b = append(b, byte(i))
	}
	b = append(b, byte(pad))
	cipher.NewCBCEncrypter(c.block, b[iv:iv+16]).CryptBlocks(b[iv+16:], b[iv+16:])
	for pad = 0; (len(b)-4+2)%4 != 0; pad++ {
		b = append(b, 0xff)
	}
	b = append(b, byte(pad), 0x07)
	c.k1.Reset()
	c.k1.Write(b[4:])
	c.out = b
	return append(b, c.k1.Sum(nil)[:c.icv]...)
}

// unsealType returns the payload in a packet of the session, and its type.
func (c *client) unsealType(r []byte) (typ byte, payload []byte, err error) {
	if len(r) < 16+32+2+c.icv || r[4] != 6 || r[5]&0xc0 != 0xc0 || binary.LittleEndian.Uint32(r[6:]) != c.console {
		return 0, nil, fmt.Errorf("packet % x", r)
	}
	end := len(r) - c.icv
	c.k1.Reset()
	c.k1.Write(r[4:end])
	n := int(binary.LittleEndian.Uint16(r[14:]))
	if !bytes.Equal(c.k1.Sum(nil)[:c.icv], r[end:]) || (end-4)%4 != 0 || r[end-1] != 7 || 16+n+int(r[end-2])+2 != end {
		return 0, nil, fmt.Errorf("trailer of % x", r)
	}
	p := r[32 : 16+n]
	cipher.NewCBCDecrypter(c.block, r[16:32]).CryptBlocks(p, p)
	pad := int(p[len(p)-1])
	for i := range pad {
		if p[len(p)-1-pad+i] != byte(i+1) {
			return 0, nil, fmt.Errorf("confidentiality pad of % x", p)
		}
	}
	return r[5] & 0x3f, p[:len(p)-1-pad], nil
}

// unseal returns the IPMI response in a packet of the session: command,
// completion code and data.
func (c *client) unseal(r []byte) (rq, cmd, code byte, data []byte, err error) {
	typ, p, err := c.unsealType(r)
	if err != nil {
		return 0, 0, 0, nil, err
	}
	if typ != 0 || len(p) < 8 || p[0] != 0x81 || p[3] != 0x20 || checksum(p[:2]) != p[2] || checksum(p[3:len(p)-1]) != p[len(p)-1] {
		return 0, 0, 0, nil, fmt.Errorf("type %d, message % x", typ, p)
	}
	return p[4] >> 2, p[5], p[6], p[7 : len(p)-1], nil
}

// request makes the next packet of the session.
func (c *client) request(netFn, cmd byte, data ...byte) []byte {
	c.seq++
	c.rq = (c.rq + 1) & 0x3f
	var b [300]byte
	return c.seal(c.seq, message(b[:0], netFn, c.rq, cmd, data...))
}

// do sends a command in the session and returns its completion code and data.
func (c *client) do(netFn, cmd byte, data ...byte) (byte, []byte, error) {
	r, err := c.exchange(c.request(netFn, cmd, data...))
	for err == nil && len(r) > 5 && r[5]&0x3f == 1 {
		c.aside = append(c.aside, bytes.Clone(r))
		r, err = c.read()
	}
	if err != nil {
		return 0, nil, err
	}
	rq, rcmd, code, out, err := c.unseal(r)
	if err == nil && (rq != c.rq || rcmd != cmd) {
		err = fmt.Errorf("answer to request %d, command %#x; want %d, %#x", rq, rcmd, c.rq, cmd)
	}
	return code, out, err
}

// logout closes the session.
func (c *client) logout() error {
	code, _, err := c.do(0x06, 0x3c, le32(c.system)...)
	if err == nil && code != 0 {
		err = fmt.Errorf("close session: %02Xh", code)
	}
	return err
}

// session does what "ipmitool power status" does, in seven round trips.
func (c *client) session(user, password string) error {
	auth := append([]byte{0x06, 0, 0xff, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}, message(nil, 0x06, 0, 0x38, 0x8e, 4)...)
	if _, err := c.exchange(auth); err != nil {
		return err
	}
	if err := c.login(user, password); err != nil {
		return err
	}
	if code, _, err := c.do(0x06, 0x3b, 4); code != 0 || err != nil {
		return fmt.Errorf("set session privilege: %02Xh, %w", code, err)
	}
	if code, _, err := c.do(0x00, 0x01); code != 0 || err != nil {
		return fmt.Errorf("chassis status: %02Xh, %w", code, err)
	}
	return c.logout()
}

// solPacket is a packet of Serial over LAN (table 15-2).
type solPacket struct {
	seq, ack, accepted, flags byte
	data                      string
}

// sendSOL sends a packet of Serial over LAN.
func (c *client) sendSOL(p solPacket) error {
	c.seq++
	_, err := c.conn.Write(c.sealType(c.seq, 1, append([]byte{p.seq, p.ack, p.accepted, p.flags}, p.data...)))
	return err
}

// readSOL returns the next packet of Serial over LAN.
func (c *client) readSOL() (solPacket, error) {
	var r []byte
	var err error
	if len(c.aside) > 0 {
		r, c.aside = c.aside[0], c.aside[1:]
	} else if r, err = c.read(); err != nil {
		return solPacket{}, err
	}
	typ, p, err := c.unsealType(r)
	if err != nil {
		return solPacket{}, err
	}
	if typ != 1 || len(p) < 4 {
		return solPacket{}, fmt.Errorf("payload type %d: % x", typ, p)
	}
	return solPacket{p[0], p[1], p[2], p[3], string(p[4:])}, nil
}
