//go:build !hot

package fuseoverlay

import "testing"

func TestReadOnly(t *testing.T) {
	s := newStack(t, 2)
	sh(t, s.lower[1], `mkdir -p a/b c; echo 1 > a/x; echo 2 > a/y; echo 3 > a/b/z; echo 4 > c/hidden; ln -s a/x link`)
	sh(t, s.lower[0], `mkdir -p a c; echo new > a/x; mknod a/y c 0 0; setfattr -n user.overlay.opaque -v y c; touch c/.wh.nothing c/seen; touch a/.wh.b; echo 5 > own`)
	s.upper = ""
	s.mount(t)
	got := sh(t, s.mnt, `find . | sort; cat a/x link own; ls -la a/y 2>&1 || true`)
	want := `.
./a
./a/x
./c
./c/seen
./link
./own
new
new
5
ls: cannot access 'a/y': No such file or directory`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
