package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sbx/sandbox"
)

func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }

func id(n uint32) *uint32 { return &n }

func TestParseVolume(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		in   string
		want sandbox.Mount
	}{
		{"/data", sandbox.Mount{Type: "volume", Dst: "/data"}},
		{"/data:ro", sandbox.Mount{Type: "volume", Dst: "/data", ReadOnly: true}},
		{"/a:/b", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b"}},
		{"/a:/b:ro", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", ReadOnly: true}},
		{"/a:/b/../c/:ro,Z,U", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/c", ReadOnly: true, Relabel: "Z", Chown: true}},
		{"/a:/b:rw,z,nosuid,nodev,exec", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", Relabel: "z", NoSuid: yes(), NoDev: yes(), NoExec: no()}},
		{"/a:/b:suid,dev,noexec,rslave", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", NoSuid: no(), NoDev: no(), NoExec: yes(), Propagation: "rslave"}},
		{"/a:/b:bind", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", NonRecursive: true}},
		{"/a:/b:rbind,cached", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b"}},
		{"/a:/b:O", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", Overlay: true}},
		{"/a:/b:O,upperdir=/u,workdir=/w", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", Overlay: true, UpperDir: "/u", WorkDir: "/w"}},
		{".:/b", sandbox.Mount{Type: "bind", Src: cwd, Dst: "/b"}},
		{"./x:/b", sandbox.Mount{Type: "bind", Src: filepath.Join(cwd, "x"), Dst: "/b"}},
		{"../x:/b", sandbox.Mount{Type: "bind", Src: filepath.Join(filepath.Dir(cwd), "x"), Dst: "/b"}},
		{"vol:/b", sandbox.Mount{Type: "volume", Name: "vol", Dst: "/b"}},
		{"vol:/b:nocreate,nocopy,ro", sandbox.Mount{Type: "volume", Name: "vol", Dst: "/b", NoCreate: true, NoCopy: true, ReadOnly: true}},
		{"/a,b c:/d", sandbox.Mount{Type: "bind", Src: "/a,b c", Dst: "/d"}},
	} {
		got, err := parseVolume(test.in)
		if err != nil {
			t.Errorf("-v %s: %v", test.in, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("-v %s:\n got %+v\nwant %+v", test.in, got, test.want)
		}
	}
}

func TestParseVolumeRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "absolute",
		"data":                     "absolute",
		":/b":                      "source is empty",
		"/a:b":                     "unknown option",
		"/a:/b:ro:rw":              "not [SRC:]DST",
		"/a:/b:wibble":             "unknown option",
		"/a:/b:ro,":                "unknown option",
		"/a:/b:size=1":             "unknown option",
		"/a:/b:idmap":              "id-mapped",
		"/a:/b:idmap=uids=0-1-1":   "id-mapped",
		"/a:/b:ro,rw":              "ro and rw exclude",
		"/a:/b:z,Z":                "z and Z exclude",
		"/a:/b:exec,noexec":        "exec and noexec exclude",
		"/a:/b:shared,rslave":      "exclude",
		"/a:/b:rbind,bind":         "exclude",
		"/a:/b:U,U":                "said twice",
		"/a:/b:unbindable":         "unknown option",
		"/a:/b:O,U":                "exclude",
		"/a:/b:O,ro":               "exclude",
		"/a:/b:upperdir=/u":        "go with O",
		"/a:/b:O,upperdir=/u":      "go together",
		"/a:/b:O,upperdir=":        "needs a directory",
		"a/b:/c":                   "neither a path nor the name",
		"a b:/c":                   "not the name of a volume",
		"-x:/c":                    "not the name of a volume",
		"/b:nocreate":              "needs the name",
		"/a:/b:bind-propagation=x": "unknown option",
		"/a\x00:/b":                "not a path",
		"/a:/b\x00":                "not a path",
	} {
		if _, err := parseVolume(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("-v %q: %v; want %q", in, err, want)
		}
	}
}

func TestParseMount(t *testing.T) {
	for _, test := range []struct {
		in   string
		want sandbox.Mount
	}{
		{"type=bind,src=/a,dst=/b", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b"}},
		{"dst=/b,source=/a,type=bind,readonly", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", ReadOnly: true}},
		{"type=bind,src=/a,target=/b,ro=false,U=true", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", Chown: true}},
		{"type=bind,src=/a,dst=/b,ro=norecursive", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", ReadOnly: true, ReadOnlyShallow: true}},
		{"type=bind,src=/a,dst=/b,bind-nonrecursive,bind-propagation=rslave", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", NonRecursive: true, Propagation: "rslave"}},
		{"type=bind,src=/a,dst=/b,relabel=shared,nosuid,dev=false,noexec=false", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", Relabel: "z", NoSuid: yes(), NoDev: yes(), NoExec: no()}},
		{"type=bind,src=/a,dst=/b,bind-recursive=writable", sandbox.Mount{Type: "bind", Src: "/a", Dst: "/b", ReadOnlyShallow: true}},
		{`type=bind,"src=/a:b,c\d",dst=/b`, sandbox.Mount{Type: "bind", Src: `/a:b,c\d`, Dst: "/b"}},
		{"src=vol,dst=/b", sandbox.Mount{Type: "volume", Name: "vol", Dst: "/b"}},
		{"type=volume,dst=/b", sandbox.Mount{Type: "volume", Dst: "/b"}},
		{"type=volume,src=vol,dst=/b,volume-nocopy,nocreate,ro=true", sandbox.Mount{Type: "volume", Name: "vol", Dst: "/b", NoCopy: true, NoCreate: true, ReadOnly: true}},
		{"type=tmpfs,dst=/b,tmpfs-size=64m,tmpfs-mode=1777,uid=5,notmpcopyup", sandbox.Mount{Type: "tmpfs", Dst: "/b", Size: 64 << 20, Mode: 0o1777, UID: id(5), TmpCopyUp: no()}},
		{"type=ramfs,dst=/b,size=1k", sandbox.Mount{Type: "tmpfs", Dst: "/b", Size: 1024}},
		{"type=image,src=alpine,dst=/b,rw=true,subpath=/etc", sandbox.Mount{Type: "image", Src: "alpine", Dst: "/b", ReadWrite: true, Subdir: "/etc"}},
		{"type=devpts,dst=/dev/pts2,mode=0620,gid=5,max=10", sandbox.Mount{Type: "devpts", Dst: "/dev/pts2", Mode: 0o620, GID: id(5), Max: 10}},
		{"type=glob,src=/usr/lib/lib*,ro", sandbox.Mount{Type: "glob", Src: "/usr/lib/lib*", ReadOnly: true}},
	} {
		got, err := parseMount(test.in)
		if err != nil {
			t.Errorf("--mount %s: %v", test.in, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("--mount %s:\n got %+v\nwant %+v", test.in, got, test.want)
		}
	}
}

func TestParseMountRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                                                     "not KEY=VALUE",
		"type=bind,dst=/b":                                     "no source",
		"type=bind,src=/a":                                     "no destination",
		"type=nfs,src=/a,dst=/b":                               "not one of",
		"type=bind,src=/a,dst=b":                               "absolute",
		"type=bind,src=/a,dst=/b,size=1m":                      "no option of type=bind",
		"type=tmpfs,src=/a,dst=/b":                             "no option of type=tmpfs",
		"type=tmpfs,dst=/b,size=lots":                          "not a size",
		"type=bind,src=/a,dst=/x,dst=/y":                       "dst: said twice",
		"type=bind,src=/a,dst=/x,target=/y":                    "dst and target exclude",
		"type=bind,src=/a,source=/b,dst=/x":                    "exclude",
		"type=bind,type=tmpfs,dst=/x":                          "type: said twice",
		"type=bind,src=/a,dst=/x,ro,rw":                        "ro and rw exclude",
		"type=bind,src=/a,dst=/b,wibble":                       "unknown option",
		"type=bind,src=/a,dst=/b,idmap":                        "id-mapped",
		"type=bind,src=/a,dst=/b,ro=perhaps":                   "neither true nor false",
		"type=bind,src=/a,dst=/b,U=perhaps":                    "neither true nor false",
		"type=bind,src=/a,dst=/b,bind-propagation=rw,exec=1,x": "not one of",
		"type=bind,src=/a,dst=/b,relabel=z":                    "neither shared nor private",
		"type=volume,src=../x,dst=/b":                          "not the name of a volume",
		"type=volume,src=/a,dst=/b":                            "not the name of a volume",
		"type=volume,src=v,dst=/b,volume-driver=nfs":           "unknown option",
		"type=image,src=i,dst=/b,subpath=../../etc":            "leaves the image",
		"type=devpts,dst=/b,max=0":                             "not a number",
		"type=bind,src=/a,dst=/b\ntype=bind":                   "not KEY=VALUE",
		`type=bind,src="/a,dst=/b`:                             "not KEY=VALUE",
	} {
		if _, err := parseMount(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--mount %q: %v; want %q", in, err, want)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	for _, test := range []struct {
		in   string
		want sandbox.Mount
	}{
		{"/tmp", sandbox.Mount{Type: "tmpfs", Dst: "/tmp"}},
		{"/tmp:", sandbox.Mount{Type: "tmpfs", Dst: "/tmp"}},
		{"/tmp:rw,size=787448k,mode=1777", sandbox.Mount{Type: "tmpfs", Dst: "/tmp", Size: 787448 << 10, Mode: 0o1777}},
		{"/t:ro,exec,suid,dev,uid=1,gid=2,nr_inodes=1k,notmpcopyup", sandbox.Mount{
			Type: "tmpfs", Dst: "/t", ReadOnly: true, NoExec: no(), NoSuid: no(), NoDev: no(),
			UID: id(1), GID: id(2), Inodes: 1024, TmpCopyUp: no(),
		}},
	} {
		got, err := parseTmpfs(test.in)
		if err != nil {
			t.Errorf("--tmpfs %s: %v", test.in, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("--tmpfs %s:\n got %+v\nwant %+v", test.in, got, test.want)
		}
	}
	for _, in := range []string{"", "tmp", "/t:size=0%", "/t:size=101%", "/t:size=%", "/t:size=1.5%", "/t:nr_inodes=10%", "/t:huge=always", "/t:x", "/t:mode=9", "/t:uid=-1", "/t:uid=4294967295"} {
		if _, err := parseTmpfs(in); err == nil {
			t.Errorf("--tmpfs %q was accepted", in)
		}
	}
}

func TestTmpfsPercent(t *testing.T) {
	all, err := parseTmpfs("/t:size=100%")
	half, err2 := parseTmpfs("/t:size=50%")
	if err != nil || err2 != nil || half.Size <= 0 || all.Size < 2*half.Size || all.Size > 2*half.Size+8192 {
		t.Errorf("100%% is %d, 50%% is %d; %v, %v", all.Size, half.Size, err, err2)
	}
}

func TestMountedTwice(t *testing.T) {
	r := newRunArgs(testApp())
	dir := t.TempDir()
	if err := r.addVolume(dir + ":/x"); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"-v":      r.addVolume("vol:/x/"),
		"--mount": r.addMount("type=tmpfs,dst=/y/../x"),
		"--tmpfs": r.addTmpfs("/x"),
	} {
		if err == nil || !strings.Contains(err.Error(), "mounted twice") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissingSource(t *testing.T) {
	r := newRunArgs(testApp())
	err := r.addVolume(filepath.Join(t.TempDir(), "nonesuch") + ":/x")
	if !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing source: %v", err)
	}
	if len(r.spec.Mounts) != 0 {
		t.Error("the mount was kept")
	}
}

func TestGlob(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a1", "a2", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := newRunArgs(testApp())
	if err := r.addMount("type=glob,src=" + dir + "/a*,dst=/in,ro"); err != nil {
		t.Fatal(err)
	}
	want := []sandbox.Mount{
		{Type: "bind", Flag: "--mount", Src: dir + "/a1", Dst: "/in/a1", ReadOnly: true},
		{Type: "bind", Flag: "--mount", Src: dir + "/a2", Dst: "/in/a2", ReadOnly: true},
	}
	if !reflect.DeepEqual(r.spec.Mounts, want) {
		t.Errorf("got %+v", r.spec.Mounts)
	}
	if err := r.addMount("type=glob,src=" + dir + "/z*"); err == nil {
		t.Error("a glob without matches was accepted")
	}
}

func FuzzVolume(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "vol:/x", ".:/w", "/a:/b:O,upperdir=/u,workdir=/w"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseVolume(s)
		if err == nil {
			checkParsed(t, s, m)
		}
	})
}

func FuzzMount(f *testing.F) {
	for _, s := range []string{"type=bind,src=/a,dst=/b", "type=tmpfs,dst=/x,size=1m", `"src=a,b",dst=/x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMount(s)
		if err == nil && m.Type != "glob" {
			checkParsed(t, s, m)
		}
	})
}

// checkParsed holds for every mount that was accepted, however it was written.
func checkParsed(t *testing.T, s string, m sandbox.Mount) {
	if !filepath.IsAbs(m.Dst) || filepath.Clean(m.Dst) != m.Dst || strings.ContainsRune(m.Dst, 0) {
		t.Errorf("%q: destination %q", s, m.Dst)
	}
	if m.Type == "bind" && (!filepath.IsAbs(m.Src) || strings.ContainsRune(m.Src, 0)) {
		t.Errorf("%q: source %q", s, m.Src)
	}
	if m.Name != "" && !isName(m.Name) {
		t.Errorf("%q: name %q", s, m.Name)
	}
}
