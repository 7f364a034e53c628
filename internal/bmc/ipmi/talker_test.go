package ipmi_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"github.com/tenks/tenks/internal/machine"
)

// talker is a computer with a serial console that repeats what is typed, in
// capitals.
type talker struct {
	hardware
	mu    sync.Mutex
	more  *sync.Cond
	text  []byte
	typed []byte
	deaf  bool // nothing that is typed is taken
	ended bool
	late  time.Duration // how long it takes to connect to the console
}

func newTalker() *talker {
	t := &talker{hardware: hardware{on: true}}
	t.more = sync.NewCond(&t.mu)
	return t
}

func (t *talker) Console(context.Context) (io.ReadWriteCloser, error) {
	if on, _ := t.On(); !on {
		return nil, machine.ErrOff
	}
	time.Sleep(t.late)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = false
	return (*port)(t), nil
}

// say makes the computer print text.
func (t *talker) say(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	t.more.Broadcast()
}

// input is what was typed so far.
func (t *talker) input() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.typed)
}

func (t *talker) setDeaf(deaf bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deaf = deaf
	t.more.Broadcast()
}

// port is the talker's console.
type port talker

func (p *port) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.text) == 0 && !p.ended {
		p.more.Wait()
	}
	if p.ended {
		return 0, io.EOF
	}
	n := copy(b, p.text)
	p.text = p.text[n:]
	return n, nil
}

func (p *port) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.deaf && !p.ended {
		p.more.Wait()
	}
	if p.ended {
		return 0, io.ErrClosedPipe
	}
	p.typed = append(p.typed, b...)
	p.text = append(p.text, bytes.ToUpper(b)...)
	p.more.Broadcast()
	return len(b), nil
}

func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.more.Broadcast()
	return nil
}
