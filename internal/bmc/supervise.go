package bmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// SuperviseOptions are what [Supervise] needs.
type SuperviseOptions struct {
	Folder string

	// Command is what to run; empty means this executable with
	// "bmc serve --folder <folder>".
	Command []string

	// Log is where Supervise reports before it has its own log, the
	// folder's [LogFile], to which the output of the command goes as well.
	// nil discards.
	Log *slog.Logger

	LogMax    int64         // bytes of a log before it is rotated, once; 0 means 5 MiB
	Backoff   time.Duration // before the first restart; doubles up to a hundredfold; 0 means 100 ms
	StopAfter time.Duration // how long the command may take to end before it is killed; 0 means 5 s
}

// Supervise keeps "bmc serve" running on hosts that have no systemd: it starts
// it, and again after it has ended, until ctx is done or SIGTERM comes; then it
// ends the command and returns nil. SIGHUP is passed on. It ends as well when
// the folder has gone. If Supervise itself is killed, the command ends too.
func Supervise(ctx context.Context, o SuperviseOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("supervise: %w", err)
		}
		o.Command = []string{self, "bmc", "serve", "--folder", o.Folder}
	}
	if o.Backoff == 0 {
		o.Backoff = 100 * time.Millisecond
	}
	if o.StopAfter == 0 {
		o.StopAfter = 5 * time.Second
	}
	root, err := os.OpenRoot(o.Folder)
	if err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	defer func() { _ = root.Close() }()
	role, err := take(root, RoleSupervise)
	if err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	defer func() { _ = role.Close() }()

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	out := &rotating{root: root, max: o.LogMax}
	defer out.close()
	o.Log = slog.New(slog.NewTextHandler(out, nil))
	o.restart(ctx, hangup, out)
	return nil
}

// restart runs the command again and again.
func (o SuperviseOptions) restart(ctx context.Context, hangup <-chan os.Signal, out io.Writer) {
	wait := o.Backoff
	for {
		began := time.Now()
		err := o.run(ctx, hangup, out)
		if ctx.Err() != nil {
			return
		}
		if _, gone := os.Stat(o.Folder); missing(gone) {
			return
		}
		if time.Since(began) > 100*o.Backoff {
			wait = o.Backoff
		}
		o.Log.Error("the BMC process ended and is started again", "err", err, "after", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, 100*o.Backoff)
	}
}

// run runs the command once.
func (o SuperviseOptions) run(ctx context.Context, hangup <-chan os.Signal, out io.Writer) error {
	// The kernel ends the command with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, o.Command[0], o.Command[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = o.StopAfter
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-hangup:
				_ = cmd.Process.Signal(syscall.SIGHUP) // it may have ended
			case <-ended:
				return
			}
		}
	})
	err := cmd.Wait()
	close(ended)
	all.Wait()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return err
}

// rotating is a log file that begins anew when it is full; the file before it
// is kept. Its Write never fails, because a full disk must not end a BMC.
type rotating struct {
	root *os.Root
	max  int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// Write implements [io.Writer].
func (r *rotating) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	limit := r.max
	if limit == 0 {
		limit = 5 << 20
	}
	if r.file != nil && r.size+int64(len(b)) > limit && r.size > 0 {
		_ = r.file.Close()
		r.file = nil
		_ = r.root.Rename(LogFile, LogFile+OldSuffix)
	}
	if r.file == nil {
		f, err := r.root.OpenFile(LogFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return len(b), nil
		}
		r.file, r.size = f, 0
		if info, err := f.Stat(); err == nil {
			r.size = info.Size()
		}
	}
	n, _ := r.file.Write(b)
	r.size += int64(n)
	return len(b), nil
}

func (r *rotating) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil {
		_ = r.file.Close()
	}
}
