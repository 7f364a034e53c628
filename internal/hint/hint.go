// Package hint attaches advice to errors: the error says what is wrong, the
// hint says what to do about it. The command line prints the two apart.
package hint

import (
	"errors"
	"fmt"
)

type hinted struct {
	err  error
	text string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// Add returns err with advice attached. The advice is an imperative sentence
// without a full stop: "run: tenks host setup". Add(nil, …) is nil.
func Add(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// Of returns the outermost hint of err, or "" if it has none. It does not look
// into errors that [errors.Join] put together: use [Each] for those.
func Of(err error) string {
	for err != nil {
		if h, ok := err.(*hinted); ok { //nolint:errorlint // the loop unwraps, and stops at joined errors
			return h.text
		}
		err = errors.Unwrap(err)
	}
	return ""
}

// Each calls f for every error that was joined into err, in order, with its
// hint; an error that is not joined is its own only part.
func Each(err error, f func(err error, hint string)) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			Each(e, f)
		}
		return
	}
	f(err, Of(err))
}
