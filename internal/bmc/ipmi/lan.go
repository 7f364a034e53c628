package ipmi

// getLAN answers what a BMC behind a socket knows of its LAN (§23.2, table
// 23-4): not its MAC address, netmask or gateway.
func getLAN(s *Server, q *request, out []byte) (code, []byte) {
	const (
		revision     = 0x11
		revisionOnly = 0x80 // in the request
		static       = 0x01 // where the address comes from

		inProgress      = 0
		authTypes       = 1
		authTypeEnables = 2
		ipAddress       = 3
		addressSource   = 4
		suiteCount      = 22
		suiteEntries    = 23
		suitePrivileges = 24
	)
	d := q.message.Data
	if _, found := channelOf(d[0]); !found {
		return invalidField, out
	}
	out = append(out, revision)
	if d[0]&revisionOnly != 0 {
		return ok, out
	}
	switch d[1] {
	case inProgress, authTypes: // complete; none but RMCP+
		return ok, append(out, 0)
	case authTypeEnables:
		return ok, append(out, 0, 0, 0, 0, 0)
	case ipAddress:
		var ip [4]byte // an IPv6 address has no place here
		if s.address.Is4() {
			ip = s.address.As4()
		}
		return ok, append(out, ip[:]...)
	case addressSource:
		return ok, append(out, static)
	case suiteCount:
		return ok, append(out, uint8(len(suites)))
	case suiteEntries:
		out = append(out, 0)
		for _, suite := range suites {
			out = append(out, uint8(suite))
		}
		return ok, out
	case suitePrivileges: // a half byte for each suite: administrator
		entries := make([]byte, 9)
		for i := range suites {
			entries[1+i/2] |= uint8(administrator) << (4 * (i % 2))
		}
		return ok, append(out, entries...)
	}
	return paramUnsupported, out[:1]
}
