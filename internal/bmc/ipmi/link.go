package ipmi

import (
	"net"
	"net/netip"
)

// peer is where a datagram came from. One of its fields is set.
type peer struct {
	udp   netip.AddrPort
	other net.Addr
}

// String returns the address and port.
func (p peer) String() string {
	if p.other != nil {
		return p.other.String()
	}
	return p.udp.String()
}

// addrPort is the address and port as IP knows them; the zero value if the
// transport is something else.
func (p peer) addrPort() netip.AddrPort {
	if p.other != nil {
		return addrOf(p.other)
	}
	return p.udp
}

// addrOf is the address and port of a, without IPv6 mapping.
func addrOf(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// link is a net.PacketConn that does not allocate memory for every datagram if
// it is a UDP socket.
type link struct {
	udp   *net.UDPConn // nil: any other
	other net.PacketConn
}

func newLink(conn net.PacketConn) link {
	if udp, ok := conn.(*net.UDPConn); ok {
		return link{udp: udp}
	}
	return link{other: conn}
}

func (l link) read(b []byte) (int, peer, error) {
	if l.udp != nil {
		n, from, err := l.udp.ReadFromUDPAddrPort(b)
		return n, peer{udp: from}, err
	}
	n, from, err := l.other.ReadFrom(b)
	return n, peer{other: from}, err
}

func (l link) write(b []byte, to peer) error {
	var err error
	if l.udp != nil {
		_, err = l.udp.WriteToUDPAddrPort(b, to.udp)
	} else {
		_, err = l.other.WriteTo(b, to.other)
	}
	return err
}
