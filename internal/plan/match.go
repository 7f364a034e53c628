package plan

import "slices"

// pair is an object as it is and as it is wanted.
type pair[T any] struct{ old, new T }

// matched is have and want, put side by side.
type matched[T any] struct {
	gone  []T       // found, not wanted
	added []T       // wanted, not found
	both  []pair[T] // found and wanted
}

// match pairs have and want by key. Results are in key order, so that plans do
// not depend on the order of the input. A key that have or want holds twice
// counts once.
func match[T any](have, want []T, key func(T) string) matched[T] {
	var m matched[T]
	old := byKey(have, key)
	wanted := byKey(want, key)
	for _, k := range keysOf(wanted) {
		if o, there := old[k]; there {
			m.both = append(m.both, pair[T]{o, wanted[k]})
			continue
		}
		m.added = append(m.added, wanted[k])
	}
	for _, k := range keysOf(old) {
		if _, stays := wanted[k]; !stays {
			m.gone = append(m.gone, old[k])
		}
	}
	return m
}

func byKey[T any](list []T, key func(T) string) map[string]T {
	m := make(map[string]T, len(list))
	for _, x := range list {
		m[key(x)] = x
	}
	return m
}

// keysOf returns the keys in natural order: dev-2 before dev-10.
func keysOf[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, natural)
	return keys
}

// natural compares strings as people sort them: digits count as a number.
func natural(a, b string) int {
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da == 0 || db == 0 {
			if a[0] != b[0] {
				return int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		if c := compareNumbers(a[:da], b[:db]); c != 0 {
			return c
		}
		a, b = a[da:], b[db:]
	}
	return len(a) - len(b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// compareNumbers compares two runs of digits. Of equal numbers the shorter run
// comes first, so that no two strings are equal that differ.
func compareNumbers(a, b string) int {
	x, y := trimZeros(a), trimZeros(b)
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	for i := range len(x) {
		if x[i] != y[i] {
			return int(x[i]) - int(y[i])
		}
	}
	return len(a) - len(b)
}

func trimZeros(s string) string {
	for len(s) > 1 && s[0] == '0' {
		s = s[1:]
	}
	return s
}

// keep returns the elements that f is true of.
func keep[T any](list []T, f func(T) bool) []T {
	var kept []T
	for _, x := range list {
		if f(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// split returns the elements that f is false of, and those that it is true of.
func split[T any](list []T, f func(T) bool) (no, yes []T) {
	return keep(list, func(x T) bool { return !f(x) }), keep(list, f)
}
