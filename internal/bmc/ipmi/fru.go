package ipmi

import (
	"encoding/binary"
	"slices"

	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
)

const (
	fruDevice = 0   // the only FRU
	fruSize   = 512 // bytes of its memory
	fruKey    = "ipmi.fru"
)

// fru is the memory of the FRU: what a client has written, or what the machine
// says of itself.
func (s *Server) fru() ([]byte, error) {
	var written []byte
	there, err := s.Machine.Recall(fruKey, &written)
	if err != nil {
		return nil, err
	}
	if there && len(written) == fruSize {
		return written, nil
	}
	const rackMount = 0x17
	id := s.Machine.Identity
	b := wire.FRU{
		Chassis: wire.FRUChassis{Type: rackMount, Part: "Tenks", Serial: id.Serial},
		Board:   wire.FRUBoard{Manufacturer: "Tenks", Name: "Node", Serial: id.Serial},
		Product: wire.FRUProduct{
			Manufacturer: "Tenks", Name: "Node", Version: "1", Serial: id.Serial, AssetTag: s.Machine.Settings().AssetTag,
			Custom: []string{"UUID " + id.UUID, "Name " + id.Name},
		},
	}.Append(make([]byte, 0, fruSize))
	return append(b, make([]byte, fruSize-len(b))...), nil
}

func getFRUInfo(_ *Server, q *request, out []byte) (code, []byte) {
	const byBytes = 0x00
	if q.message.Data[0] != fruDevice {
		return notPresent, out
	}
	return ok, append(binary.LittleEndian.AppendUint16(out, fruSize), byBytes)
}

func readFRU(s *Server, q *request, out []byte) (code, []byte) {
	const most = 200 // bytes at a time, so that the response is not too long for anybody
	d := q.message.Data
	offset, count := int(binary.LittleEndian.Uint16(d[1:])), min(int(d[3]), most)
	switch {
	case d[0] != fruDevice:
		return notPresent, out
	case offset >= fruSize:
		return outOfRange, out
	}
	memory, err := s.fru()
	if err != nil {
		return codeFor(err), out
	}
	end := min(offset+count, fruSize)
	return ok, append(append(out, uint8(end-offset)), memory[offset:end]...)
}

func writeFRU(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	offset, data := int(binary.LittleEndian.Uint16(d[1:])), d[3:]
	switch {
	case d[0] != fruDevice:
		return notPresent, out
	case offset+len(data) > fruSize:
		return outOfRange, out
	}
	memory, err := s.fru()
	if err != nil {
		return codeFor(err), out
	}
	changed := slices.Clone(memory)
	copy(changed[offset:], data)
	if !slices.Equal(changed, memory) {
		if err := s.Machine.Remember(fruKey, changed); err != nil {
			return codeFor(err), out
		}
	}
	return ok, append(out, uint8(len(data)))
}
