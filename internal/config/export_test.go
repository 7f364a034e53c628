package config

import "unicode/utf8"

// Lines returns how many lines src has, and the characters in each.
func Lines(src string) (n int, width func(line int) int) {
	lines := splitLines(src)
	return len(lines), func(line int) int { return utf8.RuneCountInString(lines[line-1]) }
}
