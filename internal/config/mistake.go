package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tenks/tenks/internal/hint"
)

// Mistake is something wrong in a cluster file. The errors that [Parse] joins
// are Mistakes; [hint.Of] finds their advice.
type Mistake struct {
	Path   string // of the file, as it was given
	Line   int    // from 1
	Column int    // from 1, in characters
	Text   string // one line: `node_types.small.memory: "3XB" is not a size`
	Hint   string // the way out; may be empty

	// Frame is the place in the file: its line and the one before, with line
	// numbers, and a caret below the column. It has no newline at its end.
	// Passwords are masked.
	Frame string
}

// Error is the mistake in one line: "file.yaml:12:5: " and the text.
func (m *Mistake) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", m.Path, m.Line, m.Column, m.Text)
}

// Unwrap returns the text with the advice attached, for package hint.
func (m *Mistake) Unwrap() error {
	if m.Hint == "" {
		return nil
	}
	return hint.Add(errors.New(m.Text), "%s", m.Hint)
}

// position is a place in the file, counted from 1, in characters.
type position struct{ line, column int }

// mistakes collects what is wrong in a file.
type mistakes struct {
	path  string
	lines []string
	list  []*Mistake
}

// add notes a mistake. key is the path of keys to its place, or empty.
func (m *mistakes) add(at position, key, advice, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if key != "" {
		text = key + ": " + text
	}
	at = m.clamp(at)
	m.list = append(m.list, &Mistake{Path: m.path, Line: at.line, Column: at.column, Text: text, Hint: advice})
}

// clamp moves a position that is behind the end of the file, or unknown, into it.
func (m *mistakes) clamp(at position) position {
	last := len(m.lines)
	for last > 1 && strings.TrimSpace(m.lines[last-1]) == "" {
		last--
	}
	if at.line > len(m.lines) {
		return position{last, utf8.RuneCountInString(m.lines[last-1]) + 1}
	}
	at.line = max(at.line, 1)
	at.column = min(max(at.column, 1), utf8.RuneCountInString(m.lines[at.line-1])+1)
	return at
}

// maxMistakes is how many mistakes are told one by one. The most that anybody
// reads; a file with more was made by a program.
const maxMistakes = 1000

// err returns the mistakes in the order of the file, with frames that hide what
// mask hides; nil if there are none.
func (m *mistakes) err(hidden mask) error {
	slices.SortStableFunc(m.list, func(a, b *Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if rest := len(m.list) - maxMistakes; rest > 0 {
		first := m.list[maxMistakes]
		first.Text = fmt.Sprintf("here and below are %d more mistakes", rest)
		first.Hint = "correct the others first"
		m.list = m.list[:maxMistakes+1]
	}
	all := make([]error, len(m.list))
	for i, one := range m.list {
		one.Frame = frame(m.lines, hidden, position{one.Line, one.Column})
		all[i] = one
	}
	return errors.Join(all...)
}

// frameWidth is how many characters of a line a frame shows.
const frameWidth = 100

// frame draws the line at and the one before it, and a caret below at.
func frame(lines []string, hidden mask, at position) string {
	if from, ok := hidden[at.line]; ok {
		at.column = min(at.column, from)
	}
	skip := 0 // characters at the left that are not shown
	if at.column > frameWidth {
		skip = at.column - frameWidth/2
	}
	margin := len(fmt.Sprint(at.line))
	var b strings.Builder
	if n := at.line - 1; n >= 1 && skip == 0 && strings.TrimSpace(lines[n-1]) != "" {
		fmt.Fprintf(&b, "%*d | %s\n", margin, n, window(hidden.line(n, lines[n-1]), 0))
	}
	fmt.Fprintf(&b, "%d | %s\n", at.line, window(hidden.line(at.line, lines[at.line-1]), skip))
	fmt.Fprintf(&b, "%*s | %s^", margin, "", indent(lines[at.line-1], skip, at.column-1))
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

// window returns what a frame shows of a line: frameWidth characters behind the
// first skip, without what a terminal might obey.
func window(line string, skip int) string {
	r := []rune(line)
	r = r[min(skip, len(r)):]
	begin, end := "", ""
	if skip > 0 && len(r) > 0 {
		begin, r = "…", r[1:]
	}
	if len(r) > frameWidth {
		r, end = r[:frameWidth], "…"
	}
	return begin + strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, string(r)) + end
}

// indent returns white space as wide as the characters of line between from and to.
func indent(line string, from, to int) string {
	var b strings.Builder
	i := 0
	for _, r := range line {
		if i >= to {
			break
		}
		if i >= from {
			if r != '\t' {
				r = ' '
			}
			b.WriteRune(r)
		}
		i++
	}
	for ; i < to; i++ {
		b.WriteByte(' ')
	}
	return b.String()
}

// splitLines splits src where YAML 1.1 does (§5.4), so that line numbers agree
// with the library's. There is always at least one line.
func splitLines(src string) []string {
	src = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(src)
	return strings.Split(strings.TrimSuffix(src, "\n"), "\n")
}
