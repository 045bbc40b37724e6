package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// parseSize reads a number of bytes with an optional unit b, k, m, g or t, as podman and docker do: powers
// of 1024, and fractions of them.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRightFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	shift, ok := sizeUnit(strings.ToLower(s[len(digits):]))
	whole, fraction, _ := strings.Cut(digits, ".")
	if fraction != "" {
		digits = whole
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	part, partErr := strconv.ParseUint("0"+fraction, 10, 63)
	if err != nil || partErr != nil || !ok {
		return 0, fmt.Errorf("%s: not a size like 64m (b, k, m, g)", quoteArg(s))
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%s: too large", quoteArg(s))
	}
	unit := uint64(1) << shift
	below := float64(part) / math.Pow10(len(fraction)) * float64(unit)
	return int64(n<<shift + min(uint64(below), unit-1)), nil
}

func sizeUnit(s string) (shift uint, ok bool) {
	switch s {
	case "", "b":
		return 0, true
	case "k", "kb", "kib":
		return 10, true
	case "m", "mb", "mib":
		return 20, true
	case "g", "gb", "gib":
		return 30, true
	case "t", "tb", "tib":
		return 40, true
	}
	return 0, false
}

// parseDuration reads 30s, 2m3s, or a bare number of seconds.
func parseDuration(s string) (time.Duration, error) {
	unit := ""
	if strings.Trim(s, "0123456789") == "" {
		unit = "s"
	}
	d, err := time.ParseDuration(s + unit)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s: not a time like 30s or 2m3s, from 0 to 290 years", quoteArg(s))
	}
	return d, nil
}

// parseID reads a user or group id. The last value of a uint32 means "none" to the kernel.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, fmt.Errorf("%s: not an id", quoteArg(s))
	}
	return uint32(n), nil
}

func parseMode(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o7777 {
		return 0, fmt.Errorf("%s: not an octal mode", quoteArg(s))
	}
	return uint32(n), nil
}

// errControl refuses what could end a line, or a string, in a file that sbx writes for the sandbox.
var errControl = errors.New("contains a control character")

func noControl(s string) error {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return fmt.Errorf("%s: %w", quoteArg(s), errControl)
		}
	}
	return nil
}

func oneLineText(s string) (string, error) { return s, noControl(s) }

// isName reports whether s is ^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$, the form of every name that becomes a file name.
func isName(s string) bool {
	if s == "" || len(s) > 128 || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// insidePath checks and cleans a path in the sandbox.
func insidePath(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", fmt.Errorf("%s: not an absolute path in the sandbox", quoteArg(s))
	}
	if strings.IndexByte(s, 0) >= 0 || len(s) > 4095 {
		return "", fmt.Errorf("%s: not a path", quoteArg(s))
	}
	return filepath.Clean(s), nil
}

// eachWord calls f with the words of a list, as podman reads it: between commas, those in double
// quotes with commas of their own. Nothing at all is an empty list.
func eachWord(s string, f func(string) error) error {
	if s == "" {
		return nil
	}
	words := strings.Split(s, ",")
	if strings.Contains(s, `"`) {
		var err error
		if words, err = csv.NewReader(strings.NewReader(s)).Read(); err != nil || strings.ContainsAny(s, "\r\n") {
			return fmt.Errorf("%s: not words between commas", quoteArg(s))
		}
	}
	for _, word := range words {
		if err := f(word); err != nil {
			return err
		}
	}
	return nil
}
