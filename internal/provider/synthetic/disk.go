package synthetic

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/hint"
)

// disk is a store of files: dir/<cluster>/synthetic/<node>.json and .state. A
// node that is on has a .state, one that is off has none.
type disk struct{ dir string }

// Parts of names in the folder.
const (
	folder     = "synthetic"
	definition = ".json"
	state      = ".state"
	temp       = ".tenks-" // prefix of what is not complete yet
)

// open opens the folder of the cluster's nodes. All access goes through an
// [os.Root], because the folder may belong to another user, the BMC process's.
func (d disk) open(clusterName string) (*os.Root, error) {
	if clusterName == "" || strings.HasPrefix(clusterName, ".") || filepath.Base(clusterName) != clusterName {
		return nil, fmt.Errorf("%q is not the name of a cluster", clusterName)
	}
	return os.OpenRoot(filepath.Join(d.dir, clusterName, folder))
}

// in calls f with the folder, or returns errNoNode if there is none.
func (d disk) in(clusterName, name string, f func(root *os.Root) error) error {
	if name == "" || strings.HasPrefix(name, ".") || filepath.Base(name) != name {
		return fmt.Errorf("%q is not the name of a node", name)
	}
	root, err := d.open(clusterName)
	if errors.Is(err, fs.ErrNotExist) {
		return errNoNode
	}
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return f(root)
}

func (d disk) list(clusterName string) ([]cluster.Node, error) {
	root, err := d.open(clusterName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var nodes []cluster.Node
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), definition)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		n, err := read(root, name)
		if errors.Is(err, errNoNode) {
			continue // deleted at this moment
		}
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// read reads a definition.
func read(root *os.Root, name string) (cluster.Node, error) {
	text, err := root.ReadFile(name + definition)
	if errors.Is(err, fs.ErrNotExist) {
		return cluster.Node{}, errNoNode
	}
	if err != nil {
		return cluster.Node{}, err
	}
	var n cluster.Node
	if err := json.Unmarshal(text, &n); err != nil || n.Name != name {
		path := filepath.Join(root.Name(), name+definition)
		return cluster.Node{}, hint.Add(fmt.Errorf("%s is not the definition of node %s", path, name),
			"remove %s and run tenks apply", path)
	}
	return n, nil
}

func (d disk) node(clusterName, name string) (n cluster.Node, err error) {
	err = d.in(clusterName, name, func(root *os.Root) error {
		n, err = read(root, name)
		return err
	})
	return n, err
}

// stamp and on are asked for every packet: one lstat(2) each.
func (d disk) stamp(clusterName, name string) (stamp, error) {
	info, err := os.Lstat(filepath.Join(d.dir, clusterName, folder, name+definition))
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, errNoNode
	}
	if err != nil {
		return stamp{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return stamp{st.Ino, st.Ctim.Nano()}, nil
}

func (d disk) on(clusterName, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(d.dir, clusterName, folder, name+state))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d disk) define(clusterName string, n cluster.Node) error {
	text, err := json.Marshal(defined(n))
	if err != nil {
		return err
	}
	for range 10 { // whoever deletes the last node at this moment removes the folder
		err = d.make(clusterName)
		if err == nil {
			err = d.in(clusterName, n.Name, func(root *os.Root) error {
				return replace(root, n.Name+definition, append(text, '\n'))
			})
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoNode) {
			break
		}
	}
	return err
}

// make makes the cluster's folder and ours in it, whatever of that is missing.
// A new root of all clusters is marked as made by Tenks by its sticky bit, as
// bmc/deploy does, so that the last cluster to go may take it along.
func (d disk) make(clusterName string) error {
	if err := os.Mkdir(d.dir, 0o711|os.ModeSticky); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	path := d.dir
	for _, name := range []string{clusterName, folder} {
		above, err := os.OpenRoot(path)
		if err != nil {
			return err
		}
		err = above.Mkdir(name, 0o700)
		if err == nil && name == folder {
			err = own(above, name)
		}
		_ = above.Close()
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		path = filepath.Join(path, name)
	}
	return nil
}

// own gives name to the owner of the folder it is in, if we may: the worker and
// the BMC process may be different users, and the folder tells which.
func own(root *os.Root, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	return root.Lchown(name, int(st.Uid), int(st.Gid))
}

// replace writes a file in one go.
func replace(root *os.Root, name string, text []byte) error {
	unfinished := temp + rand.Text()
	f, err := root.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, own(root, unfinished), f.Sync())
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(unfinished, name)
	}
	if err != nil {
		_ = root.Remove(unfinished)
	}
	return err
}

// remove removes the definition first, because that is what makes a node; then
// its power, and the folders if they are empty.
func (d disk) remove(clusterName, name string) error {
	err := d.in(clusterName, name, func(root *os.Root) error {
		for _, file := range []string{name + definition, name + state} {
			if err := root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNoNode) {
		return err
	}
	// A directory that is not empty stays: that is what rmdir(2) checks.
	_ = syscall.Rmdir(filepath.Join(d.dir, clusterName, folder))
	_ = syscall.Rmdir(filepath.Join(d.dir, clusterName))
	return nil
}

func (d disk) setOn(clusterName, name string, on bool) error {
	err := d.in(clusterName, name, func(root *os.Root) error {
		if on {
			return replace(root, name+state, []byte("on\n"))
		}
		err := root.Remove(name + state)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if !on && errors.Is(err, errNoNode) {
		return nil
	}
	return err
}
