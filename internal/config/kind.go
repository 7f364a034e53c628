package config

import "regexp"

// kind says what a value of the file looks like. The decoder and the schema for
// editors both work from it.
type kind struct {
	form form
	what string // in messages: "a size"

	// text and scalar
	pattern *regexp.Regexp // must match all of it
	enum    []string       // the only texts there are
	rule    string         // how to write it: the advice after a mistake
	secret  bool           // never shown

	// number and size: the least and the most; size also: what it is a multiple of
	least, most int64
	multiple    int64

	// mapping
	keys []key

	// names and list
	name  *kind // of the names
	each  *kind // of the values
	empty bool  // may be empty or null
}

// form is the form of a value.
type form int

const (
	formText    form = iota
	formNumber       // whole
	formSize         // a number of bytes, with its unit
	formScalar       // a text, a number or a truth value, taken as it is written
	formMapping      // of keys that are known
	formNames        // a mapping of names that the user chose
	formList
)

// key is a key of a mapping.
type key struct {
	name     string
	kind     *kind
	doc      string // one sentence, for editors
	def      string // default, if that is always the same
	required bool
	with     []string // keys that must be there as well
	without  []string // keys that must not
}

// full compiles a pattern that must match all of a text.
func full(pattern string) *regexp.Regexp { return regexp.MustCompile("^(?:" + pattern + ")$") }

func choice(what string, values ...string) *kind {
	return &kind{form: formText, what: what, enum: values}
}
