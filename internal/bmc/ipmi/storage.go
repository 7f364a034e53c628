package ipmi

import "encoding/binary"

// locator is the only sensor data record: the BMC itself. There are no sensors,
// but a repository without any record is taken for a broken one by ipmitool and
// FreeIPMI.
var locator = [...]uint8{
	0x01, 0x00, // record ID
	repositoryVersion,
	0x12, // Management Controller Device Locator (§43.9)
	14,   // bytes that follow
	0x20, // slave address
	0x00, // channel 0
	0x00, // always powered; no initialisation
	deviceSupport,
	0, 0, 0, // reserved
	0x06, 0x01, // entity: system management module 1 (§43.14)
	0x00,     // OEM
	0xc0 | 3, // 8-bit ASCII, 3 bytes (§43.15)
	'B', 'M', 'C',
}

// repositoryVersion is the version of the SDR and SEL commands (§33.9, §31.2).
const repositoryVersion = 0x51

// lastRecord is the ID of the record after the last.
const lastRecord = 0xffff

// appendInfo appends the answer of a repository with n records that has no room
// for more and never changes (§33.9, §31.2).
func appendInfo(out []byte, n uint16) []byte {
	const reserveSupported = 0x02
	out = append(out, repositoryVersion)
	out = binary.LittleEndian.AppendUint16(out, n)
	out = append(out, 0, 0,
		0, 0, 0, 0, // time of the last addition
		0, 0, 0, 0) // time of the last deletion
	return append(out, reserveSupported)
}

func getSDRInfo(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, appendInfo(out, 1)
}

func getSELInfo(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, appendInfo(out, 0)
}

// reserve gives a reservation, which nothing ever cancels.
func reserve(_ *Server, _ *request, out []byte) (code, []byte) {
	return ok, append(out, 1, 0)
}

func getSDR(_ *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	record, offset, count := binary.LittleEndian.Uint16(d[2:]), int(d[4]), int(d[5])
	if record > 1 && record != lastRecord { // 0 is the first, FFFFh the last
		return notPresent, out
	}
	if offset > len(locator) {
		return outOfRange, out
	}
	end := min(offset+count, len(locator)) // FFh: all of it
	return ok, append(binary.LittleEndian.AppendUint16(out, lastRecord), locator[offset:end]...)
}

func getSELEntry(_ *Server, _ *request, out []byte) (code, []byte) { return notPresent, out }
