package ipmi

import (
	"bytes"
	"crypto/subtle"
	"errors"

	"github.com/tenks/tenks/internal/bmc/account"
	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
)

// userIDMask covers a user ID on the wire.
const userIDMask = 0x3f

// Bits of the third byte of Get User Access (§22.27, table 22-34).
const (
	accessCallbackOnly = 0x40
	accessLink         = 0x20
	accessMessaging    = 0x10
	accessNone         = 0x0f // in place of a privilege level
)

// accountOf returns the account that a byte names. User 1 is the null user.
func (s *Server) accountOf(b uint8) (a account.Account, null bool, c code) {
	id := int(b & userIDMask)
	if id == account.FirstID-1 {
		return account.Account{ID: id, Role: account.NoAccess}, true, ok
	}
	a, err := s.Accounts.Get(id)
	if err != nil {
		return a, false, invalidField
	}
	return a, false, ok
}

// setAccount changes an account by a command of session v. If that is v's own,
// v stays as far as the account lets it: its client wants to close it.
func (s *Server) setAccount(v *session, a account.Account) code {
	if err := s.Accounts.Set(a); err != nil {
		return accountCode(err)
	}
	if v.account.ID != a.ID {
		return ok
	}
	now, err := s.Accounts.Get(a.ID)
	may := none
	if err == nil && now.Enabled && !now.NoIPMI {
		may = levelOf(now.Role)
	}
	v.account = now
	if may == none {
		v.leaving, may = true, callback // which may only close it
	}
	v.limit, v.privilege = min(v.limit, may), min(v.privilege, may)
	if s.sol != nil && s.sol.session == v && (v.leaving || now.NoSOL) {
		s.endSOL("")
	}
	return ok
}

// accountCode is the completion code of an error of the accounts.
func accountCode(err error) code {
	for _, mistake := range []error{account.ErrID, account.ErrName, account.ErrTaken, account.ErrPassword, account.ErrRole} {
		if errors.Is(err, mistake) {
			return invalidField
		}
	}
	if errors.Is(err, account.ErrLast) {
		return wrongState
	}
	return codeFor(err)
}

func getUserAccess(s *Server, q *request, out []byte) (code, []byte) {
	const enabled, disabled, fixedNames = 0x40, 0x80, 1 // the null user's
	d := q.message.Data
	if _, found := channelOf(d[0]); !found {
		return invalidField, out
	}
	a, _, c := s.accountOf(d[1])
	if c != ok {
		return c, out
	}
	count := uint8(0)
	for _, o := range s.Accounts.List() {
		if o.Enabled {
			count++
		}
	}
	status, access := uint8(disabled), uint8(accessNone)
	if a.Enabled {
		status = enabled
	}
	if level := levelOf(a.Role); level != none {
		access = uint8(level)
	}
	if a.Name != "" && !a.NoIPMI {
		access |= accessMessaging
	}
	return ok, append(out, account.LastID, status|count, fixedNames, access)
}

func setUserAccess(s *Server, q *request, out []byte) (code, []byte) {
	const change = 0x80
	d := q.message.Data
	_, found := channelOf(d[0])
	a, null, c := s.accountOf(d[1])
	if !found || null || c != ok {
		return invalidField, out
	}
	switch level := d[2] & 0x0f; level {
	case uint8(user):
		a.Role = account.ReadOnly
	case uint8(operator):
		a.Role = account.Operator
	case uint8(administrator):
		a.Role = account.Administrator
	case accessNone:
		a.Role = account.NoAccess
	default: // callback, OEM
		return invalidField, out
	}
	if d[0]&change != 0 {
		if d[0]&accessCallbackOnly != 0 { // there is no call-back
			return invalidField, out
		}
		a.NoIPMI = d[0]&accessMessaging == 0
	}
	if a.Name == "" {
		return wrongState, out // there is nobody yet
	}
	return s.setAccount(q.session, a), out
}

func getUserName(s *Server, q *request, out []byte) (code, []byte) {
	a, _, c := s.accountOf(q.message.Data[0])
	if c != ok {
		return c, out
	}
	var name [wire.NameMax]byte
	copy(name[:], a.Name)
	return ok, append(out, name[:]...)
}

// setUserName names an account, or removes it.
func setUserName(s *Server, q *request, out []byte) (code, []byte) {
	d := q.message.Data
	a, null, c := s.accountOf(d[0])
	name, _, _ := bytes.Cut(d[1:1+wire.NameMax], []byte{0})
	switch {
	case c != ok:
		return c, out
	case null && len(name) == 0:
		return ok, out // it has none
	case null:
		return invalidField, out
	case a.Name == string(name):
		return ok, out
	case len(name) == 0:
		a = account.Account{ID: a.ID, Role: account.NoAccess}
	}
	a.Name = string(name)
	return s.setAccount(q.session, a), out
}

func setUserPassword(s *Server, q *request, out []byte) (code, []byte) {
	const (
		long                             = 0x80 // the password has 20 bytes, not 16
		disable, enable, set, test uint8 = 0, 1, 2, 3
		wrong, wrongSize           code  = 0x80, 0x81
		shortMax                         = 16
	)
	d := q.message.Data
	a, null, c := s.accountOf(d[0])
	switch {
	case c != ok:
		return c, out
	case null && d[1]&3 == disable:
		return ok, out // it is
	case null:
		return invalidField, out
	case a.Name == "":
		return wrongState, out // there is nobody yet
	}
	size := shortMax
	if d[0]&long != 0 {
		size = account.PasswordMax
	}
	operation, d := d[1]&3, d[2:]
	if operation >= set && len(d) != size {
		return invalidLength, out
	}
	password := string(bytes.TrimRight(d, "\x00"))
	switch operation {
	case disable:
		a.Enabled = false
	case enable:
		a.Enabled = true
	case set:
		a.Password = password
	case test:
		switch {
		case len(a.Password) > size:
			return wrongSize, out
		case subtle.ConstantTimeCompare([]byte(a.Password), []byte(password)) != 1:
			return wrong, out
		}
		return ok, out
	}
	return s.setAccount(q.session, a), out
}
