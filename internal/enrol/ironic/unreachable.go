package ironic

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
)

// Unreachable tells whether an error of [Open] says that the service, or its
// Keystone, does not answer at the moment: no connection, no answer in time, an
// error of the server's. Wrong credentials and wrong settings are not that.
func Unreachable(err error) bool {
	var answer *apiError
	if errors.As(err, &answer) {
		return answer.Status >= http.StatusInternalServerError
	}
	var broken net.Error
	return errors.As(err, &broken) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
