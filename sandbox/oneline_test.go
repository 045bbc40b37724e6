package sandbox

import "testing"

// What comes from a registry must not reach the terminal as it is.
func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain é":           "plain é",
		"a\nb\n":            "a; b",
		"a\x1b[2Jb":         `a\x1b[2Jb`,
		"a\rsbx: all fine":  `a\rsbx: all fine`,
		"a\u202eb":          `a\u202eb`,
		"tab\there":         "tab here",
		"bad \xff encoding": "bad \ufffd encoding",
	} {
		if got := OneLine(in); got != want {
			t.Errorf("OneLine(%q) = %q, want %q", in, got, want)
		}
	}
}
