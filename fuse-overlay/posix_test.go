//go:build !hot

package fuseoverlay

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// TestPosix is go-fuse's own suite, on ours.
func TestPosix(t *testing.T) {
	for name, test := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if name == "FcntlFlockLocksFile" {
				t.Skip("not so on any file system of the kernel's: a process's locks do not stand in its own way")
			}
			s := newStack(t, 2)
			s.mount(t)
			test(t, s.mnt)
		})
	}
}
