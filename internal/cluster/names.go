package cluster

import (
	"crypto/sha1" // UUID version 5 is defined with SHA-1 (RFC 9562 §5.5)
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// LinkNameMax is the most characters a Linux network device name may have
// (IFNAMSIZ 16, less the terminating zero).
const LinkNameMax = 15

// tenksNamespace is the UUID namespace of all names that Tenks derives.
var tenksNamespace = [16]byte{0x9b, 0x7a, 0x21, 0x5c, 0x3d, 0x0e, 0x4c, 0x6e, 0x8a, 0x5f, 0x10, 0x00, 0x5b, 0x00, 0x0e, 0x55}

// UUID derives the UUID of an object from its cluster, kind and name. It is a
// version 5 UUID (RFC 9562 §5.5), so the same names give the same UUID for ever.
func UUID(cluster, kind, name string) string {
	h := sha1.New()
	h.Write(tenksNamespace[:])
	h.Write([]byte(cluster + "\x00" + kind + "\x00" + name))
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// Serial derives the serial number of a node: "TK" and ten characters.
func Serial(cluster, node string) string {
	sum := sha256.Sum256([]byte("serial\x00" + cluster + "\x00" + node))
	return "TK" + strings.ToUpper(hex.EncodeToString(sum[:5]))
}

// MAC derives the MAC address of a port. Five of its bytes come from a hash, the
// first marks it as locally administered and unicast (IEEE 802 §8.4). attempt
// is 0, and counted up by who finds the address taken.
func MAC(cluster, node string, port, attempt int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "mac\x00%s\x00%s\x00%d\x00%d", cluster, node, port, attempt))
	return fmt.Sprintf("52:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}

// LinkName returns plain if that can be a link's name, and otherwise its first
// six characters and a hash of all of it.
func LinkName(plain string) string {
	if len(plain) <= LinkNameMax {
		return plain
	}
	sum := sha256.Sum256([]byte("link\x00" + plain))
	return plain[:6] + "-" + hex.EncodeToString(sum[:4])
}

// LinkGroup is the link group (IFLA_GROUP) of the cluster's links: bit 30 is
// set, and 30 bits of a hash. It is never 0, the group of all links that nobody
// has put in one, and never more than ip(8) can write.
func LinkGroup(cluster string) uint32 {
	sum := sha256.Sum256([]byte("group\x00" + cluster))
	return binary.BigEndian.Uint32(sum[:])&0x3fff_ffff | 0x4000_0000
}

// PoolName is the name of the cluster's storage pool.
func PoolName(cluster string) string { return "tenks-" + cluster }

// PoolUUID is the UUID of the cluster's storage pool, and its mark.
func PoolUUID(cluster string) string { return UUID(cluster, "pool", PoolName(cluster)) }

// PasswordMark shows that a password has changed without giving it away: Ironic
// never tells a password, so the mark is stored beside it. Two bytes of a hash
// are enough to see a change and too few to confirm a guess.
func PasswordMark(uuid string, password Secret) string {
	sum := sha256.Sum256([]byte("password\x00" + uuid + "\x00" + string(password)))
	return hex.EncodeToString(sum[:2])
}
