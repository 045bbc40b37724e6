package sandbox

import "testing"

// What a program says at its start is not why it ended.
func TestLastWords(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"sent tapfd=7 for tap0\nreceived tapfd=7\n":                                   "",
		"received tapfd=7\nStarting slirp\n* MTU:             65520\nout of memory\n": ": out of memory",
		"one\ntwo\n\nthree\nFailed to send 30 bytes\nfour":                            ": two; three; four",
		"WARNING: Support for seccomp is experimental\nWARNING: too many arguments\n": ": WARNING: too many arguments",
	} {
		if got := wordsOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
