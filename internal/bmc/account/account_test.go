package account_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenks/tenks/internal/bmc/account"
)

// keeper remembers in memory.
type keeper struct {
	notes  map[string]string
	fail   error
	writes int
}

func (k *keeper) Remember(key string, v any) error {
	if k.fail != nil {
		return k.fail
	}
	k.writes++
	if v == nil {
		delete(k.notes, key)
		return nil
	}
	text, err := json.Marshal(v)
	if k.notes == nil {
		k.notes = make(map[string]string)
	}
	k.notes[key] = string(text)
	return err
}

func (k *keeper) Recall(key string, v any) (bool, error) {
	text, there := k.notes[key]
	if !there {
		return false, nil
	}
	return true, json.Unmarshal([]byte(text), v)
}

func open(t *testing.T, k *keeper, name, password string) *account.Table {
	t.Helper()
	table, err := account.New(k, name, password)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func set(t *testing.T, table *account.Table, a account.Account) {
	t.Helper()
	if err := table.Set(a); err != nil {
		t.Fatal(err)
	}
}

var (
	admin    = account.Account{ID: 2, Name: "admin", Password: "secret", Role: account.Administrator, Enabled: true}
	operator = account.Account{ID: 5, Name: "oper", Password: "pass", Role: account.Operator, Enabled: true}
)

func TestFileAccountAlone(t *testing.T) {
	k := new(keeper)
	table := open(t, k, "admin", "secret")
	if diff := cmp.Diff([]account.Account{admin}, table.List()); diff != "" {
		t.Error(diff)
	}
	if k.writes != 0 {
		t.Errorf("a new table was written %d times; it has nothing to remember", k.writes)
	}
	if a, err := table.Get(3); err != nil || a != (account.Account{ID: 3, Role: account.NoAccess}) {
		t.Errorf("Get(3) = %+v, %v; want a free one", a, err)
	}
	for _, id := range []int{-1, 0, 1, 16} {
		if _, err := table.Get(id); !errors.Is(err, account.ErrID) {
			t.Errorf("Get(%d): %v, want ErrID", id, err)
		}
	}
}

func TestChangesOutliveTheProcess(t *testing.T) {
	k := new(keeper)
	table := open(t, k, "admin", "secret")
	set(t, table, operator)
	changed := admin
	changed.Password = "changed by a client"
	set(t, table, changed)
	if diff := cmp.Diff([]account.Account{changed, operator}, open(t, k, "admin", "secret").List()); diff != "" {
		t.Error(diff)
	}
}

func TestFileWins(t *testing.T) {
	k := new(keeper)
	table := open(t, k, "admin", "secret")
	set(t, table, operator)
	changed := admin
	changed.Name, changed.Password = "root", "calvin"
	set(t, table, changed)

	// Another password in the file: its account is as the file says, others stay.
	table = open(t, k, "admin", "rotated")
	want := admin
	want.Password = "rotated"
	if diff := cmp.Diff([]account.Account{want, operator}, table.List()); diff != "" {
		t.Error(diff)
	}
	// The file takes the name of a client's account: there is one of that name.
	if err := table.Reset("oper", "x"); err != nil {
		t.Fatal(err)
	}
	want = account.Account{ID: 2, Name: "oper", Password: "x", Role: account.Administrator, Enabled: true}
	if diff := cmp.Diff([]account.Account{want}, table.List()); diff != "" {
		t.Error(diff)
	}
	if len(k.notes) != 0 {
		t.Errorf("remembered although there is nothing but the file's account: %v", k.notes)
	}
}

func TestResetThatCannotBeKept(t *testing.T) {
	for _, others := range []bool{false, true} {
		k := new(keeper)
		table := open(t, k, "admin", "secret")
		other := operator
		if !others {
			other = admin
			other.Password = "changed"
		}
		set(t, table, other)
		before := table.List()
		called := false
		defer table.Watch(func() { called = true })()

		k.fail = errors.New("disk full")
		if err := table.Reset("admin", "rotated"); !errors.Is(err, k.fail) {
			t.Fatalf("Reset: %v, want the keeper's error", err)
		}
		if diff := cmp.Diff(before, table.List()); diff != "" || called {
			t.Errorf("changed although it could not be kept (watchers told: %t): %s", called, diff)
		}
		k.fail = nil
		if err := table.Reset("admin", "rotated"); err != nil {
			t.Fatal(err)
		}
		if a, _ := table.Get(2); a.Password != "rotated" {
			t.Error("the second try did nothing")
		}
	}
}

func TestSetErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		a    account.Account
		want error
	}{
		"null user":           {account.Account{ID: 1, Name: "x", Role: account.Operator}, account.ErrID},
		"ID 16":               {account.Account{ID: 16, Name: "x", Role: account.Operator}, account.ErrID},
		"blank":               {account.Account{ID: 3, Name: "a b", Role: account.Operator}, account.ErrName},
		"17 bytes":            {account.Account{ID: 3, Name: strings.Repeat("x", 17), Role: account.Operator}, account.ErrName},
		"taken":               {account.Account{ID: 3, Name: "admin", Role: account.Operator}, account.ErrTaken},
		"long password":       {account.Account{ID: 3, Name: "x", Password: strings.Repeat("x", 21), Role: account.Operator}, account.ErrPassword},
		"zero in password":    {account.Account{ID: 3, Name: "x", Password: "a\x00b", Role: account.Operator}, account.ErrPassword},
		"role":                {account.Account{ID: 3, Name: "x", Role: "king"}, account.ErrRole},
		"no role":             {account.Account{ID: 3, Name: "x"}, account.ErrRole},
		"last admin removed":  {account.Account{ID: 2, Role: account.NoAccess}, account.ErrLast},
		"last admin disabled": {account.Account{ID: 2, Name: "admin", Password: "secret", Role: account.Administrator}, account.ErrLast},
		"last admin demoted":  {account.Account{ID: 2, Name: "admin", Password: "secret", Role: account.Operator, Enabled: true}, account.ErrLast},
		"last admin locked":   {account.Account{ID: 2, Name: "admin", Role: account.Administrator, Enabled: true}, account.ErrLast},
	} {
		t.Run(name, func(t *testing.T) {
			table := open(t, new(keeper), "admin", "secret")
			set(t, table, operator)
			err := table.Set(tt.a)
			if !errors.Is(err, tt.want) {
				t.Errorf("Set: %v, want %v", err, tt.want)
			}
			if tt.a.Password != "" && err != nil && strings.Contains(err.Error(), tt.a.Password) {
				t.Errorf("the error has the password: %v", err)
			}
			if diff := cmp.Diff([]account.Account{admin, operator}, table.List()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSetThatCannotBeKept(t *testing.T) {
	k := new(keeper)
	table := open(t, k, "admin", "secret")
	k.fail = errors.New("disk full")
	if err := table.Set(operator); !errors.Is(err, k.fail) {
		t.Errorf("Set: %v", err)
	}
	if diff := cmp.Diff([]account.Account{admin}, table.List()); diff != "" {
		t.Error(diff)
	}
}

func TestRemove(t *testing.T) {
	table := open(t, new(keeper), "admin", "secret")
	set(t, table, operator)
	set(t, table, account.Account{ID: 5, Role: account.NoAccess})
	if diff := cmp.Diff([]account.Account{admin}, table.List()); diff != "" {
		t.Error(diff)
	}
}

func TestNamed(t *testing.T) {
	table := open(t, new(keeper), "admin", "secret")
	for i, change := range []func(*account.Account){
		func(*account.Account) {},
		func(a *account.Account) { a.Enabled = false },
		func(a *account.Account) { a.Password = "" },
		func(a *account.Account) { a.Role = account.NoAccess },
	} {
		a := operator
		change(&a)
		set(t, table, a)
		if _, able := table.Named("oper"); able != (i == 0) {
			t.Errorf("%+v: may log in: %t", a, able)
		}
	}
	if _, able := table.Named(""); able {
		t.Error("the empty name may log in")
	}
	if _, able := table.Named("ADMIN"); able {
		t.Error("names do not depend on the case of letters")
	}
}

func TestWatch(t *testing.T) {
	table := open(t, new(keeper), "admin", "secret")
	var first, second int
	stopFirst := table.Watch(func() { first++ })
	stopSecond := table.Watch(func() { second++ })
	set(t, table, operator)
	stopFirst()
	stopFirst() // twice is no error, and takes nobody else's place
	set(t, table, operator)
	if err := table.Reset("admin", "rotated"); err != nil {
		t.Fatal(err)
	}
	if err := table.Reset("admin", "rotated"); err != nil { // no change
		t.Fatal(err)
	}
	stopSecond()
	set(t, table, operator)
	if first != 1 || second != 3 {
		t.Errorf("called %d and %d times, want 1 and 3", first, second)
	}
}

func TestMemoryThatCannotBeRead(t *testing.T) {
	if _, err := account.New(&keeper{notes: map[string]string{"accounts": "["}}, "admin", "secret"); err == nil {
		t.Error("no error")
	}
}
