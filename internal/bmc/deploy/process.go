package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenks/tenks/internal/bmc"
	"github.com/tenks/tenks/internal/hint"
)

// How long to wait for the process.
const (
	answerTime = 3 * time.Second  // for a status; then it hangs
	startTime  = 30 * time.Second // until it is ready
	stopTime   = 8 * time.Second  // until it has ended by itself; then it is killed
)

// runAs is who a BMC process runs as.
type runAs struct {
	uid, gid int
	groups   []uint32
}

// runAs decides who the BMC process runs as: the system user if there is one
// and libvirt's socket lets its group in; otherwise who we are.
func (h *Host) runAs() runAs {
	self := runAs{uid: os.Geteuid(), gid: os.Getegid()}
	if self.uid != 0 || h.User == "" {
		return self
	}
	u, err := user.Lookup(h.User)
	if err != nil {
		h.log().Info("BMC processes run as root", "reason", "there is no user "+h.User)
		return self
	}
	uid, errU := strconv.Atoi(u.Uid)
	gid, errG := strconv.Atoi(u.Gid)
	if errU != nil || errG != nil {
		return self
	}
	as := runAs{uid: uid, gid: gid}
	info, err := os.Stat(h.LibvirtSocket)
	if err != nil {
		return as // no libvirt here: nothing to be let in to
	}
	st := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case mode&0o066 == 0o060 && st.Gid != 0:
		as.groups = []uint32{st.Gid}
	default: // for root alone, or for everybody whom polkit lets in
		h.log().Info("BMC processes run as root", "reason", "libvirt's socket is not for a group")
		return self
	}
	return as
}

// run has the process serve the list with that hash, and returns its status. A
// process that hangs, or is made of another binary, is replaced.
func (h *Host) run(ctx context.Context, clusterName string, root *os.Root, hash string) (bmc.Status, error) {
	current, err := h.current(root)
	if err != nil {
		return bmc.Status{}, fmt.Errorf("tenks binary: %w", err)
	}
	if st, err := h.ask(ctx, root); err == nil && current && st.LibvirtSocket == h.LibvirtSocket {
		ctx, cancel := context.WithTimeout(ctx, startTime)
		defer cancel()
		if st.Hash == hash && st.Problem == "" {
			return bmc.Control{Root: root}.Status(ctx)
		}
		return bmc.Control{Root: root}.Reload(ctx)
	}
	if err := h.stop(ctx, clusterName, root); err != nil {
		return bmc.Status{}, err
	}
	if !current {
		if err := h.install(root); err != nil {
			return bmc.Status{}, fmt.Errorf("tenks binary: %w", err)
		}
	}
	if err := h.start(ctx, clusterName); err != nil {
		return bmc.Status{}, err
	}
	return h.await(ctx, clusterName, root, hash)
}

// ask asks the process for its status, for a short time.
func (h *Host) ask(ctx context.Context, root *os.Root) (bmc.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return bmc.Control{Root: root}.Status(ctx)
}

// await waits until the process serves the list.
func (h *Host) await(ctx context.Context, clusterName string, root *os.Root, hash string) (bmc.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		st, err := h.ask(ctx, root)
		if err == nil && st.Hash == hash && st.Ready {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, hint.Add(fmt.Errorf("the BMC process does not come up: %w", errors.Join(err, context.Cause(ctx))), "%s", h.whereLog(clusterName))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (h *Host) whereLog(clusterName string) string {
	if h.Systemd {
		return "see: journalctl -u " + unitName(clusterName)
	}
	return "see its log: " + filepath.Join(h.folder(clusterName), bmc.LogFile)
}

// current tells whether the folder's binary is the one that we are.
func (h *Host) current(root *os.Root) (bool, error) {
	ours, err := os.Open(h.Binary)
	if err != nil {
		return false, err
	}
	defer func() { _ = ours.Close() }()
	theirs, err := root.Open(bmc.BinaryFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = theirs.Close() }()
	a, errA := ours.Stat()
	b, errB := theirs.Stat()
	if err := errors.Join(errA, errB); err != nil || a.Size() != b.Size() {
		return false, err
	}
	sumA, errA := sum(ours)
	sumB, errB := sum(theirs)
	return bytes.Equal(sumA, sumB), errors.Join(errA, errB)
}

func sum(r io.Reader) ([]byte, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return h.Sum(nil), err
}

// install copies the binary, so that the process outlives the user's copy.
func (h *Host) install(root *os.Root) error {
	ours, err := os.Open(h.Binary)
	if err != nil {
		return err
	}
	defer func() { _ = ours.Close() }()
	return bmc.Replace(root, bmc.BinaryFile, 0o755, func(w io.Writer) error {
		_, err := io.Copy(w, ours)
		return err
	})
}

// start starts the process under its supervisor.
func (h *Host) start(ctx context.Context, clusterName string) error {
	if h.Systemd {
		return h.startUnit(ctx, clusterName)
	}
	folder := h.folder(clusterName)
	binary := filepath.Join(folder, bmc.BinaryFile)
	cmd := exec.Command(binary, "bmc", "supervise", "--folder", folder)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TENKS_STATE_DIR=" + h.Root}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if as := h.runAs(); as.uid != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid), Groups: as.groups}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the BMC process: %w", err)
	}
	return cmd.Process.Release()
}

// stop ends the process and its supervisor, whatever state they are in.
func (h *Host) stop(ctx context.Context, clusterName string, root *os.Root) error {
	if h.Systemd {
		if err := h.stopUnit(ctx, clusterName); err != nil {
			return err
		}
	}
	// The supervisor first: it would start the process again.
	for _, role := range []bmc.Role{bmc.RoleSupervise, bmc.RoleServe} {
		if err := end(ctx, root, role); err != nil {
			return fmt.Errorf("stop %q: %w", role, err)
		}
	}
	return nil
}

// end ends the process that has a role.
func end(ctx context.Context, root *os.Root, role bmc.Role) error {
	began := time.Now()
	for sent := syscall.Signal(0); ; {
		pid, err := bmc.Holder(root, role)
		if err != nil || pid == 0 {
			return err
		}
		want := syscall.SIGTERM
		if time.Since(began) > stopTime {
			want = syscall.SIGKILL
		}
		if want != sent {
			sent = want
			if err := syscall.Kill(pid, want); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func unitName(clusterName string) string { return "tenks-bmc-" + clusterName + ".service" }

func (h *Host) unitPath(clusterName string) string {
	dir := h.UnitDir
	if dir == "" {
		dir = "/etc/systemd/system"
	}
	return filepath.Join(dir, unitName(clusterName))
}

// unit is the systemd unit of a cluster's BMC process.
func (h *Host) unit(clusterName string) string {
	folder := h.folder(clusterName)
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by Tenks for cluster %s; \"tenks destroy %s\" removes it.\n", clusterName, clusterName)
	fmt.Fprintf(&b, "[Unit]\nDescription=BMCs of Tenks cluster %s\nAfter=network.target libvirtd.service\n\n", clusterName)
	fmt.Fprintf(&b, "[Service]\nType=notify\nExecStart=%s bmc serve --folder %s\nExecReload=/bin/kill -HUP $MAINPID\nRestart=always\nRestartSec=1\n",
		filepath.Join(folder, bmc.BinaryFile), folder)
	if as := h.runAs(); as.uid != os.Geteuid() {
		fmt.Fprintf(&b, "User=%s\n", h.User)
		for _, g := range as.groups {
			fmt.Fprintf(&b, "SupplementaryGroups=%d\n", g)
		}
	}
	b.WriteString("AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nNoNewPrivileges=yes\n")
	fmt.Fprintf(&b, "ProtectSystem=strict\nProtectHome=read-only\nPrivateTmp=yes\nReadWritePaths=%s\nLimitNOFILE=65536\n\n", folder)
	b.WriteString("[Install]\nWantedBy=multi-user.target\n")
	return b.String()
}

func (h *Host) systemctl(ctx context.Context, args ...string) error {
	if h.Systemctl != nil {
		return h.Systemctl(ctx, args...)
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (h *Host) startUnit(ctx context.Context, clusterName string) error {
	if err := os.WriteFile(h.unitPath(clusterName), []byte(h.unit(clusterName)), 0o644); err != nil {
		return err
	}
	if err := h.systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	return h.systemctl(ctx, "enable", "--now", unitName(clusterName))
}

func (h *Host) stopUnit(ctx context.Context, clusterName string) error {
	path := h.unitPath(clusterName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := h.systemctl(ctx, "disable", "--now", unitName(clusterName)); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return h.systemctl(ctx, "daemon-reload")
}
