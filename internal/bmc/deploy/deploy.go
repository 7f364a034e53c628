// Package deploy puts the BMCs of a cluster on a hypervisor and reads them
// back: it writes the list of BMCs, starts the process that serves it (package
// bmc) and stops it again. It keeps the cluster's folder on the hypervisor,
// which is also where the memory of the cluster's cloud and its lock are.
package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/tenks/tenks/internal/bmc"
	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// DefaultRoot is where clusters are kept unless the user says otherwise. It is
// removed with the last of them.
const DefaultRoot = "/var/lib/tenks"

// Host is a hypervisor: this machine. Methods are safe for concurrent use.
type Host struct {
	Root          string // has a folder for each cluster
	Binary        string // the tenks executable that BMC processes are made of
	LibvirtSocket string
	User          string // system user that BMC processes run as; "" or unknown: the current one
	Systemd       bool   // systemd supervises BMC processes; otherwise tenks does
	Log           *slog.Logger

	// UnitDir is where units go; empty means /etc/systemd/system.
	UnitDir string
	// Systemctl runs systemctl; nil runs the real one.
	Systemctl func(ctx context.Context, args ...string) error

	mu sync.Mutex // held while a list is rewritten and served
}

// Names in a cluster's folder, beside those of package bmc.
const (
	cloudFile       = "cloud.json"
	syntheticFolder = "synthetic" // see provider/synthetic
)

func (h *Host) log() *slog.Logger { return cmp.Or(h.Log, slog.New(slog.DiscardHandler)) }

func (h *Host) folder(clusterName string) string { return filepath.Join(h.Root, clusterName) }

// Clusters lists the clusters that have a folder here, sorted.
func (h *Host) Clusters() ([]string, error) {
	entries, err := os.ReadDir(h.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// open opens the cluster's folder, making it if need be, and gives it to the
// user that BMC processes run as.
func (h *Host) open(clusterName string) (*os.Root, error) {
	if err := os.MkdirAll(h.Root, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(h.folder(clusterName), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	as := h.runAs()
	if as.uid != os.Geteuid() {
		err := filepath.WalkDir(h.folder(clusterName), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, as.uid, as.gid)
		})
		if err != nil {
			return nil, fmt.Errorf("give the folder to user %s: %w", h.User, err)
		}
	}
	return os.OpenRoot(h.folder(clusterName))
}

// list reads the cluster's list of BMCs; an empty one if there is none.
func (h *Host) list(clusterName string) (bmc.List, error) {
	l, err := bmc.ReadList(h.folder(clusterName))
	if errors.Is(err, fs.ErrNotExist) {
		return bmc.List{Cluster: clusterName}, nil
	}
	return l, err
}

// Create adds BMCs to those that are there and returns when they answer. Those
// that exist already are brought up to date.
func (h *Host) Create(ctx context.Context, clusterName string, bmcs []cluster.BMC) error {
	return h.put(ctx, clusterName, bmcs)
}

// Update brings BMCs up to date and returns when they answer. BMCs that have
// not changed keep their sessions.
func (h *Host) Update(ctx context.Context, clusterName string, bmcs []cluster.BMC) error {
	return h.put(ctx, clusterName, bmcs)
}

func (h *Host) put(ctx context.Context, clusterName string, bmcs []cluster.BMC) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, err := h.list(clusterName)
	if err != nil {
		return err
	}
	entries := map[string]bmc.Entry{}
	for _, e := range l.BMCs {
		entries[e.Node] = e
	}
	for _, b := range bmcs {
		entries[b.Node] = bmc.Entry{
			Node: b.Node, UUID: b.UUID, Serial: cluster.Serial(clusterName, b.Node), Provider: b.Provider,
			Address: b.Address, Port: b.Port, Username: b.Username, Password: string(b.Password),
		}
	}
	l.Cluster, l.LibvirtSocket, l.BMCs = clusterName, h.LibvirtSocket, sorted(entries)
	st, err := h.serve(ctx, clusterName, l)
	if err != nil {
		return err
	}
	listening := map[string]string{} // why not, by node
	for _, b := range st.BMCs {
		if b.Listening {
			listening[b.Node] = ""
		} else {
			listening[b.Node] = cmp.Or(b.Error, "it does not say why")
		}
	}
	var errs []error
	for _, b := range bmcs {
		if why, served := listening[b.Node]; !served || why != "" {
			errs = append(errs, hint.Add(fmt.Errorf("BMC of %s does not listen at %s:%d: %s", b.Node, b.Address, b.Port, cmp.Or(why, "it is not served")),
				"see who has the address (ss -ulpn), or choose others (bmc: in the file)"))
		}
	}
	return errors.Join(errs...)
}

func sorted(entries map[string]bmc.Entry) []bmc.Entry {
	list := make([]bmc.Entry, 0, len(entries))
	for _, e := range entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b bmc.Entry) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// Delete removes BMCs; those that are not there are no error. With the last one
// the process ends, and nothing of it stays.
func (h *Host) Delete(ctx context.Context, clusterName string, bmcs []cluster.BMC) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, err := h.list(clusterName)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, b := range bmcs {
		gone[b.Node] = true
	}
	l.BMCs = slices.DeleteFunc(l.BMCs, func(e bmc.Entry) bool { return gone[e.Node] })
	if len(l.BMCs) > 0 {
		if _, err := h.serve(ctx, clusterName, l); err != nil {
			return err
		}
	} else if err := h.retire(ctx, clusterName); err != nil {
		return err
	}
	for node := range gone {
		if err := remove(filepath.Join(h.folder(clusterName), bmc.MemoryDir, node+".json")); err != nil {
			return err
		}
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// retire ends the process and removes all that was made for it.
func (h *Host) retire(ctx context.Context, clusterName string) error {
	root, err := os.OpenRoot(h.folder(clusterName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := h.stop(ctx, clusterName, root); err != nil {
		return err
	}
	// The list goes last: as long as it is there, the BMCs are known.
	for _, name := range []string{bmc.PasswordFile, bmc.SocketFile, bmc.LogFile, bmc.LogFile + bmc.OldSuffix, bmc.PIDFile, bmc.BinaryFile, bmc.ListFile} {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// serve writes the list and has the process serve it.
func (h *Host) serve(ctx context.Context, clusterName string, l bmc.List) (bmc.Status, error) {
	root, err := h.open(clusterName)
	if err != nil {
		return bmc.Status{}, err
	}
	defer func() { _ = root.Close() }()
	text, err := l.Encode()
	if err != nil {
		return bmc.Status{}, err
	}
	password := ""
	if len(l.BMCs) > 0 {
		password = l.BMCs[0].Password
	}
	if err := bmc.WriteFile(root, bmc.ListFile, text, 0o600); err != nil {
		return bmc.Status{}, fmt.Errorf("list of BMCs: %w", err)
	}
	if err := bmc.WriteFile(root, bmc.PasswordFile, []byte(password+"\n"), 0o600); err != nil {
		return bmc.Status{}, fmt.Errorf("password file: %w", err)
	}
	return h.run(ctx, clusterName, root, bmc.Hash(text))
}

// cloudMemory is the file that remembers the cloud.
type cloudMemory struct {
	ID string `json:"id"`
}

// RememberCloud keeps the ID of the service that nodes are enrolled in.
func (h *Host) RememberCloud(_ context.Context, clusterName, id string) error {
	root, err := h.open(clusterName)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	text, err := json.Marshal(cloudMemory{id})
	if err != nil {
		return err
	}
	return bmc.WriteFile(root, cloudFile, append(text, '\n'), 0o600)
}

// ForgetCloud ends that.
func (h *Host) ForgetCloud(_ context.Context, clusterName string) error {
	return remove(filepath.Join(h.folder(clusterName), cloudFile))
}

// Sweep removes the cluster's folder if nothing is left in it that matters: no
// BMC, no synthetic node, no cloud. What is not Tenks' stays, and the folder.
func (h *Host) Sweep(clusterName string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	folder := h.folder(clusterName)
	for _, name := range []string{bmc.ListFile, cloudFile} {
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			return nil
		}
	}
	_ = os.Remove(filepath.Join(folder, syntheticFolder)) // fails while there are nodes
	if _, err := os.Stat(filepath.Join(folder, syntheticFolder)); err == nil {
		return nil
	}
	// What an interrupted Delete may have left.
	memories, err := os.ReadDir(filepath.Join(folder, bmc.MemoryDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, m := range memories {
		if err := remove(filepath.Join(folder, bmc.MemoryDir, m.Name())); err != nil {
			return err
		}
	}
	temps, _ := filepath.Glob(filepath.Join(folder, bmc.TempPrefix+"*")) // the pattern is right
	for _, path := range append(temps, filepath.Join(folder, bmc.MemoryDir)) {
		if err := remove(path); err != nil {
			return err
		}
	}
	if err := remove(folder); err != nil {
		h.log().Warn("the cluster's folder stays", "err", err)
	}
	return nil
}
