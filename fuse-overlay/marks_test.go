//go:build !hot

package fuseoverlay

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestMark(t *testing.T) {
	for name, want := range map[string]struct {
		isMark bool
		hides  string
	}{
		"file": {}, ".wh": {}, ".whatever": {}, ".wh.file": {true, "file"}, ".wh.": {true, ""}, ".wh...": {true, ""}, ".wh..": {true, ""},
		".wh..wh..opq": {true, ""}, ".wh..wh.plnk": {true, ""}, ".wh..hidden": {true, ".hidden"}, ".wh...x": {true, "..x"},
	} {
		if isMark, hides := mark(name); isMark != want.isMark || hides != want.hides {
			t.Errorf("%q: %v %q", name, isMark, hides)
		}
	}
}

func TestRedirect(t *testing.T) {
	for value, want := range map[string]string{
		"name": "name", "/a/b": "/a/b", "/a": "/a", "a/b": "", "": "", "/": "", "..": "", ".": "", "/a/../b": "", "/a//b": "", "a\x00": "a", "a\x00b": "", "//": "",
		strings.Repeat("n", 256): "", "/" + strings.Repeat("n/", 3000): "",
	} {
		path, absolute, err := parseRedirect([]byte(value))
		got := strings.Join(path, "/")
		if absolute {
			got = "/" + got
		}
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%.20q: %q, %v", value, got, err)
		}
	}
}

// TestXattrNames: what an overlay above stores comes back under its name, and nothing of ours does.
func TestXattrNames(t *testing.T) {
	for _, name := range []string{"user.a", "user.overlay.opaque", "user.overlay.overlay.x", "trusted.overlay.redirect", "user.fuseoverlayfs.origin", "security.capability", "user.overlay."} {
		stored := storedXattr(name)
		if shown, ok := shownXattr(stored); name != "user.overlay." && (!ok || shown != name) {
			t.Errorf("%s is stored as %s and shown as %q", name, stored, shown)
		}
	}
	for _, name := range []string{xattrOpaque, xattrOrigin, "trusted.overlay.opaque", "user.fuseoverlayfs.opaque", "user.overlay.overlay."} {
		if shown, ok := shownXattr(name); ok {
			t.Errorf("%s is shown as %s", name, shown)
		}
	}
}

// FuzzMarks: no name, attribute or directory entry of a hostile layer leads out of it, or to a panic.
func FuzzMarks(f *testing.F) {
	f.Add(".wh.x", []byte("/a/b"), []byte("y"))
	f.Add(".wh..wh..opq", []byte("a\x00"), []byte{24, 0, 0, 0})
	f.Fuzz(func(t *testing.T, name string, value, raw []byte) {
		if _, hides := mark(name); hides != "" && (hides == "." || hides == ".." || markPrefix+hides != name) {
			t.Errorf("%q hides %q", name, hides)
		}
		if path, _, err := parseRedirect(value); err == nil && (len(path) == 0 || slices.ContainsFunc(path, func(s string) bool {
			return s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00")
		})) {
			t.Errorf("%q redirects to %q", value, path)
		}
		var m dirMarks
		_ = m.set(name, value)
		if shown, ok := shownXattr(storedXattr(name)); ok && shown != name {
			t.Errorf("%q is shown as %q", name, shown)
		}
		for rest := raw; ; {
			entry, _, _, size := parseDirent(rest)
			if size == 0 {
				break
			}
			if size > len(rest) || bytes.IndexByte(entry, 0) >= 0 {
				t.Fatalf("%q of %d bytes", entry, size)
			}
			rest = rest[size:]
		}
		for _, s := range xattrNames(raw) {
			if s == "" {
				t.Error("an attribute without a name")
			}
		}
	})
}
