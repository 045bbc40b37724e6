package sandbox

import (
	"strconv"
	"strings"
	"unicode"
)

// OneLine makes s one line of plain text. Image names and configurations, and what
// registries answer, are part of what sbx says: they must not move the cursor or forge a
// second line.
func OneLine(s string) string {
	s = strings.ToValidUTF8(strings.TrimRight(s, "\n"), "\ufffd")
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("; ")
		case r == '\t':
			b.WriteByte(' ')
		case hidden(r):
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }
