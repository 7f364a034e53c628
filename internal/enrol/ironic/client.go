package ironic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// How often and how long a request is made again.
const (
	firstPause     = 200 * time.Millisecond // doubled up to lastPause
	lastPause      = 3 * time.Second
	lockPatience   = 5 * time.Minute // a node's lock may be held by a slow BMC
	busyAttempts   = 8               // 502, 503, 504, 429: no worker, a restart
	failedAttempts = 4               // 500, a broken connection
)

// client talks to Ironic's REST API.
type client struct {
	root      *url.URL // without /v1
	minor     int      // version of the API
	settings  settings
	http      *http.Client
	authorize func(*http.Request)
	renew     func(ctx context.Context, old string) error // the token; nil if there is none
	secrets   []string
	log       *slog.Logger
	pause     time.Duration
}

// apiError is an answer that is no success.
type apiError struct {
	Method, Path string
	Status       int
	Text         string // Ironic's own words, on one line
}

// Error implements error.
func (e *apiError) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s", e.Method, e.Path, e.Status, http.StatusText(e.Status), e.Text)
}

// locked tells whether the node is busy, so that asking again will do.
func (e *apiError) locked() bool {
	return e.Status == http.StatusConflict &&
		(strings.Contains(e.Text, "is locked by host") || strings.Contains(e.Text, "state transition is in progress"))
}

// hasStatus tells whether err is an answer with that status.
func hasStatus(err error, status int) bool {
	var answer *apiError
	return errors.As(err, &answer) && answer.Status == status
}

// do makes a request, again where that helps, and decodes the answer into out.
// words are secrets in the request: errors do not have them.
//
// A request may have been carried out although its connection broke. All that
// this package asks for can be asked for twice; only a creation then ends in a
// conflict, which its caller looks into.
func (c *client) do(ctx context.Context, method, path string, in, out any, words ...string) error {
	start := time.Now()
	renewed := false
	for attempt := 1; ; attempt++ {
		_, err := c.once(ctx, method, path, in, out, words...)
		if err == nil {
			return nil
		}
		if hasStatus(err, http.StatusUnauthorized) && c.renew != nil && !renewed {
			renewed = true
			probe := &http.Request{Header: http.Header{}}
			c.authorize(probe)
			if c.renew(ctx, probe.Header.Get("X-Auth-Token")) == nil {
				continue
			}
		}
		if ctx.Err() != nil || !again(err, attempt, time.Since(start)) {
			return err
		}
		pause := min(c.pause<<min(attempt-1, 10), lastPause)
		pause = pause/2 + rand.N(pause) // jitter: those that collided part
		c.log.LogAttrs(ctx, slog.LevelDebug, "again", slog.Duration("pause", pause), slog.Any("err", err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// again tells whether a request that failed should be made again.
func again(err error, attempt int, elapsed time.Duration) bool {
	var answer *apiError
	if !errors.As(err, &answer) {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return false
		}
		broken := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE) ||
			errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		return broken && attempt < failedAttempts
	}
	switch answer.Status {
	case http.StatusConflict:
		return answer.locked() && elapsed < lockPatience
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return attempt < busyAttempts
	case http.StatusInternalServerError:
		return attempt < failedAttempts
	}
	return false
}

// once makes a request and returns the headers of the answer.
func (c *client) once(ctx context.Context, method, path string, in, out any, words ...string) (http.Header, error) {
	start := time.Now()
	status, header, err := c.exchange(ctx, method, path, in, out, words)
	bare, _, _ := strings.Cut(path, "?")
	c.log.LogAttrs(ctx, slog.LevelDebug, "request", slog.String("method", method), slog.String("path", bare),
		slog.Int("status", status), slog.Duration("took", time.Since(start).Round(time.Millisecond)))
	return header, c.scrub(err, words...)
}

func (c *client) exchange(ctx context.Context, method, path string, in, out any, words []string) (int, http.Header, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.root.String()+path, body)
	if err != nil {
		return 0, nil, err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "tenks")
	r.Header.Set("X-OpenStack-Ironic-API-Version", fmt.Sprintf("1.%d", c.minor))
	c.authorize(r)
	answer, err := c.http.Do(r)
	if err != nil {
		return 0, nil, plain(err)
	}
	defer answer.Body.Close()
	const most = 256 << 20
	text, err := io.ReadAll(io.LimitReader(answer.Body, most))
	if err != nil {
		return answer.StatusCode, answer.Header, plain(err)
	}
	fail := func(text string) error {
		bare, _, _ := strings.Cut(path, "?")
		return &apiError{method, bare, answer.StatusCode, c.hide(text, words...)}
	}
	if answer.StatusCode >= 300 {
		return answer.StatusCode, answer.Header, fail(message(answer.Header, text))
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			return answer.StatusCode, answer.Header, fail(message(answer.Header, nil))
		}
	}
	return answer.StatusCode, answer.Header, nil
}

// message is what an answer says, on one line. Ironic's own are
// {"error_message": …}, where … is an object or the text of one, with the
// member faultstring; those of its middlewares {"error": {"message": …}}.
func message(h http.Header, body []byte) string {
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if kind != "application/json" && kind != "" {
		return fmt.Sprintf("the answer is %s, not JSON", kind)
	}
	var answer struct {
		Message json.RawMessage `json:"error_message"`
		Error   struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "the answer is not JSON"
	}
	inner, text := []byte(answer.Message), ""
	if json.Unmarshal(inner, &text) == nil {
		inner = []byte(text)
	}
	var fault struct {
		Text string `json:"faultstring"`
	}
	if json.Unmarshal(inner, &fault) == nil && fault.Text != "" {
		text = fault.Text
	}
	if text = first(text, answer.Error.Message); text == "" {
		return "no reason given"
	}
	return oneLine(text)
}

// oneLine is a text without line breaks and not too long.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	const most = 500
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// plain removes the request from an error of net/http: it is named elsewhere.
func plain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		if wrapped.Timeout() && strings.Contains(wrapped.Err.Error(), "Client.Timeout") {
			return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
		}
		return wrapped.Err
	}
	return err
}

// scrub removes secrets from the text of an error; what it wraps stays.
func (c *client) scrub(err error, words ...string) error {
	if err == nil {
		return nil
	}
	text := c.hide(err.Error(), words...)
	if text == err.Error() {
		return err
	}
	var answer *apiError
	if errors.As(err, &answer) { // its own text is already clean
		return &apiError{answer.Method, answer.Path, answer.Status, c.hide(answer.Text, words...)}
	}
	return errors.New(text)
}

// hide replaces secrets in a text, as they are and as JSON has them.
func (c *client) hide(text string, words ...string) string {
	for _, list := range [][]string{c.secrets, words} {
		for _, w := range list {
			if w == "" {
				continue
			}
			text = strings.ReplaceAll(text, w, "(hidden)")
			if quoted, err := json.Marshal(w); err == nil {
				text = strings.ReplaceAll(text, strings.Trim(string(quoted), `"`), "(hidden)")
			}
		}
	}
	return text
}
