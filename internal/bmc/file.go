package bmc

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tenks/tenks/internal/machine"
)

// WriteFile replaces a file of a cluster's folder in one go: after a crash it
// has either its old or its new content. The file belongs to whoever owns the
// folder, because the BMC process may be another user than the worker.
func WriteFile(root *os.Root, name string, text []byte, mode os.FileMode) error {
	return Replace(root, name, mode, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// Replace is [WriteFile] for content that write produces.
func Replace(root *os.Root, name string, mode os.FileMode, write func(io.Writer) error) error {
	temp := path.Join(path.Dir(name), TempPrefix+rand.Text())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm())
	if err != nil {
		return err
	}
	err = errors.Join(write(f), own(root, f), f.Sync())
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		_ = root.Remove(temp)
		return err
	}
	return syncDir(root, path.Dir(name))
}

// TempPrefix begins the names of files that are not complete yet.
const TempPrefix = ".tenks-"

// own gives f to the owner of the folder, if we may.
func own(root *os.Root, f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	return f.Chown(int(st.Uid), int(st.Gid))
}

// syncDir makes a rename or removal in a directory last.
func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// store keeps the memory of one machine in a file. A machine that has nothing
// to remember has none.
type store struct {
	root *os.Root
	name string
}

func newStore(root *os.Root, node string) machine.Store {
	return store{root, path.Join(MemoryDir, node+".json")}
}

// Load implements [machine.Store]. A file that is damaged is an error: what the
// machine should boot next is then not known.
func (s store) Load() (machine.Memory, error) {
	text, err := s.root.ReadFile(s.name)
	if missing(err) {
		return machine.Memory{}, nil
	}
	if err != nil {
		return machine.Memory{}, err
	}
	var m machine.Memory
	if err := json.Unmarshal(text, &m); err != nil {
		return machine.Memory{}, fmt.Errorf("%s: %w", s.name, err)
	}
	return m, nil
}

// Save implements [machine.Store].
func (s store) Save(m machine.Memory) error {
	if m.IsZero() {
		if err := s.root.Remove(s.name); err != nil {
			if missing(err) {
				return nil
			}
			return err
		}
		return syncDir(s.root, MemoryDir)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := makeDir(s.root, MemoryDir); err != nil {
		return err
	}
	return WriteFile(s.root, s.name, append(text, '\n'), 0o600)
}

// makeDir makes a directory in the folder that belongs to the folder's owner.
func makeDir(root *os.Root, name string) error {
	if err := root.Mkdir(name, 0o700); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return own(root, d)
}

// Role is what a process does for a folder. Each role is a byte of [PIDFile]
// that its process has locked: the kernel says who holds it, and forgets it
// when the process ends, however that happens. The process numbers written in
// the file are for people; nobody goes by them.
type Role int64

// The roles.
const (
	RoleServe     Role = 0
	RoleSupervise Role = 1
)

// String is the role's command.
func (r Role) String() string {
	if r == RoleServe {
		return "bmc serve"
	}
	return "bmc supervise"
}

// errTaken says that another process has the role.
type errTaken struct {
	role   Role
	folder string
	pid    int
}

func (e *errTaken) Error() string {
	return fmt.Sprintf("process %d does %q for %s already", e.pid, e.role.String(), e.folder)
}

// take makes this process the one that has role in the folder, until the file
// it returns is closed. That file must be the only one of this process that is
// open on [PIDFile] (closing any other would drop the lock: POSIX fcntl).
func take(root *os.Root, role Role) (*os.File, error) {
	f, err := root.OpenFile(PIDFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := own(root, f); err != nil {
		_ = f.Close()
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(role), Len: 1}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		pid, _ := holder(f, role)
		_ = f.Close()
		return nil, &errTaken{role, root.Name(), pid}
	}
	if err == nil {
		// Fixed width, so that the two lines do not move.
		_, err = f.WriteAt(fmt.Appendf(nil, "%10d %-13s\n", os.Getpid(), role), 25*int64(role))
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, nil
}

// Holder returns the number of the process that has role in a folder, and 0 if
// there is none. It must not be called by the process that has it.
func Holder(root *os.Root, role Role) (int, error) {
	f, err := root.OpenFile(PIDFile, os.O_RDWR, 0)
	if missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	return holder(f, role)
}

func holder(f *os.File, role Role) (int, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(role), Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	if lock.Pid <= 0 {
		return 0, fmt.Errorf("%s: its process is in another PID namespace", f.Name())
	}
	return int(lock.Pid), nil
}
