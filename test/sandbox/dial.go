package sandbox

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects to an address in the host's network. address must be an IP
// address and a port, so that nothing is looked up elsewhere.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	// The thread goes back and lives on: with it, the kernel would end all
	// processes that it has started (PR_SET_PDEATHSIG).
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer func() { _ = home.Close() }()
	away, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = away.Close() }()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the network of the host: %w", err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // this thread must not serve anybody else
		}
	}()
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
