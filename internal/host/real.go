package host

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// here is this machine.
func here() *system {
	return &system{
		root:     os.Geteuid() == 0,
		read:     os.ReadFile,
		exists:   func(path string) bool { _, err := os.Stat(path); return err == nil },
		glob:     glob,
		program:  program,
		openable: openable,
		mode:     modeOf,
		user:     lookUser,
		free:     free,
		hostname: os.Hostname,
		nofile:   nofile,
		reap:     reap,
		write:    replace,
		install:  temporary,
		sleep: func(ctx context.Context, d time.Duration) {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		},
		stop: func(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) },
		run:  run,
	}
}

// sbin is where daemons are; not every user's PATH has it.
var sbin = [...]string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

func program(name string) bool {
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	for _, dir := range sbin {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// glob is filepath.Glob with {a,b}.
func glob(pattern string) []string {
	before, rest, ok := strings.Cut(pattern, "{")
	if !ok {
		found, _ := filepath.Glob(pattern) // a pattern that is wrong matches nothing
		return found
	}
	choices, after, _ := strings.Cut(rest, "}")
	var found []string
	for c := range strings.SplitSeq(choices, ",") {
		found = append(found, glob(before+c+after)...)
	}
	return found
}

func openable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func modeOf(path string) (mode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return mode{}, err
	}
	m := mode{perm: uint32(info.Mode().Perm())}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.gid = int(st.Gid)
	}
	return m, nil
}

func lookUser(name string) (account, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, false
	}
	var a account
	ids, _ := u.GroupIds() // without them the user is in no group
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err == nil {
			a.gids = append(a.gids, n)
		}
		if g, err := user.LookupGroupId(id); err == nil {
			a.groups = append(a.groups, g.Name)
		}
	}
	return a, true
}

// free is what a user may still write to the file system that dir is on, or
// would be on.
func free(dir string) (uint64, error) {
	for {
		var st syscall.Statfs_t
		err := syscall.Statfs(dir, &st)
		if err == nil {
			return st.Bavail * uint64(st.Bsize), nil
		}
		if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
			dir = parent
			continue
		}
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
}

func nofile() (uint64, error) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return l.Max, err
}

// reapMax is how long reap watches.
const reapMax = 5 * time.Second

// reap leaves a process to PID 1 and measures how long it is a zombie.
func reap() (time.Duration, error) {
	out, err := exec.Command("/bin/sh", "-c", "sleep 0.1 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		return 0, err
	}
	stat := "/proc/" + strings.TrimSpace(string(out)) + "/stat"
	var dead time.Time
	for start := time.Now(); time.Since(start) < reapMax; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(stat)
		if err != nil {
			if dead.IsZero() {
				return 0, nil
			}
			return time.Since(dead), nil
		}
		if dead.IsZero() && zombie(text) {
			dead = time.Now()
		}
	}
	return reapMax, nil
}

// zombie reads /proc/PID/stat (proc(5)): the state is after the name, which is
// in parentheses and may have some of its own.
func zombie(stat []byte) bool {
	i := bytes.LastIndexByte(stat, ')')
	return i >= 0 && bytes.HasPrefix(stat[i+1:], []byte(" Z"))
}

func replace(path, text string) error {
	perm := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		perm = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tenks-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is gone if all went well
	_, err = f.WriteString(text)
	if err = cmp.Or(err, f.Chmod(perm), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func temporary(path, text string) (func(), error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(text)
	if err = cmp.Or(err, f.Close()); err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	return func() { _ = os.Remove(path) }, nil
}

// run runs a program without a terminal, in English, and with a PATH that has
// daemons in it. Nothing it starts can ask a question.
func run(ctx context.Context, name string, args ...string) (string, error) {
	path := os.Getenv("PATH")
	for _, dir := range sbin {
		if !slices.Contains(filepath.SplitList(path), dir) {
			path += ":" + dir
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if full := filepath.Join(dir, name); !strings.Contains(name, "/") && filepath.IsAbs(full) && executable(full) {
			name = full
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+path, "DEBIAN_FRONTEND=noninteractive")
	cmd.WaitDelay = 5 * time.Second // a daemon that keeps the output open is no reason to wait
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w%s", strings.Join(append([]string{filepath.Base(name)}, args...), " "), err, lastLine(out))
	}
	return string(out), err
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// lastLine is where programs say what went wrong.
func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return " (" + last + ")"
	}
	return ""
}

// describesUEFI reads a firmware descriptor.
func (s *system) describesUEFI(text []byte) bool {
	var d struct {
		Interfaces []string `json:"interface-types"`
		Mapping    struct {
			Executable struct {
				Filename string `json:"filename"`
			} `json:"executable"`
		} `json:"mapping"`
		Targets []struct {
			Architecture string `json:"architecture"`
		} `json:"targets"`
	}
	if json.Unmarshal(text, &d) != nil || !slices.Contains(d.Interfaces, "uefi") || !s.exists(d.Mapping.Executable.Filename) {
		return false
	}
	for _, t := range d.Targets {
		if t.Architecture == "x86_64" {
			return true
		}
	}
	return false
}
