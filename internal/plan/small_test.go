package plan

import (
	"slices"
	"testing"
)

func TestNatural(t *testing.T) {
	want := []string{"", "a", "a0", "a1", "a01", "a2", "a2b", "a10", "b"}
	got := []string{"b", "a10", "a2b", "a01", "a2", "a1", "a0", "a", ""}
	if slices.SortFunc(got, natural); !slices.Equal(got, want) {
		t.Errorf("sorted: %q", got)
	}
}

// match is symmetric, loses nothing and does not depend on the order.
func TestMatch(t *testing.T) {
	name := func(s string) string { return s[:1] }
	have, want := []string{"d1", "a1", "b1"}, []string{"c2", "b2", "a2"}
	m := match(have, want, name)
	if !slices.Equal(m.gone, []string{"d1"}) || !slices.Equal(m.added, []string{"c2"}) ||
		!slices.Equal(m.both, []pair[string]{{"a1", "a2"}, {"b1", "b2"}}) {
		t.Errorf("%+v", m)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 bytes", 512: "512 bytes", 1 << 10: "1 KiB", 1536: "1536 bytes", 3 << 30: "3 GiB",
		1 << 40: "1 TiB", 1 << 50: "1024 TiB", 1000_000_000: "1000000000 bytes", 1<<30 + 1<<20: "1025 MiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestSome(t *testing.T) {
	for want, list := range map[string][]string{"a": {"a"}, "a, b, c": {"a", "b", "c"}, "a, b, c and 2 more": {"a", "b", "c", "d", "e"}} {
		if got := some(list); got != want {
			t.Errorf("%q is %q, want %q", list, got, want)
		}
	}
}
