package cli

import (
	"reflect"
	"strings"
	"testing"

	"sbx/sandbox"
)

func TestCheckUser(t *testing.T) {
	for _, s := range []string{"0", "1000", "1000:1000", "ada", "ada:wheel", "_apt", "ada:0", "user@DOMAIN", "a.b-c$", "4294967294", "ada:", ":0", ":wheel"} {
		if err := checkUser(s); err != nil {
			t.Errorf("-u %s: %v", s, err)
		}
	}
	for _, s := range []string{
		"", ":", "1000:0x10", "1 0", "-1", "+1", "4294967295", "99999999999", "root:../", "a b", "a\nb", "a\x00",
		"ada:b:c", "1000a", "/etc", strings.Repeat("a", 257),
	} {
		if err := checkUser(s); err == nil {
			t.Errorf("-u %q was accepted", s)
		}
	}
}

func FuzzUser(f *testing.F) {
	f.Add("1000:1000")
	f.Add("ada:wheel")
	f.Fuzz(func(t *testing.T, s string) {
		if checkUser(s) == nil && (strings.ContainsAny(s, "\n\x00/ ") || strings.Count(s, ":") > 1 || s == "") {
			t.Errorf("%q was accepted", s)
		}
	})
}

func TestUserNS(t *testing.T) {
	for in, want := range map[string]sandbox.UserNS{
		"":                            {},
		"private":                     {},
		"host":                        {Mode: "host"},
		"nomap":                       {Mode: "nomap"},
		"keep-id":                     {Mode: "keep-id"},
		"keep-id:uid=5,gid=6,size=77": {Mode: "keep-id", UID: id(5), GID: id(6), Size: 77},
		"auto":                        {Mode: "auto"},
		"auto:size=1000":              {Mode: "auto", Size: 1000},
	} {
		r := newRunArgs(testApp())
		if err := r.setUserNS(in); err != nil || !reflect.DeepEqual(r.spec.UserNS, want) {
			t.Errorf("--userns %s: %+v, %v", in, r.spec.UserNS, err)
		}
	}
	for _, in := range []string{"wibble", "host:uid=1", "keep-id:uid", "keep-id:uid=x", "keep-id:size=0", "auto:uid=1", "ns:/proc/1/ns/user", "container:x"} {
		if err := newRunArgs(testApp()).setUserNS(in); err == nil {
			t.Errorf("--userns %s was accepted", in)
		}
	}
}

func TestIDMap(t *testing.T) {
	for in, want := range map[string]sandbox.IDMapFlag{
		"0:1":             {Container: 0, From: 1, Size: 1},
		"0:1:1000":        {Container: 0, From: 1, Size: 1000},
		"+5:@1000:1":      {Container: 5, From: 1000, Size: 1, Extend: true, Host: true},
		"u0:@0":           {Container: 0, From: 0, Size: 1, UIDs: true, Host: true},
		"+g7:8":           {Container: 7, From: 8, Size: 1, GIDs: true, Extend: true},
		"0:4294967294:1":  {Container: 0, From: 4294967294, Size: 1},
		"0:0:4294967294 ": {},
	} {
		got, err := parseIDMap(in)
		if ok := want != (sandbox.IDMapFlag{}); (err == nil) != ok || ok && got != want {
			t.Errorf("--uidmap %s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "0:1:2:3", "0:1:0", "x:1", "0:y", "@0:1", "-1:0", "0:4294967295", "0:4294967294:2", "4294967290:0:10"} {
		if _, err := parseIDMap(in); err == nil {
			t.Errorf("--uidmap %s was accepted", in)
		}
	}
}

// hostRoot is the Spec of --hostuser root, in JSON: the machine's own line decides.
func hostRoot(t *testing.T) string {
	t.Helper()
	line, err := hostUser("root")
	if err != nil {
		t.Fatal(err)
	}
	if byID, err := hostUser("0"); err != nil || byID != line || !strings.HasPrefix(line, "root:*:0:0:") || strings.Count(line, ":") != 6 {
		t.Errorf("root is %q, 0 is %q, %v", line, byID, err)
	}
	return `{"HostUsers":["` + line + `"]}`
}
