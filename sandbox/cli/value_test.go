package cli

import (
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for _, test := range []struct {
		in   string
		want int64
		ok   bool
	}{
		{"0", 0, true},
		{"512", 512, true},
		{"512b", 512, true},
		{"64k", 64 << 10, true},
		{"64K", 64 << 10, true},
		{"64m", 64 << 20, true},
		{"64MB", 64 << 20, true},
		{"2g", 2 << 30, true},
		{"1GiB", 1 << 30, true},
		{"9223372036854775807", 1<<63 - 1, true},
		{"9223372036854775808", 0, false},
		{"9007199254740992g", 0, false},
		{"", 0, false},
		{"m", 0, false},
		{"-1", 0, false},
		{"1.5g", 3 << 29, true},
		{"0.5k", 512, true},
		{"2.25m", 9 << 18, true},
		{"1.9b", 1, true},
		{"8388607.999g", 8388607<<30 + 1072668082, true},
		{"8589934591.999999999999999999g", 1<<63 - 1, true},
		{"1.", 0, false},
		{".5g", 0, false},
		{"1.5.5g", 0, false},
		{"1.-5g", 0, false},
		{"1e3", 0, false},
		{"10%", 0, false},
		{"1 g", 0, false},
		{"1x", 0, false},
	} {
		got, err := parseSize(test.in)
		if (err == nil) != test.ok || test.ok && got != test.want {
			t.Errorf("parseSize(%q) = %d, %v; want %d, %v", test.in, got, err, test.want, test.ok)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for _, test := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"0", 0, true},
		{"90", 90 * time.Second, true},
		{"30s", 30 * time.Second, true},
		{"2m3s", 123 * time.Second, true},
		{"1.5h", 90 * time.Minute, true},
		{"-1", 0, false},
		{"-1s", 0, false},
		{"", 0, false},
		{"soon", 0, false},
		{"99999999999999999999", 0, false},
	} {
		got, err := parseDuration(test.in)
		if (err == nil) != test.ok || test.ok && got != test.want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v, %v", test.in, got, err, test.want, test.ok)
		}
	}
}

func TestIsName(t *testing.T) {
	long := make([]byte, 129)
	for i := range long {
		long[i] = 'a'
	}
	for name, want := range map[string]bool{
		"data": true, "a": true, "A.b_c-9": true, string(long[:128]): true,
		"": false, "../x": false, ".x": false, "-x": false, "_x": false, "a/b": false, "a b": false,
		"a\nb": false, "a\x00": false, "é": false, string(long): false,
	} {
		if isName(name) != want {
			t.Errorf("isName(%q) = %v", name, !want)
		}
	}
}
