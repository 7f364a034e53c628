package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenks/tenks/internal/hint"
)

// SetupOptions adjust [Setup].
type SetupOptions struct {
	Options Options // Libvirt must be set

	// Say is told each thing that is done, just before; nil: nobody is.
	Say func(line string)
	// DryRun only says what would be done.
	DryRun bool
	// Wait is how long libvirtd may take to answer; 0 means a minute.
	Wait time.Duration
}

// Setup makes this machine a hypervisor: packages, the user for BMC processes,
// that user's access to libvirt, and libvirt itself. It asks nothing. What is
// there already stays as it is: the second time, Setup does nothing and returns
// false. Errors have a hint.
func Setup(ctx context.Context, o SetupOptions) (changed bool, err error) {
	return newSetup(o, here()).all(ctx)
}

// setup is one run of Setup.
type setup struct {
	o       SetupOptions
	s       *system
	changed bool
}

func newSetup(o SetupOptions, s *system) *setup {
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	return &setup{o: o, s: s}
}

func (u *setup) all(ctx context.Context) (bool, error) {
	if !u.s.root && !u.o.DryRun {
		return false, hint.Add(errors.New("setting up a hypervisor needs root"), "run: %s", setupCure)
	}
	own := u.s.ownLibvirt(ping(ctx, u.o.Options))
	for _, step := range []func(context.Context, bool) error{u.packages, u.bmcUser, u.access, u.libvirt} {
		if err := step(ctx, own); err != nil {
			return u.changed, err
		}
		if err := ctx.Err(); err != nil {
			return u.changed, context.Cause(ctx)
		}
	}
	return u.changed, nil
}

// say tells what is to be done, and whether to do it.
func (u *setup) say(format string, args ...any) (do bool) {
	u.changed = true
	line := fmt.Sprintf(format, args...)
	if u.o.DryRun {
		line = "would " + line
	}
	u.o.Say(line)
	return !u.o.DryRun
}

// policy keeps packages from starting services: without systemd that fails, or
// starts them in ways that nobody looks after (invoke-rc.d(8)).
const (
	policyFile = "/usr/sbin/policy-rc.d"
	policyText = "#!/bin/sh\nexit 101\n"
)

func (u *setup) packages(ctx context.Context, own bool) error {
	missing := u.s.missing(own)
	if len(missing) == 0 {
		return nil
	}
	var names, packages []string
	for _, p := range missing {
		names, packages = append(names, p.name), append(packages, p.pkg)
	}
	if distribution, debian := u.s.distribution(); !debian {
		return hint.Add(fmt.Errorf("packages of %s are not known to Tenks; what is missing: %s", distribution, strings.Join(names, "; ")),
			"install that with the package manager, then run: %s", setupCure)
	}
	if !u.say("install packages: %s", strings.Join(packages, " ")) {
		return nil
	}
	if !u.s.systemd() {
		remove, err := u.s.install(policyFile, policyText)
		if err != nil {
			return fmt.Errorf("keep packages from starting services: %w", err)
		}
		defer remove()
	}
	apt := []string{"-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confold"}
	install := slices.Concat(apt, []string{"install", "--no-install-recommends"}, packages)
	if _, err := u.s.run(ctx, "apt-get", install...); err == nil {
		return nil
	}
	// The most likely reason: the package lists are old, or not there at all.
	u.say("update the package lists")
	if _, err := u.s.run(ctx, "apt-get", slices.Concat(apt, []string{"update"})...); err != nil {
		return hint.Add(fmt.Errorf("update the package lists: %w", err), "see whether this machine reaches its package mirror: apt-get update")
	}
	if _, err := u.s.run(ctx, "apt-get", install...); err != nil {
		return hint.Add(fmt.Errorf("install packages: %w", err), "see what is wrong: apt-get install %s", strings.Join(packages, " "))
	}
	return nil
}

// bmcUser makes the user that BMC processes run as, a member of libvirt's group.
func (u *setup) bmcUser(ctx context.Context, own bool) error {
	a, there := u.s.user(u.o.Options.User)
	_, err := u.s.run(ctx, "getent", "group", group)
	inGroup := err == nil || u.o.DryRun && own // the group comes with the packages
	args := []string{"--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
		"--shell", "/usr/sbin/nologin", "--comment", "Tenks BMC processes"}
	switch {
	case there && (!inGroup || slices.Contains(a.groups, group)):
		return nil
	case there:
		if !u.say("put user %s into group %s", u.o.Options.User, group) {
			return nil
		}
		_, err = u.s.run(ctx, "usermod", "--append", "--groups", group, u.o.Options.User)
	case inGroup:
		if !u.say("create system user %s in group %s, for BMC processes", u.o.Options.User, group) {
			return nil
		}
		_, err = u.s.run(ctx, "useradd", append(args, "--groups", group, u.o.Options.User)...)
	default:
		if !u.say("create system user %s, for BMC processes", u.o.Options.User) {
			return nil
		}
		_, err = u.s.run(ctx, "useradd", append(args, u.o.Options.User)...)
	}
	if err != nil {
		return hint.Add(fmt.Errorf("user %s: %w", u.o.Options.User, err), "see whether /etc/passwd and /etc/group can be written")
	}
	return nil
}

// accessText is what lets the members of the group use libvirtd without polkit:
// the same rule that polkit has on Debian (60-libvirt.rules).
const accessText = `
# By "tenks host setup": polkit does not run here, which else decides who may
# use libvirtd. Members of the group may.
unix_sock_group = "` + group + `"
unix_sock_rw_perms = "0770"
auth_unix_rw = "none"
`

// settled tells whether somebody has said in libvirtd's configuration who may
// use it.
func settled(text []byte) bool {
	set := config(text)
	for _, key := range []string{"unix_sock_group", "unix_sock_rw_perms", "auth_unix_rw"} {
		if _, there := set[key]; there {
			return true
		}
	}
	return false
}

// access lets the user of BMC processes through to libvirtd where there is no
// systemd, and so neither D-Bus nor polkit. A configuration that somebody has
// made stays as it is.
func (u *setup) access(ctx context.Context, own bool) error {
	if !own || u.s.systemd() || !defaultSocket(u.o.Options.LibvirtSocket) || u.s.exists("/run/dbus/system_bus_socket") {
		return nil
	}
	text, err := u.s.read(libvirtdConf)
	if err != nil {
		return nil // there is no libvirtd with one file of configuration
	}
	if settled(text) {
		return nil
	}
	if !u.say("let group %s use libvirtd without polkit, which does not run here (%s)", group, libvirtdConf) {
		return nil
	}
	if err := u.s.write(libvirtdConf, strings.TrimRight(string(text), "\n")+"\n"+accessText); err != nil {
		return hint.Add(fmt.Errorf("configure libvirtd: %w", err), "add to %s by hand: auth_unix_rw = \"none\"", libvirtdConf)
	}
	pid, running := u.s.daemon("/run/libvirtd.pid")
	if !running {
		return nil
	}
	u.say("stop libvirtd, process %d, to start it with that (nodes run on)", pid)
	if err := u.s.stop(pid); err != nil {
		return fmt.Errorf("stop libvirtd, process %d: %w", pid, err)
	}
	return u.await(ctx, func() bool { _, running := u.s.daemon("/run/libvirtd.pid"); return !running },
		fmt.Errorf("libvirtd, process %d, does not stop", pid))
}

// daemon reads a PID file and tells whether that process runs.
func (s *system) daemon(pidFile string) (int, bool) {
	text, err := s.read(pidFile)
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, false
	}
	stat, err := s.read(fmt.Sprintf("/proc/%d/stat", pid))
	name := strings.TrimSuffix(pidFile[strings.LastIndex(pidFile, "/")+1:], ".pid")
	return pid, err == nil && !zombie(stat) && strings.Contains(string(stat), "("+name+")")
}

// await waits until something is so.
func (u *setup) await(ctx context.Context, so func() bool, otherwise error) error {
	const step = 200 * time.Millisecond
	for waited := time.Duration(0); waited < u.o.Wait && ctx.Err() == nil; waited += step {
		if so() {
			return nil
		}
		u.s.sleep(ctx, step)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return hint.Add(otherwise, "see what is wrong: tenks doctor")
}

// libvirt starts libvirt if it does not answer, and sees to it that it is
// started at boot.
func (u *setup) libvirt(ctx context.Context, own bool) error {
	answer := ping(ctx, u.o.Options)
	if !own {
		return nil
	}
	if answer != nil && !defaultSocket(u.o.Options.LibvirtSocket) {
		return hint.Add(fmt.Errorf("libvirt does not answer at %s: %w", u.o.Options.LibvirtSocket, answer),
			"start that libvirt; only the system's own, at /run/libvirt/libvirt-sock, is started from here")
	}
	start := u.daemons
	if u.s.systemd() {
		start = u.units
	}
	started, err := start(ctx, answer != nil)
	if err != nil || !started || u.o.DryRun {
		return err
	}
	return u.await(ctx, func() bool { return ping(ctx, u.o.Options) == nil },
		fmt.Errorf("libvirt was started and does not answer at %s", u.o.Options.LibvirtSocket))
}

// units enables libvirt's unit, which brings its sockets and virtlogd, and
// starts it if need be.
func (u *setup) units(ctx context.Context, start bool) (started bool, err error) {
	unit := u.s.libvirtUnit()
	state, _ := u.s.run(ctx, "systemctl", "is-enabled", unit) // exits 1 if it is not
	if strings.TrimSpace(state) != "enabled" {
		if u.say("enable %s", unit) {
			if _, err := u.s.run(ctx, "systemctl", "enable", unit); err != nil {
				return false, hint.Add(fmt.Errorf("enable %s: %w", unit, err), "run: systemctl status %s", unit)
			}
		}
	}
	if !start || !u.say("start virtlogd.socket and %s", unit) {
		return start, nil
	}
	if _, err := u.s.run(ctx, "systemctl", "start", "virtlogd.socket", unit); err != nil {
		return false, hint.Add(fmt.Errorf("start %s: %w", unit, err), "run: journalctl -u %s", unit)
	}
	return true, nil
}

// daemons starts libvirt's daemons by themselves: where PID 1 is slow to clear
// away ended processes, as children of a PID 1 of their own.
func (u *setup) daemons(ctx context.Context, start bool) (started bool, err error) {
	if !start {
		return false, nil
	}
	var names []string
	for _, name := range []string{"virtlogd", "libvirtd"} {
		pid, running := u.s.daemon("/run/" + name + ".pid")
		if running && name == "libvirtd" {
			return false, hint.Add(fmt.Errorf("libvirtd runs, as process %d, but does not answer at %s", pid, u.o.Options.LibvirtSocket),
				"stop it, then try again: kill %d", pid)
		}
		if !running {
			names = append(names, name)
		}
	}
	if took, err := u.s.reap(); err == nil && took > slowReap && u.s.program("unshare") && u.s.program("setsid") {
		if u.say("start %s with a PID 1 of their own (this machine's takes %.1f s to clear away a process)", strings.Join(names, " and "), took.Seconds()) {
			_, err := u.s.run(ctx, "sh", "-c", ownPID1(names))
			if err != nil {
				return false, hint.Add(fmt.Errorf("start %s: %w", strings.Join(names, " and "), err), "see what it says: libvirtd -v")
			}
		}
		return true, nil
	}
	for _, name := range names {
		if !u.say("start %s", name) {
			continue
		}
		if _, err := u.s.run(ctx, name, "-d"); err != nil {
			return false, hint.Add(fmt.Errorf("start %s: %w", name, err), "see what it says: %s -v", name)
		}
	}
	return true, nil
}

// ownPID1 is the shell command that starts daemons in a PID namespace of their
// own, whose PID 1, a shell that waits for all its children, goes on.
func ownPID1(daemons []string) string {
	return "setsid -f unshare --pid --fork --mount-proc sh -c '" + strings.Join(daemons, " -d; ") +
		" -d; sleep infinity; :' </dev/null >/dev/null 2>&1"
}
