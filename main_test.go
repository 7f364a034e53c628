package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tenks": main})
}

// TestScripts runs the stories in testdata/script: the manual, executed. Their
// nodes are synthetic, and their hypervisor is a folder of the script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// Short, since a socket's path has at most 108 characters.
			state, err := os.MkdirTemp("", "tk")
			if err != nil {
				return err
			}
			first, err := freePorts(10)
			if err != nil {
				return err
			}
			e.Setenv("TENKS_STATE_DIR", state)
			e.Setenv("TENKS_LIBVIRT_SOCKET", filepath.Join(e.WorkDir, "no-libvirt"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("PORT", strconv.Itoa(first))
			e.Setenv("PORTS", fmt.Sprintf("%d-%d", first, first+9))
			e.Defer(func() { _ = os.RemoveAll(state) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"portfile": portFile,
		},
	})
}

// portFile replaces $PORTS in a file: "portfile dev.yaml".
func portFile(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), func(k string) string { return ts.Getenv(k) })
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o644))
	}
}

// portsTried is where freePorts goes on: scripts run side by side.
var portsTried atomic.Int64

// freePorts finds n UDP ports in a row that nobody uses, or has got from here,
// and returns the first.
func freePorts(n int) (int, error) {
search:
	for {
		first := 20000 + os.Getpid()%20000 + int(portsTried.Add(int64(n)))
		if first > 60000 {
			break
		}
		for p := first; p < first+n; p++ {
			c, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p))
			if err != nil {
				continue search
			}
			_ = c.Close()
		}
		return first, nil
	}
	return 0, fmt.Errorf("no %d free ports", n)
}
