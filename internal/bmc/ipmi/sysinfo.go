package ipmi

import (
	"context"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// info is a text that a client has set, as it was sent.
type info struct {
	Encoding uint8  `json:"encoding"` // table 22-16c: 0 ASCII and Latin-1, 1 UTF-8, 2 UCS-2
	Text     []byte `json:"text"`
}

// System info parameters (§22.14a, table 22-16c).
const (
	infoInProgress = 0
	infoFirmware   = 1 // version of the system's firmware
	infoSystemName = 2
	infoLast       = 7
	infoBlock      = 16
	infoFirst      = infoBlock - 2 // bytes of text in the first block
)

// infoMax is the longest text: its length has one byte.
const infoMax = 255

// infoOf returns a text. The system's name is the one that all protocols share.
func (s *Server) infoOf(param uint8) info {
	set, is := s.kept.Info[param]
	name := s.Machine.Settings().HostName
	if is && (param != infoSystemName || text(set.Text) == name) {
		return set
	}
	switch param {
	case infoSystemName:
		if name == "" {
			name = s.Machine.Identity.Name
		}
		return info{Text: []byte(name[:min(len(name), infoMax)])}
	case infoFirmware:
		// It answers from memory, or not at all: nobody may wait here.
		ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
		defer cancel()
		if i, err := s.Machine.Inventory(ctx); err == nil {
			return info{Text: []byte(i.FirmwareVersion[:min(len(i.FirmwareVersion), infoMax)])}
		}
	}
	return info{}
}

func getSystemInfo(s *Server, q *request, out []byte) (code, []byte) {
	const revision, revisionOnly = 0x11, 0x80
	d := q.message.Data
	out = append(out, revision)
	switch {
	case d[0]&revisionOnly != 0:
		return ok, out
	case d[1] > infoLast:
		return paramUnsupported, out[:1]
	case d[1] == infoInProgress:
		return ok, append(out, 0)
	}
	i, set := s.infoOf(d[1]), int(d[2])
	blocks := append([]byte{i.Encoding, uint8(len(i.Text))}, i.Text...)
	if set*infoBlock >= len(blocks) {
		return outOfRange, out[:1]
	}
	var block [infoBlock]byte
	copy(block[:], blocks[set*infoBlock:])
	return ok, append(append(out, d[2]), block[:]...)
}

// setSystemInfo keeps a text that comes in blocks of 16 bytes, of which the
// first says how long it is.
func setSystemInfo(s *Server, q *request, out []byte) (code, []byte) {
	param, d := q.message.Data[0], q.message.Data[1:]
	switch {
	case param > infoLast:
		return paramUnsupported, out
	case len(d) == 0 || param != infoInProgress && len(d) < 2:
		return invalidLength, out
	case param == infoInProgress:
		if d[0]&0x03 > 1 {
			return invalidField, out
		}
		return ok, out
	case len(d) > 1+infoBlock:
		return invalidLength, out
	}
	set, block := int(d[0]), d[1:]
	i := s.infoOf(param)
	if set == 0 {
		if len(block) < 2 || block[0]&0x0f > 2 {
			return invalidField, out
		}
		i = info{Encoding: block[0] & 0x0f, Text: make([]byte, block[1])}
		copy(i.Text, block[2:])
	} else {
		at := infoFirst + (set-1)*infoBlock
		if at >= len(i.Text) {
			return outOfRange, out
		}
		i.Text = append([]byte(nil), i.Text...)
		copy(i.Text[at:], block)
	}
	err := s.keep(func(k *kept) {
		if k.Info == nil {
			k.Info = make(map[uint8]info)
		}
		k.Info[param] = i
	})
	if err == nil && param == infoSystemName {
		err = s.Machine.ChangeSettings(func(m *machine.Settings) { m.HostName = text(i.Text) })
	}
	return codeFor(err), out
}

// text is b up to its first zero.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
