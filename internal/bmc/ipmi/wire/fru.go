package wire

// FRU is the inventory of a field replaceable unit ("Platform Management FRU
// Information Storage Definition", v1.0 revision 1.3).
type FRU struct {
	Chassis FRUChassis
	Board   FRUBoard
	Product FRUProduct
}

// FRUChassis is the chassis info area (§10).
type FRUChassis struct {
	Type         uint8 // SMBIOS chassis type (DSP0134 §7.4.1)
	Part, Serial string
}

// FRUBoard is the board info area (§11). Its date of manufacture is unspecified.
type FRUBoard struct {
	Manufacturer, Name, Serial, Part string
	Custom                           []string
}

// FRUProduct is the product info area (§12).
type FRUProduct struct {
	Manufacturer, Name, Part, Version, Serial, AssetTag string
	Custom                                              []string
}

const (
	fruVersion  = 0x01
	fruEnglish  = 0x00 // language code (§15)
	fruUnit     = 8    // lengths and offsets are multiples of it
	fruFieldEnd = 0xc1 // type/length byte of "no more fields"
	fruTextMax  = 63
)

// Append appends the inventory to dst: a common header and three areas. Texts
// are cut after 63 bytes.
func (f FRU) Append(dst []byte) []byte {
	areas := [][]byte{
		fruArea([]byte{f.Chassis.Type}, f.Chassis.Part, f.Chassis.Serial),
		fruArea([]byte{fruEnglish, 0, 0, 0}, append([]string{f.Board.Manufacturer, f.Board.Name, f.Board.Serial, f.Board.Part, ""}, f.Board.Custom...)...),
		fruArea([]byte{fruEnglish}, append([]string{f.Product.Manufacturer, f.Product.Name, f.Product.Part, f.Product.Version,
			f.Product.Serial, f.Product.AssetTag, ""}, f.Product.Custom...)...),
	}
	header := []byte{fruVersion, 0, 0, 0, 0, 0, 0}
	at := 1
	for i, a := range areas {
		header[2+i] = uint8(at)
		at += len(a) / fruUnit
	}
	dst = append(append(dst, header...), -sum(header))
	for _, a := range areas {
		dst = append(dst, a...)
	}
	return dst
}

// fruArea makes an area: version, length, what head says, texts, checksum.
func fruArea(head []byte, texts ...string) []byte {
	b := append([]byte{fruVersion, 0}, head...)
	for _, t := range texts {
		b = appendText(b, t)
	}
	b = append(b, fruFieldEnd)
	for (len(b)+1)%fruUnit != 0 {
		b = append(b, 0)
	}
	b[1] = uint8((len(b) + 1) / fruUnit)
	return append(b, -sum(b))
}

// appendText appends a type/length byte and 8-bit text (§13). A text of one
// byte gets a blank, because its type/length byte would end the fields.
func appendText(b []byte, t string) []byte {
	const latin1 = 0xc0
	if len(t) > fruTextMax {
		t = t[:fruTextMax]
	}
	switch len(t) {
	case 0:
		return append(b, 0)
	case 1:
		t += " "
	}
	return append(append(b, latin1|uint8(len(t))), t...)
}
