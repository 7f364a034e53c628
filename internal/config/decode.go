package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// value is a part of the file that has the form that its kind asks for.
type value struct {
	path  string   // "node_types.small.memory"; empty: the file
	where position // of the value
	name  position // of its key, or of the value if it has none
	ok    bool     // given without a mistake of form, or its kind's default
	given bool     // in the file

	text   string // of texts and scalars, as it is written
	shown  string // the same for messages: in quotes, or hidden
	number int64  // of numbers; bytes, of sizes
	keys   []entry
	items  []*value
}

// entry is a key of a mapping with its value.
type entry struct {
	name  string
	value *value
}

// get returns the value of a key; it is never nil.
func (v *value) get(name string) *value {
	for _, e := range v.keys {
		if e.name == name {
			return e.value
		}
	}
	return &value{path: join(v.path, name), where: v.name, name: v.name}
}

// join appends a key to a path.
func join(path, key string) string {
	if !plainKey.MatchString(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// maxValues is the most values that a file may have when its aliases are
// written out: some ten times what 10,000 specs need.
const maxValues = 1_000_000

// decoder turns YAML into values and notes what does not have the form that the
// table of keys asks for.
type decoder struct {
	*mistakes
	secrets map[*yaml.Node]bool // scalars that messages must not show
	values  int                 // so far
}

// decode returns the value of n. name is the position of its key, or zero.
func (d *decoder) decode(n *yaml.Node, k *kind, path string, name position) *value {
	v := &value{path: path, where: position{n.Line, n.Column}, name: name, given: true}
	if name == (position{}) {
		v.name = v.where
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if d.values++; d.values >= maxValues {
		if d.values == maxValues {
			d.add(v.where, "", "leave out aliases of aliases", "the file has more than %d values", maxValues)
		}
		return v
	}
	switch k.form {
	case formMapping, formNames:
		d.mapping(v, n, k)
	case formList:
		d.list(v, n, k)
	default:
		d.scalar(v, n, k)
	}
	return v
}

// mapping decodes a mapping of known keys or of names.
func (d *decoder) mapping(v *value, n *yaml.Node, k *kind) {
	v.ok = true
	if n.ShortTag() == "!!null" {
		if k.form == formNames && !k.empty {
			d.add(v.name, v.path, "add at least one", "is empty")
		}
		d.complete(v, k)
		return
	}
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		v.ok = false
		d.wrongForm(v, n, k)
		return
	}
	if len(n.Content) == 0 && k.form == formNames && !k.empty {
		d.add(v.name, v.path, "add at least one", "is empty")
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		at := position{n.Content[i].Line, n.Content[i].Column}
		name, ok := d.keyName(v, n.Content[i])
		if !ok {
			v.ok = false
			continue
		}
		if first, twice := lines[name]; twice {
			d.add(at, join(v.path, name), "remove one of the two", "is given twice, first in line %d", first)
			continue
		}
		lines[name] = at.line
		if k.form == formMapping && d.secrets[n.Content[i]] {
			v.ok = false
			d.add(at, v.path, "write keys and values as in password: \"…\"", "%s is no key", hiddenText)
		} else if kind := d.kindOf(v, k, name, at); kind != nil {
			v.keys = append(v.keys, entry{name, d.decode(n.Content[i+1], kind, join(v.path, name), at)})
		} else {
			v.ok = false
		}
	}
	d.complete(v, k)
}

// keyName returns the text of a mapping's key.
func (d *decoder) keyName(v *value, n *yaml.Node) (string, bool) {
	at := position{n.Line, n.Column}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.ShortTag() == "!!merge":
		d.add(at, v.path, "write the keys out", "merge keys (<<) are not supported")
		return "", false
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null":
		d.add(at, v.path, "", "a key must be a text, not %s", describe(n))
		return "", false
	}
	return n.Value, true
}

// kindOf returns the kind that the value of a key has; nil if there is no such
// key, which it notes.
func (d *decoder) kindOf(v *value, k *kind, name string, at position) *kind {
	if k.form == formNames {
		if !k.name.pattern.MatchString(name) {
			d.add(at, v.path, k.name.rule, "%s is not %s", quote(name), k.name.what)
		}
		return k.each
	}
	known := make([]string, len(k.keys))
	for i, key := range k.keys {
		if key.name == name {
			return key.kind
		}
		known[i] = key.name
	}
	advice := "the keys here are: " + strings.Join(known, ", ")
	if word, ok := renamedKeys[name]; ok {
		advice = word
	} else if slices.Contains(laterKeys, name) {
		advice = "remove it: this version of Tenks does not have it"
	} else if near := nearest(name, known); near != "" {
		advice = fmt.Sprintf("did you mean %s?", near)
	}
	d.add(at, join(v.path, name), advice, "unknown key")
	return nil
}

// complete adds defaults, and notes keys that are missing or exclude each other.
func (d *decoder) complete(v *value, k *kind) {
	for _, key := range k.keys {
		if got := v.get(key.name); got.given {
			d.together(v, key, got)
			continue
		}
		if key.required {
			doc, _, _ := strings.Cut(strings.TrimSuffix(key.doc, "."), ". ")
			d.add(v.name, v.path, "add it: "+strings.ToLower(doc[:1])+doc[1:], "%s is missing", key.name)
		}
		if key.def != "" {
			n, _ := strconv.ParseInt(key.def, 10, 64) // 0 for texts
			v.keys = append(v.keys, entry{key.name, &value{
				path: join(v.path, key.name), where: v.name, name: v.name, ok: true, text: key.def, shown: key.def, number: n,
			}})
		}
	}
}

// together checks the keys that a key needs and excludes.
func (d *decoder) together(v *value, key key, got *value) {
	for _, other := range key.with {
		if !v.get(other).given {
			d.add(got.name, got.path, "add "+other+", or remove "+key.name, "needs %s as well", other)
		}
	}
	for _, other := range key.without {
		if v.get(other).given {
			d.add(got.name, got.path, "remove one of the two", "cannot be together with %s", other)
			return
		}
	}
}

// list decodes a list.
func (d *decoder) list(v *value, n *yaml.Node, k *kind) {
	v.ok = true
	if n.ShortTag() != "!!null" && (n.Kind != yaml.SequenceNode || n.ShortTag() != "!!seq") {
		v.ok = false
		d.wrongForm(v, n, k)
		return
	}
	if len(n.Content) == 0 && !k.empty {
		d.add(v.name, v.path, "add at least one", "is empty")
	}
	for i, c := range n.Content {
		v.items = append(v.items, d.decode(c, k.each, fmt.Sprintf("%s[%d]", v.path, i), position{}))
	}
}

var decimal = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)$`)

// scalar decodes a text, a number or a size.
func (d *decoder) scalar(v *value, n *yaml.Node, k *kind) {
	tag := n.ShortTag()
	switch {
	case tag == "!!null":
		d.add(v.name, v.path, "write "+k.what, "has no value")
		return
	case n.Kind != yaml.ScalarNode || !plainTag(tag):
		d.wrongForm(v, n, k)
		return
	}
	v.text, v.shown = n.Value, quote(n.Value)
	if tag != "!!str" {
		v.shown = cut(n.Value)
	}
	if k.secret || d.secrets[n] {
		v.shown = hiddenText
	}
	switch {
	case k.form == formScalar || k.form == formText && tag == "!!str":
		d.match(v, k)
	case k.form == formText:
		d.add(v.where, v.path, quoteAdvice(k, v.shown), "%s is %s, not %s", v.shown, describe(n), k.what)
	case k.form == formNumber:
		d.number(v, n, k)
	case tag == "!!int" || tag == "!!float":
		d.add(v.where, v.path, unitAdvice(v.shown), "%s has no unit", v.shown)
	default:
		bytes, wrong, advice := parseSize(k, n.Value)
		v.number, v.ok = bytes, wrong == ""
		if !v.ok {
			d.add(v.where, v.path, advice, "%s %s", v.shown, wrong)
		}
	}
}

// match checks a text.
func (d *decoder) match(v *value, k *kind) {
	switch {
	case k.enum != nil && !slices.Contains(k.enum, v.text):
		advice := "write " + strings.Join(k.enum, " or ")
		if near := nearest(v.text, k.enum); near != "" {
			advice = fmt.Sprintf("did you mean %s?", near)
		}
		d.add(v.where, v.path, advice, "%s is not %s", v.shown, k.what)
	case k.pattern != nil && !k.pattern.MatchString(v.text):
		d.add(v.where, v.path, k.rule, "%s is not %s", v.shown, k.what)
	default:
		v.ok = true
	}
}

// number decodes a whole number.
func (d *decoder) number(v *value, n *yaml.Node, k *kind) {
	between := fmt.Sprintf("write a number from %d to %d", k.least, k.most)
	whole := decimal.MatchString(n.Value)
	if text := n.ShortTag() == "!!str"; text || !whole {
		if text && whole {
			between = "remove the quotes"
		}
		d.add(v.where, v.path, between, "%s is not %s", v.shown, k.what)
		return
	}
	number, err := strconv.ParseInt(n.Value, 10, 64)
	switch {
	case number < k.least || errors.Is(err, strconv.ErrRange) && n.Value[0] == '-':
		d.add(v.where, v.path, between, "%s is too small", v.shown)
	case number > k.most || err != nil:
		d.add(v.where, v.path, between, "%s is too large", v.shown)
	default:
		v.number, v.ok = number, true
	}
}

// wrongForm notes a value that is not even of the right form. It shows nothing
// of the value, which might be a secret.
func (d *decoder) wrongForm(v *value, n *yaml.Node, k *kind) {
	d.add(v.where, v.path, "", "must be %s, not %s", k.what, describe(n))
}

// plainTag tells whether a scalar's tag is one that YAML itself gives.
func plainTag(tag string) bool {
	return slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!merge"}, tag)
}

// describe says what a node is.
func describe(n *yaml.Node) string {
	switch tag := n.ShortTag(); {
	case n.Kind == yaml.ScalarNode && tag == "!!null":
		return "nothing"
	case n.Kind == yaml.MappingNode && tag == "!!map":
		return "a mapping"
	case n.Kind == yaml.SequenceNode && tag == "!!seq":
		return "a list"
	case n.Kind != yaml.ScalarNode || !plainTag(tag):
		return "something with a tag"
	case tag == "!!int" || tag == "!!float":
		return "a number"
	case tag == "!!bool":
		return "a truth value"
	case tag == "!!timestamp":
		return "a date"
	}
	return "a text"
}

// quoteAdvice is the way out for a number where a text must be.
func quoteAdvice(k *kind, shown string) string {
	if k.secret {
		return "put it in quotes"
	}
	if k.enum != nil {
		return "write " + strings.Join(k.enum, " or ")
	}
	return fmt.Sprintf(`put it in quotes: "%s"`, shown)
}

// quote quotes a text for a message of one line.
func quote(s string) string { return strconv.Quote(cut(s)) }

// cut cuts a text that is too long for a message.
func cut(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
