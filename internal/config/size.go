package config

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// units are the units of sizes, in bytes: binary (IEC 80000-13) and decimal (SI).
var units = map[string]int64{
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

// parseSize returns the bytes of a size of kind k. What is wrong with it, and the
// way out, are empty if nothing is.
func parseSize(k *kind, s string) (bytes int64, wrong, advice string) {
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, "is not " + k.what, sizeAdvice(s)
	}
	exact, ok := new(big.Rat).SetString(m[1])
	if !ok {
		return 0, "is not " + k.what, sizeAdvice(s)
	}
	exact.Mul(exact, new(big.Rat).SetInt64(units[m[2]]))
	switch {
	case exact.Cmp(new(big.Rat).SetInt64(k.least)) < 0:
		return 0, "is too small", "write at least " + sizeText(k.least)
	case exact.Cmp(new(big.Rat).SetInt64(k.most)) > 0:
		return 0, "is too large", "write at most " + sizeText(k.most)
	}
	parts := new(big.Rat).Quo(exact, new(big.Rat).SetInt64(k.multiple))
	if !parts.IsInt() {
		unit := sizeText(k.multiple)
		if k.multiple == sectorSize {
			unit = fmt.Sprintf("sectors of %d bytes", sectorSize)
		}
		return 0, "is not a whole number of " + strings.TrimPrefix(unit, "1"), "write " + sizeText(roundUp(exact, max(k.multiple, kib)))
	}
	return exact.Num().Int64(), "", ""
}

// roundUp returns the next multiple of unit that is not below exact.
func roundUp(exact *big.Rat, unit int64) int64 {
	parts := new(big.Rat).Quo(exact, new(big.Rat).SetInt64(unit))
	n := new(big.Int).Quo(parts.Num(), parts.Denom()).Int64()
	return (n + 1) * unit
}

// sizeText writes whole KiB in the largest unit that needs no point.
func sizeText(bytes int64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB"} {
		if bytes%units[unit] == 0 {
			return fmt.Sprintf("%d%s", bytes/units[unit], unit)
		}
	}
	return fmt.Sprintf("%dKiB", bytes/kib)
}

// nearlySize is a number and something like a unit.
var nearlySize = regexp.MustCompile(`^\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?i:([kmgt])(i?)(b?))\s*$`)

// sizeAdvice is the way out for a text that is no size.
func sizeAdvice(s string) string {
	m := nearlySize.FindStringSubmatch(s)
	if m == nil {
		return "write a number and its unit, such as 512MiB or 3GiB (KiB MiB GiB TiB, or kB MB GB TB)"
	}
	n, letter := m[1], strings.ToUpper(m[2])
	binary, decimal := n+letter+"iB", n+strings.Replace(letter, "K", "k", 1)+"B"
	switch {
	case m[3] != "":
		return "write " + binary
	case m[4] != "":
		return "write " + decimal
	}
	return fmt.Sprintf("write %s, or %s for powers of ten", binary, decimal)
}

// unitAdvice is the way out for a number without a unit.
func unitAdvice(n string) string {
	if len(n) < 3 {
		return fmt.Sprintf("add the unit, such as %sGiB", n)
	}
	return fmt.Sprintf("add the unit, such as %sMiB", n)
}
