package ipmi_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/bmc/ipmi"
	"github.com/tenks/tenks/internal/machine"
)

// childVariable makes the test binary a server for the benchmarks, so that the
// processor time of the server can be told from that of the client.
const childVariable = "TENKS_IPMI_BENCHMARK_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := serveBenchmark(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveBenchmark serves until its input ends.
func serveBenchmark() error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	m, err := machine.New(machine.Identity{Name: "tk0", UUID: testUUID}, newTalker(), &store{})
	if err != nil {
		return err
	}
	accounts, err := account.New(m, testUser.Name, testUser.Password)
	if err != nil {
		return err
	}
	fmt.Println(conn.LocalAddr().(*net.UDPAddr).Port)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	return (&ipmi.Server{Machine: m, Accounts: accounts}).Serve(ctx, conn)
}

// startChild starts a server in a process of its own.
func startChild(b *testing.B) (pid int, addr *net.UDPAddr) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		b.Fatal(err)
	}
	return cmd.Process.Pid, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
}

// cpu is the processor time of a process in nanoseconds, kernel included: the
// first field of schedstat, of all threads.
func cpu(b *testing.B, pid int) float64 {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		b.Fatalf("no schedstat of process %d: %v", pid, err)
	}
	var sum float64
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		ns, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += ns
	}
	return sum
}

// measure runs op and reports the processor time that the server needs for one.
func measure(b *testing.B, suite int, prepare, op func(*client) error) {
	pid, addr := startChild(b)
	c := mustDial(b, addr)
	c.suite = suite
	if err := prepare(c); err != nil {
		b.Fatal(err)
	}
	before := cpu(b, pid)
	for b.Loop() {
		if err := op(c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu(b, pid)-before)/1e3/float64(b.N), "server-µs/op")
}

// BenchmarkSession is what "ipmitool power status" does: seven round trips.
func BenchmarkSession(b *testing.B) {
	session := func(c *client) error { return c.session(testUser.Name, testUser.Password) }
	for _, suite := range []int{3, 17} {
		b.Run(fmt.Sprint("suite", suite), func(b *testing.B) { measure(b, suite, session, session) })
	}
}

// BenchmarkCommand is Get Chassis Status in a session.
func BenchmarkCommand(b *testing.B) {
	for _, suite := range []int{3, 17} {
		b.Run(fmt.Sprint("suite", suite), func(b *testing.B) {
			measure(b, suite,
				func(c *client) error { return c.login(testUser.Name, testUser.Password) },
				func(c *client) error {
					code, _, err := c.do(0x00, 0x01)
					if err == nil && code != 0 {
						err = fmt.Errorf("completion code %02Xh", code)
					}
					return err
				})
		})
	}
}

// BenchmarkEcho types one character on the console and waits for its echo, with
// the parameters that a new BMC has.
func BenchmarkEcho(b *testing.B) {
	var times []time.Duration
	sequence := byte(0)
	measure(b, 17,
		func(c *client) error {
			if err := c.login(testUser.Name, testUser.Password); err != nil {
				return err
			}
			if code, _, err := c.do(0x06, 0x3b, 4); code != 0 || err != nil {
				return fmt.Errorf("set session privilege: %02Xh, %w", code, err)
			}
			code, _, err := c.do(0x06, 0x48, 1, 1, 0xc0, 0, 0, 0)
			if err == nil && code != 0 {
				err = fmt.Errorf("activate payload: %02Xh", code)
			}
			return err
		},
		func(c *client) error {
			sequence = sequence%15 + 1
			start := time.Now()
			if err := c.sendSOL(solPacket{seq: sequence, data: "x"}); err != nil {
				return err
			}
			for {
				p, err := c.readSOL()
				if err != nil {
					return err
				}
				if p.seq != 0 {
					times = append(times, time.Since(start))
					return c.sendSOL(solPacket{ack: p.seq, accepted: byte(len(p.data))})
				}
			}
		})
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}
