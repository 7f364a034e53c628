// Package config reads the cluster file: strict YAML that says what a cluster is
// to be. [Parse] turns it into a [File] with all defaults filled in, or returns
// all its mistakes at once, each with its place and the way out.
//
// The table in keys.go says which keys there are. The decoder and the schema for
// editors, [Schema], both work from it. What it cannot say, because it is about
// more than one value, is in check.go. The package knows no hypervisor: what a
// file asks for may still turn out to be impossible.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/tenks/tenks/internal/hint"
)

// Load reads the cluster file at path; see [Parse].
func Load(path string) (File, error) {
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, hint.Add(fmt.Errorf("cluster file: %w", err), "name the file with --file, or write one: tenks init")
	}
	if err != nil {
		return File{}, fmt.Errorf("cluster file: %w", err)
	}
	return Parse(path, src)
}

// Parse decodes and checks a cluster file. path only appears in errors. All
// mistakes are returned together, in the order of the file, joined by
// [errors.Join]; each is a [*Mistake]. If the file is not YAML, there is one.
func Parse(path string, src []byte) (File, error) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	m := &mistakes{path: path, lines: splitLines(string(src))}
	root := m.read(src)
	if root == nil {
		return File{}, m.err(maskText(m.lines))
	}
	hidden, secrets := maskNodes(root, m.lines)
	d := &decoder{mistakes: m, secrets: secrets}
	v := d.decode(root, fileKind, "", position{})
	f := resolve(path, v)
	if d.values < maxValues {
		c := &checker{mistakes: m, file: f, root: v}
		c.check()
	}
	if len(m.list) > 0 {
		return File{}, m.err(hidden)
	}
	return f, nil
}

// read returns the only document of src, or nil if there is none.
func (m *mistakes) read(src []byte) *yaml.Node {
	if !m.readable(src) {
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(src))
	if err != nil {
		m.add(position{}, "", "", "%v", err)
		return nil
	}
	var document, second yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF) || err == nil && empty(&document):
		m.add(position{}, "", "write one to start from: tenks init", "the file is empty")
		return nil
	case err != nil:
		m.syntax(err)
		return nil
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
		return document.Content[0]
	case err != nil:
		m.syntax(err)
	default:
		m.add(position{second.Line, second.Column}, "", "make a file of each document", "the file has more than one document")
	}
	return nil
}

// empty tells whether there is nothing in a document.
func empty(document *yaml.Node) bool {
	return len(document.Content) == 0 || document.Content[0].ShortTag() == "!!null"
}

// readable notes the first character that YAML does not allow, since the library
// does not say where it is (YAML 1.2 §5.1). Only UTF-8 is taken.
func (m *mistakes) readable(src []byte) bool {
	valid := utf8.Valid(src)
	for i, line := range m.lines {
		column := 1
		for _, r := range line {
			switch {
			case r == utf8.RuneError && !valid:
				m.add(position{i + 1, column}, "", "save it as UTF-8", "the file is not UTF-8")
				return false
			case r != '\t' && r < ' ' || r >= 0x7f && r <= 0x9f || r == 0xfffe || r == 0xffff || r == 0xfeff:
				m.add(position{i + 1, column}, "", "remove it", "the character U+%04X is not allowed in YAML", r)
				return false
			}
			column++
		}
	}
	return true
}

// syntax notes an error of the library.
func (m *mistakes) syntax(err error) {
	var l *yaml.LoadError
	if !errors.As(err, &l) {
		m.add(position{}, "", "", "this is not YAML: %v", err)
		return
	}
	at := position{l.Mark.Line, l.Mark.Column}
	began := position{l.ContextMark.Line, l.ContextMark.Column}
	switch {
	case strings.HasPrefix(l.Message, "unknown anchor"): // the rest might be a secret
		m.add(at, "", "put the value in quotes if it is no alias", "there is no anchor that this alias names")
	case strings.HasPrefix(l.Message, "mapping values are not allowed"):
		m.add(at, "", `indent it like its neighbours, or put a value that has ": " in it in quotes`, "a key is not allowed here")
	case l.Message == "found character that cannot start any token":
		m.badStart(at)
	case strings.HasPrefix(l.Message, "found unexpected end of stream") && began.line > 0:
		m.add(began, "", "add the closing quote", "a quote is not closed")
	case began.line > 0 && began != at:
		m.add(at, "", "", "this is not YAML: %s, %s that began in line %d", l.Message, l.ContextMsg, began.line)
	default:
		m.add(at, "", "", "this is not YAML: %s", l.Message)
	}
}

// badStart notes a character that no value can begin with.
func (m *mistakes) badStart(at position) {
	at = m.clamp(at)
	r := []rune(m.lines[at.line-1])
	switch {
	case at.column > len(r):
		m.add(at, "", "", "this is not YAML")
	case r[at.column-1] == '\t':
		m.add(at, "", "indent with spaces", "a tab is not allowed here")
	default:
		m.add(at, "", "put the value in quotes", "a value cannot begin with this character")
	}
}
