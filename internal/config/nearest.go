package config

import "strings"

// nearest returns the candidate that s was probably meant to be: one that
// differs in at most a third of its characters, or that begins with s; "" if
// there is none.
func nearest(s string, candidates []string) string {
	best, least := "", len(s)
	for _, c := range candidates {
		d := distance(strings.ToLower(s), strings.ToLower(c))
		if d <= max(1, len(c)/3) && d < least {
			best, least = c, d
		}
	}
	for _, c := range candidates {
		if best == "" && len(s) >= 3 && strings.HasPrefix(c, s) {
			best = c
		}
	}
	return best
}

// distance is the number of bytes to insert, remove, replace or swap with their
// neighbours to turn a into b (restricted Damerau-Levenshtein). Long texts are
// all the same distance apart.
func distance(a, b string) int {
	const most = 100
	if len(a) > most || len(b) > most {
		return most
	}
	var before, last, row []int
	for j := range len(b) + 1 {
		last = append(last, j)
	}
	for i := 1; i <= len(a); i++ {
		row = append([]int(nil), i)
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row = append(row, d)
		}
		before, last = last, row
	}
	return last[len(b)]
}
