package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// What one that was killed has moved to the top is in nobody's way.
func TestRemoveAgain(t *testing.T) {
	top := filepath.Join(t.TempDir(), "run")
	for _, dir := range []string{".sbx-remove-1/full/x", ".sbx-remove-2", "a/b/c/d", "a/e/f", "g/h/i"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{".sbx-remove-1/y", ".sbx-remove-3", "a/b/z"} {
		if err := os.WriteFile(filepath.Join(top, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := removePath(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
