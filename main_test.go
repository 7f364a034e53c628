package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
			// BMCs run as the user tenks if there is one and this is root.
			if err := os.Chmod(state, 0o755); err != nil {
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
			e.Setenv("PORT2", strconv.Itoa(first+2))
			e.Setenv("PORTS", fmt.Sprintf("%d-%d", first, first+9))
			e.Defer(func() { _ = os.RemoveAll(state) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"portfile": portFile,
			"status":   status,
			"json":     jsonAnswer,
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

// status runs tenks and checks its exit status: "status 2 plan --detailed-exitcode".
func status(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec("tenks", args[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("tenks: %v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// jsonAnswer checks a value in the standard output of the last command, which
// has a JSON value in each line or one in all: "json nodes.0.bmc.serving true".
// The last value counts that has the path.
func jsonAnswer(ts *testscript.TestScript, neg bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	got := "(nothing)"
	for {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			ts.Fatalf("the output is not JSON: %v", err)
		}
		for _, k := range strings.Split(args[0], ".") {
			switch x := v.(type) {
			case map[string]any:
				v = x[k]
			case []any:
				if i, err := strconv.Atoi(k); k == "length" {
					v = len(x)
				} else if err == nil && i < len(x) {
					v = x[i]
				} else {
					v = nil
				}
			default:
				v = nil
			}
		}
		if v != nil {
			got = fmt.Sprint(v)
		}
	}
	if want := strings.Join(args[1:], " "); (got == want) == neg {
		ts.Fatalf("%s is %s, want %s", args[0], got, want)
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
