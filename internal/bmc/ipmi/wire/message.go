package wire

// Network functions of requests; a response has the next odd number (§5.1).
const (
	NetFnChassis   uint8 = 0x00
	NetFnSensor    uint8 = 0x04
	NetFnApp       uint8 = 0x06
	NetFnStorage   uint8 = 0x0a
	NetFnTransport uint8 = 0x0c
	NetFnGroup     uint8 = 0x2c // the first byte of the data says whose: GroupDCMI
)

// GroupDCMI is the first byte of the data of DCMI's commands ("Data Center
// Manageability Interface Specification", v1.5, §6).
const GroupDCMI uint8 = 0xdc

// AddressBMC is the address of a BMC (§5.5).
const AddressBMC uint8 = 0x20

// Message is an IPMI message in a LAN packet, a request or a response (§13.8,
// figure 13-4).
type Message struct {
	To       uint8 // address of the receiver
	NetFn    uint8 // even: a request
	ToLUN    uint8
	From     uint8 // address of the sender; a remote console has 81h
	Sequence uint8 // rqSeq, 6 bits; the response repeats it
	FromLUN  uint8
	Command  uint8
	Data     []byte // of a response: first the completion code
}

const messageLen = 7 // of a message without data

// DecodeMessage decodes an IPMI message. b must hold one message and nothing
// else; Data refers to b. Errors wrap [ErrShort] or [ErrChecksum].
func DecodeMessage(b []byte) (Message, error) {
	if len(b) < messageLen {
		return Message{}, ErrShort
	}
	last := len(b) - 1
	if sum(b[:3]) != 0 || sum(b[3:]) != 0 {
		return Message{}, ErrChecksum
	}
	return Message{
		To: b[0], NetFn: b[1] >> 2, ToLUN: b[1] & 3,
		From: b[3], Sequence: b[4] >> 2, FromLUN: b[4] & 3,
		Command: b[5],
		Data:    b[6:last:last],
	}, nil
}

// Append appends the message to dst.
func (m Message) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, m.To, m.NetFn<<2|m.ToLUN&3)
	dst = append(dst, -sum(dst[start:]))
	dst = append(dst, m.From, m.Sequence<<2|m.FromLUN&3, m.Command)
	dst = append(dst, m.Data...)
	return append(dst, -sum(dst[start+3:]))
}

// Response is the message that answers m with a completion code and data.
// data[0] is kept free for the code.
func (m Message) Response(code uint8, data []byte) Message {
	data[0] = code
	return Message{
		To: m.From, NetFn: m.NetFn | 1, ToLUN: m.FromLUN,
		From: m.To, Sequence: m.Sequence, FromLUN: m.ToLUN,
		Command: m.Command, Data: data,
	}
}

// sum adds bytes modulo 256; that of bytes and their checksum is 0 (§13.8).
func sum(b []byte) uint8 {
	var s uint8
	for _, c := range b {
		s += c
	}
	return s
}
