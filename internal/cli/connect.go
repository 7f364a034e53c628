package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/tenks/tenks/internal/bmc"
	"github.com/tenks/tenks/internal/bmc/deploy"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/config"
	"github.com/tenks/tenks/internal/enrol"
	"github.com/tenks/tenks/internal/enrol/ironic"
	"github.com/tenks/tenks/internal/hint"
	"github.com/tenks/tenks/internal/hypervisor"
	"github.com/tenks/tenks/internal/hypervisor/local"
	"github.com/tenks/tenks/internal/network/bridge"
	"github.com/tenks/tenks/internal/observe"
	"github.com/tenks/tenks/internal/provider"
	"github.com/tenks/tenks/internal/provider/libvirt"
	"github.com/tenks/tenks/internal/provider/synthetic"
)

// here is the name of the hypervisor that is this machine.
const here = "local"

// bmcUser is the system user that BMC processes run as; "tenks host setup"
// makes it. Where it is missing they run as who runs Tenks.
const bmcUser = "tenks"

// deployHost is this machine as bmc/deploy sees it.
func (a *app) deployHost() (*deploy.Host, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(a.root)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat("/run/systemd/system")
	return &deploy.Host{Root: root, Binary: binary, LibvirtSocket: a.libvirtSocket, User: bmcUser, Systemd: err == nil, Log: a.log}, nil
}

// libvirt is the libvirt at a socket. Its verdict on KVM is kept until the next
// boot, and below /run, so that nothing of it stays.
func (a *app) libvirt(socket string) *libvirt.Provider {
	return libvirt.New(libvirt.Options{Socket: socket, StateDir: "/run", Log: a.log})
}

// worker returns the worker for this machine.
func (a *app) worker() (*local.Worker, error) {
	host, err := a.deployHost()
	if err != nil {
		return nil, err
	}
	lv := a.libvirt(a.libvirtSocket)
	return &local.Worker{
		Hypervisor: here,
		Providers: map[string]provider.Provider{
			cluster.Libvirt:   lv,
			cluster.Synthetic: &synthetic.Provider{Dir: host.Root},
		},
		Networks: bridge.New(a.log),
		BMCs:     host,
		OnClose:  lv.Close,
	}, nil
}

// hands are the providers as the BMC process uses them.
func (a *app) hands(root, socket string) map[string]bmc.Hands {
	return map[string]bmc.Hands{
		cluster.Libvirt:   a.libvirt(socket),
		cluster.Synthetic: &synthetic.Provider{Dir: root},
	}
}

// holder describes this run to whoever finds the lock held.
func holder(command string) hypervisor.Holder {
	h := hypervisor.Holder{PID: os.Getpid(), Command: "tenks " + command, Since: time.Now()}
	h.Host, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	}
	return h
}

// newSecret is a random password that is easy to type: 16 characters, 80 bits.
func newSecret() cluster.Secret {
	return cluster.Secret(strings.ToLower(rand.Text()[:16]))
}

// session is one run of a command against a cluster.
type session struct {
	name     string
	worker   hypervisor.Worker
	enroller enrol.Enroller // nil: no bare metal service is involved
	found    cluster.State

	leaveIronic bool // the bare metal service is not involved, whatever is remembered
}

// open connects to the cluster's hypervisors and its bare metal service and
// reads what there is. file is nil for commands that need none. The caller
// closes the session.
func (a *app) open(ctx context.Context, name string, file *config.File) (*session, error) {
	w, err := a.worker()
	if err != nil {
		return nil, err
	}
	return a.read(ctx, &session{name: name, worker: w}, file)
}

func (s *session) close() { _ = s.worker.Close() }

func (s *session) workers() map[string]hypervisor.Worker {
	return map[string]hypervisor.Worker{s.worker.Name(): s.worker}
}

// read fills in what was found: the hypervisors first, since they remember
// which bare metal service the nodes are enrolled in.
func (a *app) read(ctx context.Context, s *session, file *config.File) (*session, error) {
	s.found = observe.Read(ctx, s.name, []hypervisor.Worker{s.worker}, nil, observe.Options{})
	err := a.openEnroller(ctx, s, file)
	var down *serviceDown
	switch {
	case errors.As(err, &down):
		cause := down.Error()
		if advice := hint.Of(err); advice != "" {
			cause += " (" + advice + ")"
		}
		s.found.Unknown = append(s.found.Unknown, cluster.Unknown{Cause: cause})
	case err != nil:
		s.close()
		return nil, err
	case s.enroller != nil:
		service := observe.Read(ctx, s.name, nil, s.enroller, observe.Options{})
		s.found.Enrolments = service.Enrolments
		s.found.Strangers = append(s.found.Strangers, service.Strangers...)
		s.found.Unknown = append(s.found.Unknown, service.Unknown...)
	}
	return s, nil
}

// serviceDown says that the bare metal service did not answer, which leaves the
// enrolments unknown and holds up nothing else.
type serviceDown struct{ err error }

func (e *serviceDown) Error() string { return e.err.Error() }
func (e *serviceDown) Unwrap() error { return e.err }

// openTime is how long the bare metal service may take to say that it is there.
const openTime = 30 * time.Second

// openEnroller connects to the service that the file names, or that the
// hypervisors remember.
func (a *app) openEnroller(ctx context.Context, s *session, file *config.File) error {
	var remembered string
	if len(s.found.Clouds) > 0 {
		remembered = s.found.Clouds[0].ID
	}
	var o ironic.Options
	switch {
	case s.leaveIronic:
		return nil
	case file != nil && file.Ironic != nil:
		o.Cloud = file.Ironic.Cloud
	case remembered != "":
		var err error
		if o, err = ironic.FromID(remembered); err != nil {
			return err
		}
	default:
		return nil
	}
	o.Log = a.log
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	e, err := ironic.Open(ctx, o)
	if err != nil {
		if ctx.Err() == context.DeadlineExceeded { // that is us, and says more than how
			return &serviceDown{fmt.Errorf("no answer within %s", openTime)}
		}
		if ironic.Unreachable(err) {
			return &serviceDown{err}
		}
		return err
	}
	if remembered != "" && e.ID() != remembered {
		return hint.Add(fmt.Errorf("cluster %s is enrolled in %s, and would now be enrolled in %s", s.name, remembered, e.ID()),
			"use the same service as before, or unenrol first: tenks destroy %s", s.name)
	}
	s.enroller = e
	return nil
}

// clusterOf finds out which cluster a command is about: the one that is named,
// the one of the file, or the only one on this machine. The file comes with it
// if there is one.
func (a *app) clusterOf(args []string, fileGiven bool) (string, *config.File, error) {
	if len(args) > 0 {
		return args[0], nil, config.CheckCluster(args[0])
	}
	if _, err := os.Stat(a.file); fileGiven || err == nil {
		f, err := config.Load(a.file)
		if err != nil {
			return "", nil, err
		}
		return f.Cluster, &f, nil
	}
	host, err := a.deployHost()
	if err != nil {
		return "", nil, err
	}
	names, err := host.Clusters()
	switch {
	case err != nil:
		return "", nil, err
	case len(names) == 1:
		return names[0], nil, nil
	case len(names) == 0:
		return "", nil, hint.Add(fmt.Errorf("there is no %s here, and no cluster on this machine", a.file), "start with: tenks init")
	}
	return "", nil, hint.Add(fmt.Errorf("there is no %s here, and several clusters on this machine", a.file), "name one of them: %s", strings.Join(names, ", "))
}
