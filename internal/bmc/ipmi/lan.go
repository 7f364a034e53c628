package ipmi

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// LAN configuration parameters (§23.2, table 23-4).
const (
	lanInProgress      = 0
	lanAuthTypes       = 1
	lanAuthEnables     = 2
	lanAddress         = 3
	lanAddressSource   = 4
	lanMAC             = 5
	lanNetmask         = 6
	lanHeader          = 7
	lanPort            = 8
	lanARP             = 10
	lanARPInterval     = 11
	lanGateway         = 12
	lanGatewayMAC      = 13
	lanBackup          = 14
	lanBackupMAC       = 15
	lanCommunity       = 16
	lanDestinations    = 17
	lanVLAN            = 20
	lanVLANPriority    = 21
	lanSuiteCount      = 22
	lanSuites          = 23
	lanSuitePrivileges = 24
	lanBadPasswords    = 26
)

// lanKept tells whether a parameter may be set, and what it is before. They have
// no effect: nothing here sends ARP packets or traps.
func lanKept(param uint8) (usual []byte, may bool) {
	switch param {
	case lanAuthEnables:
		return make([]byte, 5), true
	case lanHeader:
		return []byte{0x40, 0x40, 0x10}, true // time to live 64, don't fragment, minimal delay
	case lanARP, lanVLANPriority:
		return []byte{0}, true
	case lanARPInterval:
		return []byte{0}, true
	case lanCommunity:
		return slices.Concat([]byte("public"), make([]byte, 12)), true
	}
	return nil, false
}

// lanValue is the value of a parameter; nil if there is no such parameter.
func (s *Server) lanValue(param uint8) []byte {
	const static = 0x01 // where the address comes from
	if usual, may := lanKept(param); may {
		if set, is := s.kept.LAN[param]; is {
			return set
		}
		return usual
	}
	switch param {
	case lanInProgress, lanAuthTypes, lanDestinations: // complete; none but RMCP+; none
		return []byte{0}
	case lanAddress:
		return ip4(s.address)
	case lanAddressSource:
		return []byte{static}
	case lanMAC:
		mac, _ := s.network()
		return mac
	case lanNetmask:
		_, bits := s.network()
		return net.CIDRMask(bits, 32)
	case lanPort:
		return binary.LittleEndian.AppendUint16(nil, s.port)
	case lanGateway, lanBackup: // not known to a socket
		return make([]byte, 4)
	case lanGatewayMAC, lanBackupMAC:
		return make([]byte, 6)
	case lanVLAN: // off
		return make([]byte, 2)
	case lanSuiteCount:
		return []byte{uint8(len(suites))}
	case lanSuites:
		list := []byte{0}
		for _, suite := range suites {
			list = append(list, uint8(suite))
		}
		return list
	case lanSuitePrivileges: // a half byte for each suite
		entries := make([]byte, 9)
		for i := range suites {
			entries[1+i/2] |= uint8(administrator) << (4 * (i % 2))
		}
		return entries
	case lanBadPasswords: // users are never disabled
		return make([]byte, 6)
	}
	return nil
}

// ip4 is the four bytes of an address; zeros for IPv6, which has no place here.
func ip4(a netip.Addr) []byte {
	if !a.Is4() {
		return make([]byte, 4)
	}
	return a.AsSlice()
}

// network returns the MAC address of the interface that has the BMC's address,
// and the length of its network's prefix. Where that interface has none, as the
// loopback interface, the BMC has one that is made of the machine's UUID and
// locally administered; where no interface has the address, the prefix is 32.
func (s *Server) network() (mac []byte, bits int) {
	sum := sha256.Sum256(s.guid[:])
	mac, bits = sum[:6], 32
	mac[0] = mac[0]&^0x03 | 0x02
	all, err := net.Interfaces()
	if err != nil {
		return mac, bits
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || !p.Addr().Is4() || !p.Contains(s.address) {
				continue
			}
			// All of a loopback network is the host's.
			if p.Addr() != s.address && !s.address.IsLoopback() {
				continue
			}
			if len(i.HardwareAddr) == len(mac) && !bytes.Equal(i.HardwareAddr, make([]byte, len(mac))) {
				mac = i.HardwareAddr
			}
			return mac, p.Bits()
		}
	}
	return mac, bits
}

func getLAN(s *Server, q *request, out []byte) (code, []byte) {
	const revision, revisionOnly = 0x11, 0x80
	d := q.message.Data
	if _, found := channelOf(d[0]); !found {
		return invalidField, out
	}
	out = append(out, revision)
	if d[0]&revisionOnly != 0 {
		return ok, out
	}
	value := s.lanValue(d[1])
	if value == nil {
		return paramUnsupported, out[:1]
	}
	return ok, append(out, value...)
}

// setLAN keeps what has no effect. The addresses are the cluster file's: they
// can be "set" to what they are.
func setLAN(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	if _, found := channelOf(d[0]); !found {
		return invalidField, out
	}
	param, d := d[1], d[2:]
	value := s.lanValue(param)
	_, may := lanKept(param)
	switch {
	case value == nil:
		return paramUnsupported, out
	case param == lanInProgress:
		if d[0]&0x03 > 1 { // commit write: nothing is kept back
			return invalidField, out
		}
		return ok, out
	case len(d) != len(value):
		return invalidLength, out
	case bytes.Equal(d, value):
		return ok, out
	case !may:
		return paramReadOnly, out
	}
	set := bytes.Clone(d)
	return codeFor(s.keep(func(k *kept) {
		if k.LAN == nil {
			k.LAN = make(map[uint8][]byte)
		}
		k.LAN[param] = set
	})), out
}
