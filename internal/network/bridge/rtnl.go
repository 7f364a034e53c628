package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// conn is a socket to the kernel's link tables (rtnetlink(7)). The library has
// no way to send several requests at once, and that is what makes a link and
// its mark one thing: the kernel carries out all requests of a message within
// the one system call that sends it, and a process that is killed meanwhile
// dies after it.
type conn struct {
	fd  int
	seq uint32
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
	)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &conn{fd: fd}, nil
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// batchMax is how many requests are sent at once: their answers must fit into
// the socket's receive buffer (212,992 bytes unless somebody has changed it).
const batchMax = 64

// do sends requests in one message, waits for all answers and returns the
// first error. A request is carried out even if one before it has failed.
func (c *conn) do(requests ...*nl.NetlinkRequest) error {
	first := c.seq + 1
	var out []byte
	for _, r := range requests {
		c.seq++
		r.Seq = c.seq
		r.Flags |= unix.NLM_F_REQUEST | unix.NLM_F_ACK
		out = append(out, r.Serialize()...)
		for len(out)%unix.NLMSG_ALIGNTO != 0 {
			out = append(out, 0)
		}
	}
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("netlink send", err)
	}
	errs := make([]error, len(requests))
	buf := make([]byte, 16<<10)
	for waiting := len(requests); waiting > 0; {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("netlink receive", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("netlink receive: %w", err)
		}
		for _, m := range messages {
			i := m.Header.Seq - first
			if m.Header.Type != unix.NLMSG_ERROR || i >= uint32(len(requests)) {
				continue
			}
			errs[i] = answer(m)
			waiting--
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// doMany is do for more requests than one message should hold.
func (c *conn) doMany(requests []*nl.NetlinkRequest) error {
	for len(requests) > 0 {
		n := min(len(requests), batchMax)
		if err := c.do(requests[:n]...); err != nil {
			return err
		}
		requests = requests[n:]
	}
	return nil
}

// answer is the error of an answer, with the kernel's own words where it has
// some (extended acknowledgement, linux/netlink.h).
func answer(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4+unix.NLMSG_HDRLEN {
		return errors.New("netlink: short answer")
	}
	code := int32(binary.NativeEndian.Uint32(m.Data))
	if code == 0 {
		return nil
	}
	err := error(unix.Errno(-code))
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	attrs, broken := nl.ParseRouteAttrAsMap(m.Data[4+unix.NLMSG_HDRLEN:])
	if text, ok := attrs[unix.NLMSGERR_ATTR_MSG]; broken == nil && ok {
		return fmt.Errorf("%w (%s)", err, nl.BytesToString(text.Value))
	}
	return err
}

// request is one message about a link. One with index 0 is about the link that
// IFLA_IFNAME names.
func request(kind, flags, index int, set, change uint32, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, flags)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), set, change
	r.AddData(msg)
	for _, a := range attrs {
		r.AddData(a)
	}
	return r
}

// create makes a link.
func create(index int, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	return request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, 0, 0, attrs...)
}

// change changes a link's attributes, and what a bridge has of its own.
func change(index int, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	return request(unix.RTM_NEWLINK, 0, index, 0, 0, attrs...)
}

// up switches a link on, down switches it off; the attributes are changed in
// the same breath.
func up(index int, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	return request(unix.RTM_NEWLINK, 0, index, unix.IFF_UP, unix.IFF_UP, attrs...)
}

func down(index int, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	return request(unix.RTM_NEWLINK, 0, index, 0, unix.IFF_UP, attrs...)
}

// deleteGroup deletes all links of a group. The kernel waits once for all of
// them, where it would wait some 18 ms for each one.
func deleteGroup(group uint32) *nl.NetlinkRequest {
	return request(unix.RTM_DELLINK, 0, 0, 0, 0, setGroup(group))
}

func setName(s string) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(s))
}

func setAlias(s string) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(s))
}

func setGroup(g uint32) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(g))
}

// setMaster puts a link into the bridge with that index; 0 takes it out.
func setMaster(index int) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(index)))
}

func setMAC(a net.HardwareAddr) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_ADDRESS, a)
}

func setMTU(n int) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(n)))
}

// quiet keeps the host from giving a link an IPv6 address. It is nothing on a
// host without IPv6, where the kernel refuses the attribute.
func quiet() []*nl.RtAttr {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return nil
	}
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	inet6 := spec.AddRtAttr(unix.AF_INET6, nil)
	inet6.AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(nl.IN6_ADDR_GEN_MODE_NONE))
	return []*nl.RtAttr{spec}
}

// bridgeInfo says that a link is a bridge that forwards at once and floods
// multicast: a node's boot ROM neither waits for the spanning tree nor joins
// groups.
func bridgeInfo() *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(0))
	return info
}

// vethInfo says that a link is one end of a veth pair, and what the other is.
func vethInfo(peerIndex int, peer ...*nl.RtAttr) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	other := data.AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(other, unix.AF_UNSPEC).Index = int32(peerIndex)
	for _, a := range peer {
		other.AddChild(a)
	}
	return info
}

// with is a list of attributes and some more.
func with(attrs []*nl.RtAttr, more ...*nl.RtAttr) []*nl.RtAttr {
	return append(slices.Clone(attrs), more...)
}
