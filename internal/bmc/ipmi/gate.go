package ipmi

import (
	"bytes"
	"fmt"
	"time"

	"github.com/tenks/tenks/internal/bmc/fault"
	"github.com/tenks/tenks/internal/bmc/ipmi/wire"
)

// visit is a request that has passed the gate, until it is answered.
type visit struct {
	request fault.Request
	effect  fault.Effect
	start   time.Time
}

// maxDelayed is how many requests may wait at a time because the gate wants so;
// one more is not answered.
const maxDelayed = 256

func (s *Server) visit(operation, detail string, from peer) *visit {
	v := &visit{request: fault.Request{Protocol: fault.IPMI, Operation: operation, From: from.String(), Detail: detail}, start: time.Now()}
	v.effect = fault.Enter(s.ctx, s.Gate, v.request)
	return v
}

// leave tells the gate what was answered; nothing happens if v is nil.
func (s *Server) leave(v *visit, answer string) {
	if v != nil {
		fault.Leave(s.ctx, s.Gate, v.request, answer, time.Since(v.start))
	}
}

// enter asks the gate about q, and tells whether q is to be answered now.
func (s *Server) enter(q *request) bool {
	m := &q.message
	q.visit = s.visit(operationOf(m), detailOf(m), q.from)
	switch e := q.visit.effect; {
	case e.Delay > 0:
		later := *q
		later.message.Data = bytes.Clone(m.Data)
		s.delay(q.visit, func() {
			if v := later.session; v != nil && s.sessions.byID[v.id] != v {
				s.leave(later.visit, "no answer")
				return
			}
			later.now = time.Now()
			s.perform(&later)
		})
		return false
	case e.Drop:
		s.leave(q.visit, "no answer")
		return false
	}
	return true
}

// delay calls f with s.mu held when the time that the gate wants is over,
// unless the answer is to be dropped then. Others are answered meanwhile.
func (s *Server) delay(v *visit, f func()) {
	if s.delayed >= maxDelayed {
		s.leave(v, "no answer")
		return
	}
	s.delayed++
	ctx := s.ctx
	if !s.spawn(func() {
		t := time.NewTimer(v.effect.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.delayed--
		if ctx.Err() != nil || v.effect.Drop {
			s.leave(v, "no answer")
			return
		}
		s.compareAccounts()
		f()
	}) {
		s.delayed--
	}
}

// operationOf is the name of a command, for people and for rules.
func operationOf(m *wire.Message) string {
	if c, known := commands[keyOf(m)]; known {
		return c.name
	}
	return fmt.Sprintf("command %02Xh/%02Xh", m.NetFn, m.Command)
}

// detailOf is the data of a command, unless they hold a password.
func detailOf(m *wire.Message) string {
	const most = 24
	if keyOf(m) == (key{wire.NetFnApp, cmdSetUserPassword}) || len(m.Data) == 0 {
		return ""
	}
	return fmt.Sprintf("% x", m.Data[:min(len(m.Data), most)])
}
