package config

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// mask says what frames must not show: from which column (from 1) each line, by
// its number, is hidden.
type mask map[int]int

const hiddenText = "(hidden)"

// line returns line n as it may be shown.
func (m mask) line(n int, line string) string {
	from, ok := m[n]
	if !ok {
		return line
	}
	r := []rune(line)
	return string(r[:min(from-1, len(r))]) + hiddenText
}

// hide hides line n from a column on.
func (m mask) hide(n, column int) {
	if from, ok := m[n]; !ok || column < from {
		m[n] = column
	}
}

// openBMCKeys are the keys of section bmc whose values are no secrets. Any other
// key might be a misspelt password.
var openBMCKeys = []string{"addresses", "address", "ports", "username"}

// secretWord finds a key that has a secret, and what follows it up to the secret.
var secretWord = regexp.MustCompile(`(?i)(?:pas+[_-]?w(?:or)?d|pass|pwd|secret)["']?\s*[:=]?\s?`)

// maskNodes hides the secrets of a file that is YAML: a secret reaches from its
// node to the next one. It also returns the nodes that they consist of.
func maskNodes(root *yaml.Node, lines []string) (mask, map[*yaml.Node]bool) {
	type span struct{ from, to int } // indices in order; to is behind the secret
	var (
		order   []*yaml.Node // in the order of the file
		secrets []span
		aliased = map[*yaml.Node]bool{} // what a secret is an alias of
	)
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		order = append(order, n)
		for i, c := range n.Content {
			from := len(order)
			walk(c)
			if n.Kind != yaml.MappingNode || i%2 == 0 {
				continue
			}
			key, to := n.Content[i-1], len(order)
			switch hideKey, hideValue := secretPair(root, n, key, c); {
			case hideKey:
				secrets = append(secrets, span{slices.Index(order[:from], key), to})
			case hideValue:
				secrets = append(secrets, span{from, to})
				if c.Alias != nil {
					aliased[c.Alias] = true
				}
			}
		}
	}
	walk(root)
	for i, n := range order {
		if aliased[n] {
			secrets = append(secrets, span{i, i + 1})
		}
	}

	m, nodes := maskLines(lines), map[*yaml.Node]bool{}
	maskComments(m, root, lines)
	for _, s := range secrets {
		for _, n := range order[s.from:s.to] {
			nodes[n] = true
		}
		first := order[s.from]
		m.hide(first.Line, first.Column)
		last := len(lines)
		if s.to < len(order) {
			next := order[s.to]
			last = next.Line // what is before the next node may be the end of the secret
			if next.Line > 0 && next.Line <= len(lines) && blank(lines[next.Line-1], next.Column-1) {
				last--
			}
		}
		for n := first.Line + 1; n <= last; n++ {
			m.hide(n, 1)
		}
	}
	return m, nodes
}

// secretPair tells whether a key, in the mapping in, or its value is a secret. A
// key is one if it is odd: {password:x} is the key "password:x" without a value.
func secretPair(root, in, key, value *yaml.Node) (hideKey, hideValue bool) {
	null := value.ShortTag() == "!!null" && value.Anchor == ""
	if secretWord.MatchString(key.Value) {
		return !plainKey.MatchString(key.Value), !null
	}
	switch {
	case in == root:
		return false, key.Value == "bmc" && value.Kind != yaml.MappingNode
	case in != section(root, "bmc") || slices.Contains(openBMCKeys, key.Value):
		return false, false
	}
	return null || !plainKey.MatchString(key.Value), !null
}

// section returns the value of a key of the file, or nil.
func section(root *yaml.Node, name string) *yaml.Node {
	if root.Kind == yaml.MappingNode {
		for i := 1; i < len(root.Content); i += 2 {
			if root.Content[i-1].Value == name {
				return root.Content[i]
			}
		}
	}
	return nil
}

// blank tells whether the first n characters of line are indentation.
func blank(line string, n int) bool {
	r := []rune(line)
	return strings.Trim(string(r[:min(n, len(r))]), " \t-") == ""
}

// maskLines hides what looks like a password in its line, also in a comment.
func maskLines(lines []string) mask {
	m := mask{}
	for i, line := range lines {
		if at := secretWord.FindStringIndex(line); at != nil && strings.TrimSpace(line[at[1]:]) != "" {
			m.hide(i+1, utf8.RuneCountInString(line[:at[1]])+1)
		}
	}
	return m
}

// comment finds a comment.
var comment = regexp.MustCompile(`(?:^|\s)#`)

// maskComments hides the comments of section bmc: there may be a password in
// them that is not used for now.
func maskComments(m mask, root *yaml.Node, lines []string) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Kind != yaml.MappingNode || root.Content[i].Value != "bmc" {
			continue
		}
		end := len(lines) + 1
		if i+2 < len(root.Content) {
			end = root.Content[i+2].Line
		}
		for n := root.Content[i].Line; n < min(end, len(lines)+1); n++ {
			if at := comment.FindStringIndex(lines[n-1]); at != nil {
				m.hide(n, utf8.RuneCountInString(lines[n-1][:at[1]])+1)
			}
		}
	}
}

var (
	bmcInLine  = regexp.MustCompile(`\bbmc["']?\s*:\s?`)
	topLevel   = regexp.MustCompile(`^["']?(?:cluster|physical_networks|node_types|specs|ironic)["']?\s*:`)
	openInLine = regexp.MustCompile(`^\s+["']?(?:addresses|address|ports|username)["']?\s*:[^,{}"']*$`)
)

// maskText hides the secrets of a file that is not YAML, so that nobody knows
// where a value ends: all of section bmc, and all behind what looks like a
// password, up to the next section, but for single keys that are known.
func maskText(lines []string) mask {
	m := maskLines(lines)
	hiding := false
	for i, line := range lines {
		n, width := i+1, len(line)-len(strings.TrimLeft(line, " \t"))
		switch at := bmcInLine.FindStringIndex(line); {
		case at != nil:
			hiding = true
			if strings.TrimSpace(line[at[1]:]) != "" {
				m.hide(n, utf8.RuneCountInString(line[:at[1]])+1)
			}
		case secretWord.MatchString(line):
			hiding = true
		case topLevel.MatchString(line):
			hiding = false
		case hiding && !openInLine.MatchString(line) && strings.TrimSpace(line) != "":
			m.hide(n, width+1)
		}
	}
	return m
}
