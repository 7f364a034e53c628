// Package account is who may log in to a BMC, by whatever protocol. It checks
// nothing on the wire: protocols do, with the passwords that it has.
package account

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Role is what an account may do.
type Role string

// The roles, IPMI's privilege levels and Redfish's predefined roles alike
// (IPMI v2.0 §6.8; DSP0266 §13.6). NoAccess may log in nowhere.
const (
	NoAccess      Role = "no access"
	ReadOnly      Role = "read only" // IPMI: user
	Operator      Role = "operator"
	Administrator Role = "administrator"
)

// Limits of accounts: IPMI's, because every account is for every protocol
// (IPMI v2.0 §22.28, §22.30).
const (
	FirstID     = 2 // 1 is IPMI's null user, which nobody may use
	LastID      = 15
	NameMax     = 16 // bytes
	PasswordMax = 20 // bytes
)

// Account may log in.
type Account struct {
	ID       int    `json:"id"`
	Name     string `json:"name"`     // "": the ID is free
	Password string `json:"password"` // "": it cannot log in yet
	Role     Role   `json:"role"`
	Enabled  bool   `json:"enabled"`
	NoIPMI   bool   `json:"no_ipmi,omitempty"` // IPMI messaging is off for it (IPMI v2.0 §22.26)
	NoSOL    bool   `json:"no_sol,omitempty"`  // so is Serial over LAN (IPMI v2.0 §24.6)
}

// Errors of [Table.Set].
var (
	ErrID       = errors.New("there is no account with this ID")
	ErrName     = errors.New("a name has 1 to 16 bytes without blanks and control characters")
	ErrTaken    = errors.New("another account has this name")
	ErrPassword = errors.New("a password has at most 20 bytes, none of them zero")
	ErrRole     = errors.New("unknown role")
	ErrLast     = errors.New("the last enabled administrator must stay")
)

// Keeper remembers accounts; machine.Machine is one.
type Keeper interface {
	Remember(key string, v any) error
	Recall(key string, v any) (bool, error)
}

// Table is the accounts of one BMC. All methods are safe for concurrent use.
type Table struct {
	keep Keeper

	mu       sync.Mutex
	kept     bool    // keep has a memory
	file     Account // what the file says of FirstID
	accounts []Account
	watchers []*func()
}

// memory is what is remembered. The table is that of the file's account until a
// client changes an account, and again when the file's account changes.
type memory struct {
	File     Account   `json:"file"`
	Accounts []Account `json:"accounts"`
}

const key = "accounts"

// New returns the accounts of a BMC whose administrator, by the cluster's file,
// is name with password. Changes that clients made are kept in keep.
func New(keep Keeper, name, password string) (*Table, error) {
	t := &Table{keep: keep}
	var m memory
	there, err := keep.Recall(key, &m)
	if err != nil {
		return nil, err
	}
	if there {
		t.kept, t.file, t.accounts = true, m.File, m.Accounts
	}
	return t, t.Reset(name, password)
}

// Reset gives the account of the cluster's file another name or password; the
// file wins over what a client made of that account. The same name and password
// as before change nothing.
func (t *Table) Reset(name, password string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	want := Account{ID: FirstID, Name: name, Password: password, Role: Administrator, Enabled: true}
	if t.file == want {
		return nil
	}
	accounts := slices.DeleteFunc(slices.Clone(t.accounts), func(a Account) bool { return a.ID == FirstID || a.Name == name })
	if len(accounts) > 0 {
		return t.save(want, append(accounts, want))
	}
	// Nothing but the file's account: there is nothing to remember.
	if t.kept {
		if err := t.keep.Remember(key, nil); err != nil {
			return err
		}
	}
	t.kept, t.file, t.accounts = false, want, []Account{want}
	t.changed()
	return nil
}

// List returns the accounts that have a name, by ID.
func (t *Table) List() []Account {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.accounts)
}

// Get returns the account with that ID; one without a name if the ID is free.
func (t *Table) Get(id int) (Account, error) {
	if id < FirstID || id > LastID {
		return Account{}, fmt.Errorf("account %d: %w", id, ErrID)
	}
	for _, a := range t.List() {
		if a.ID == id {
			return a, nil
		}
	}
	return Account{ID: id, Role: NoAccess}, nil
}

// Named returns the account with that name, if it may log in at all.
func (t *Table) Named(name string) (Account, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.accounts {
		if a.Name == name && name != "" && a.Enabled && a.Password != "" && a.Role != NoAccess {
			return a, true
		}
	}
	return Account{}, false
}

// Set makes or changes the account a.ID; an empty name removes it.
func (t *Table) Set(a Account) error {
	if err := a.check(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	admin := false
	accounts := make([]Account, 0, len(t.accounts)+1)
	for _, o := range t.accounts {
		if o.ID == a.ID {
			continue
		}
		if o.Name == a.Name {
			return fmt.Errorf("account %q: %w", a.Name, ErrTaken)
		}
		admin = admin || o.administers()
		accounts = append(accounts, o)
	}
	if a.Name != "" {
		admin = admin || a.administers()
		accounts = append(accounts, a)
	}
	if !admin {
		return ErrLast
	}
	return t.save(t.file, accounts)
}

// administers tells whether a can log in and change accounts.
func (a Account) administers() bool { return a.Role == Administrator && a.Enabled && a.Password != "" }

func (a Account) check() error {
	if a.ID < FirstID || a.ID > LastID {
		return fmt.Errorf("account %d: %w", a.ID, ErrID)
	}
	if len(a.Name) > NameMax {
		return ErrName
	}
	for _, c := range []byte(a.Name) {
		if c <= ' ' || c == 0x7f {
			return ErrName
		}
	}
	if len(a.Password) > PasswordMax || slices.Contains([]byte(a.Password), 0) {
		return ErrPassword
	}
	switch a.Role {
	case NoAccess, ReadOnly, Operator, Administrator:
		return nil
	}
	return fmt.Errorf("%q: %w", a.Role, ErrRole)
}

// save keeps the accounts and what the file says, and then uses them; t.mu is held.
func (t *Table) save(file Account, accounts []Account) error {
	slices.SortFunc(accounts, func(a, b Account) int { return cmp.Compare(a.ID, b.ID) })
	if err := t.keep.Remember(key, memory{file, accounts}); err != nil {
		return err
	}
	t.kept, t.file, t.accounts = true, file, accounts
	t.changed()
	return nil
}

// Watch has f called after every change, until stop is called: sessions of
// accounts that are gone must end. f must not wait, nor call the table.
func (t *Table) Watch(f func()) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, &f)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.watchers = slices.DeleteFunc(t.watchers, func(o *func()) bool { return o == &f })
	}
}

func (t *Table) changed() {
	for _, f := range t.watchers {
		(*f)()
	}
}
