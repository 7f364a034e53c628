package wire

// Bits of [SOL].Flags in packets to the BMC: operations (§15.9, table 15-2).
const (
	SOLBreak         uint8 = 0x10 // generate a break
	SOLPauseCTS      uint8 = 0x08
	SOLDropDCD       uint8 = 0x04
	SOLFlushInbound  uint8 = 0x02 // forget what was typed and has not reached the machine
	SOLFlushOutbound uint8 = 0x01 // forget what the machine said and was not sent
)

// Bits of [SOL].Flags in packets from the BMC: status (§15.9, table 15-2).
const (
	SOLUnavailable uint8 = 0x20 // characters cannot be transferred: the machine is off
	SOLDeactivated uint8 = 0x10 // SOL is being deactivated
	SOLOverrun     uint8 = 0x08 // characters were lost before this packet
)

// SOLNack is the bit of [SOL].Flags that says, in both directions, that not all
// characters were accepted.
const SOLNack uint8 = 0x40

// SOL is a packet of Serial over LAN (§15.9, table 15-2).
type SOL struct {
	Sequence uint8 // 1 to 15; 0: nothing but an acknowledgement
	Ack      uint8 // the Sequence that is acknowledged; 0: none
	Accepted uint8 // how many characters of that packet were accepted
	Flags    uint8 // operations to the BMC, status from it
	Data     []byte
}

// SOLHeaderLen is the length of a packet without characters.
const SOLHeaderLen = 4

// DecodeSOL decodes the payload of a packet of Serial over LAN. Data refers to b.
func DecodeSOL(b []byte) (SOL, error) {
	if len(b) < SOLHeaderLen {
		return SOL{}, ErrShort
	}
	return SOL{Sequence: b[0] & 0x0f, Ack: b[1] & 0x0f, Accepted: b[2], Flags: b[3], Data: b[SOLHeaderLen:]}, nil
}

// Append appends the payload to dst.
func (p SOL) Append(dst []byte) []byte {
	dst = append(dst, p.Sequence&0x0f, p.Ack&0x0f, p.Accepted, p.Flags)
	return append(dst, p.Data...)
}
