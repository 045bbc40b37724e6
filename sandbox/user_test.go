package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sbx/userns"
)

func userTree(t *testing.T, passwd, group string) tree {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return tree{dir: dir}
}

func TestWhoIs(t *testing.T) {
	tr := userTree(t,
		"root:x:0:0:root:/root:/bin/sh\nlong:x:6:6:"+strings.Repeat("x", 70<<10)+":/:/bin/sh\ncolons:"+strings.Repeat(":", 70<<10)+"\napp:x:1000:1001::/srv:/bin/sh\n42:x:7:8::/n:/bin/sh\nbroken\nbig:x:70000:0::/:/bin/sh\nneg:x:-1:0::/:/bin/sh\n",
		"root:x:0:\nstaff:x:50:app,other\naudio:x:29:app\nmany:x:51:"+strings.Repeat("other,", 20<<10)+"app\r\napp:x:1001:app\nhuge:x:99999:\n")
	ids := userns.Map{UIDs: []userns.ID{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 65536}}}
	ids.GIDs = ids.UIDs
	for _, test := range []struct {
		user     string
		extra    []string
		uid, gid uint32
		groups   []uint32
		home     string
		err      string
	}{
		{user: "0", home: "/root"},
		{user: "root", home: "/root"},
		{user: "app", uid: 1000, gid: 1001, groups: []uint32{29, 50, 51}, home: "/srv"},
		{user: "1000", uid: 1000, gid: 1001, groups: []uint32{29, 50, 51}, home: "/srv"},
		{user: "app:staff", uid: 1000, gid: 50, home: "/srv"},
		{user: "app:", uid: 1000, gid: 1001, groups: []uint32{29, 50, 51}, home: "/srv"},
		{user: ":50", gid: 50, home: "/root"},
		{user: ":staff", gid: 50, home: "/root"},
		{user: "1000:", uid: 1000, gid: 1001, groups: []uint32{29, 50, 51}, home: "/srv"},
		{user: "1234", uid: 1234, home: "/"},
		{user: "1234:29", uid: 1234, gid: 29, home: "/"},
		{user: "42", uid: 7, gid: 8, home: "/n"}, // a name goes before a number
		{user: "app", extra: []string{"root", "77"}, uid: 1000, gid: 1001, groups: []uint32{0, 29, 50, 51, 77}, home: "/srv"},
		{user: "nobody", err: "no such user"},
		{user: "app:nogroup", err: "no such group"},
		{user: "big", err: "does not exist in the sandbox"},
		{user: "0:huge", err: "does not exist in the sandbox"},
		{user: "4294967295", err: "no such user"},
		{user: "-1", err: "no such user"},
		{user: "neg", err: "no such user"},
		{user: "+5", err: "no such user"},
	} {
		who, err := whoIs(tr, test.user, test.extra, ids)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: got %v, want %q", test.user, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.user, err)
			continue
		}
		if who.UID != test.uid || who.GID != test.gid || !slices.Equal(who.Groups, test.groups) || who.Home != test.home {
			t.Errorf("%s: got %d:%d %v %s", test.user, who.UID, who.GID, who.Groups, who.Home)
		}
	}
}

func TestUserFiles(t *testing.T) {
	who := &identity{UID: 1234, GID: 5, passwd: []byte("root:x:0:0::/root:/bin/sh"), group: []byte("root:x:0:\n")}
	if got := string(who.withUser("", []string{"ada:x:1:1::/home/ada:/bin/sh"}, "/w")); got !=
		"root:x:0:0::/root:/bin/sh\nada:x:1:1::/home/ada:/bin/sh\n1234:*:1234:5:container user:/w:/bin/sh\n" {
		t.Errorf("passwd:\n%s", got)
	}
	if got := string(who.withUser("$USERNAME:x:$UID:$GID::$HOME:/bin/zsh", nil, "/w")); !strings.HasSuffix(got, "\n1234:x:1234:5::/w:/bin/zsh\n") {
		t.Errorf("template:\n%s", got)
	}
	if got := string(who.withGroup(nil)); got != "root:x:0:\n5:x:5:\n" {
		t.Errorf("group:\n%s", got)
	}
	ada := "ada:*:1234:5:container user:/w:/bin/sh"
	if got := string(who.withUser("", []string{ada}, "/w")); got != "root:x:0:0::/root:/bin/sh\n"+ada+"\n" {
		t.Errorf("the user's own line:\n%s", got)
	}
	if got := string(who.withUser("$USERNAME:x:$UID:$GID::$HOME:/bin/zsh", []string{ada}, "/w")); got != "root:x:0:0::/root:/bin/sh\nada:x:1234:5::/w:/bin/zsh\n" {
		t.Errorf("the user's own line, from a template:\n%s", got)
	}
	known := &identity{UID: 0, Name: "root", passwd: who.passwd, group: who.group}
	if known.withUser("", nil, "/") != nil || known.withGroup(nil) != nil {
		t.Error("a user that is known needs no lines")
	}
}

// TestUnmapped reads what is said of ids that the sandbox does not have.
func TestUnmapped(t *testing.T) {
	tr := userTree(t, "root:x:0:0::/:/bin/sh\n", "root:x:0:\n")
	plain := []userns.ID{{Inside: 0, Outside: 0, Size: 1000}}
	for _, test := range []struct {
		user       string
		extra      []string
		ids        []userns.ID
		text, hint string
	}{
		{"2000", nil, plain, "user 2000 does not exist in the sandbox: ids below 1000", "keep-id:uid=2000"},
		{"0:2000", nil, plain, "group 2000 does not exist in the sandbox: ids below 1000", "keep-id:gid=2000"},
		{"0", []string{"2000"}, plain, "group 2000 does not exist", "--add-subgids"},
		{"0", nil, []userns.ID{{Inside: 5, Outside: 0, Size: 1}}, "lacks id 0", "--user 5"},
		{"nonesuch", nil, plain, "no such user", "use a number"},
		{"0", []string{"nonesuch"}, plain, "no such group", "--group-add 1000"},
	} {
		_, err := whoIs(tr, test.user, test.extra, userns.Map{UIDs: test.ids, GIDs: test.ids})
		var refused *Error
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, test.text) || !strings.Contains(refused.Fix, test.hint) {
			t.Errorf("%s: got %#v, want %q and %q", test.user, refused, test.text, test.hint)
		}
		if refused != nil && len(test.extra) > 0 && strings.Contains(refused.Fix, "keep-id") {
			t.Errorf("%s: keep-id does not help a supplementary group", test.user)
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, test := range []struct {
		name, path string
		want       []string
	}{
		{"sh", "PATH=/bin:/usr/bin", []string{"/bin/sh", "/usr/bin/sh"}},
		{"sh", "PATH=:/bin:.", []string{"./sh", "/bin/sh", "./sh"}},
		{"./sh", "PATH=/bin", []string{"./sh"}},
		{"/x/sh", "", []string{"/x/sh"}},
	} {
		if got := candidates(test.name, []string{test.path}); !slices.Equal(got, test.want) {
			t.Errorf("%s in %s: %q", test.name, test.path, got)
		}
	}
}
