//go:build !hot

package sandbox

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"sbx/slirp/egress"
	"sbx/userns"
)

var update = flag.Bool("update", false, "write the plans in testdata/plan anew")

// testHost is the machine of the golden plans: an ordinary user with subordinate ids.
func testHost() Host {
	limits := map[string]Rlimit{}
	for name := range limitNames() {
		limits[name] = Rlimit{name, 1 << 20, 1 << 20}
	}
	limits["core"] = Rlimit{"core", 0, -1}
	return Host{
		ID: strings.Repeat("0123456789abcdef", 4),
		Caller: userns.Caller{
			UID: 1000, GID: 1000, Name: "ada",
			SubUIDs: []userns.ID{{Outside: 100000, Size: 65536}}, SubGIDs: []userns.ID{{Outside: 100000, Size: 65536}},
		},
		Groups: []uint32{1000}, RunDir: "/data/runs/0123", Resolv: "nameserver 192.0.2.53\nsearch example.test\n",
		Zoneinfo: "/usr/share/zoneinfo", Cgroup2: true, Arch: "amd64", Kernel: [2]int{6, 1}, Limits: limits,
	}
}

// TestPlan compares plans with those in testdata/plan/*.txtar: spec.json, over the image
// of testSpec; host.json, over testHost; and the plan as --dry-run prints it, or the error.
// Where there is a file plan.json, the plan is compared as JSON too.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("../testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no plans in testdata/plan", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			spec := Spec{Root: Root{Layers: []string{"/data/l2", "/data/l1"}, Label: "docker.io/library/busybox:latest"}, SigProxy: true}
			host := testHost()
			var want, wantJSON *txtar.File
			for i := range archive.Files {
				f := &archive.Files[i]
				switch f.Name {
				case "spec.json":
					decode(t, f.Data, &spec)
				case "host.json":
					decode(t, f.Data, &host)
				case "plan":
					want = f
				case "plan.json":
					wantJSON = f
				}
			}
			if want == nil {
				archive.Files = append(archive.Files, txtar.File{Name: "plan"})
				want = &archive.Files[len(archive.Files)-1]
			}
			got := planText(spec, host)
			if again := planText(spec, host); again != got {
				t.Errorf("the same spec and host gave two plans:\n%s\n%s", got, again)
			}
			var gotJSON string
			if wantJSON != nil {
				gotJSON = planJSON(t, spec, host)
			}
			if *update {
				if wantJSON != nil {
					wantJSON.Data = []byte(gotJSON)
				}
				want.Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if string(want.Data) != got {
				t.Errorf("got:\n%s\nwant:\n%s", got, want.Data)
			}
			if wantJSON != nil && string(wantJSON.Data) != gotJSON {
				t.Errorf("got:\n%s\nwant:\n%s", gotJSON, wantJSON.Data)
			}
		})
	}
}

func decode(t *testing.T, text []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}

func planText(spec Spec, host Host) string {
	p, err := NewPlan(spec, host)
	if err != nil {
		text := "error: " + err.Error() + "\n"
		if f := failureOf(err); f.Fix != "" {
			text += "hint: " + f.Fix + "\n"
		}
		return text
	}
	var b strings.Builder
	p.WriteText(&b)
	return b.String()
}

func planJSON(t *testing.T, spec Spec, host Host) string {
	t.Helper()
	p, err := NewPlan(spec, host)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPlanIsWhole: a field that is not exported would neither travel nor be printed, and one
// without a tag would be printed under a name that nobody documents.
func TestPlanIsWhole(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var look func(reflect.Type, bool)
	look = func(at reflect.Type, printed bool) {
		switch at.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			look(at.Elem(), printed)
			return
		case reflect.Struct:
		default:
			return
		}
		if _, text := reflect.New(at).Interface().(encoding.TextMarshaler); text || seen[at] {
			return
		}
		seen[at] = true
		_, own := reflect.New(at).Interface().(json.Marshaler)
		for i := range at.NumField() {
			f := at.Field(i)
			if !f.IsExported() {
				t.Errorf("%v.%s is not exported", at, f.Name)
			}
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); printed && !own && (name == "" || name[0] >= 'A' && name[0] <= 'Z') {
				t.Errorf("%v.%s has the JSON name %q", at, f.Name, name)
			}
			look(f.Type, printed)
		}
	}
	look(reflect.TypeFor[Plan](), true)
	look(reflect.TypeFor[order](), false)
}

// TestWire carries a full plan over and compares.
func TestWire(t *testing.T) {
	uid := uint32(7)
	spec := Spec{
		Root: Root{Layers: []string{"/l"}}, Args: []string{"true", ""},
		SecretEnv: []string{"TOKEN=hidden"}, Interactive: true, Timeout: 7, StopSignal: "SIGUSR1",
		Secrets: []Secret{{ID: "s", Dst: "/run/secrets/s", Data: []byte("hidden"), UID: 1, GID: 2, Mode: 0o400}},
		UserNS:  UserNS{Mode: "keep-id", UID: &uid},
		Mounts:  []Mount{{Type: "tmpfs", Dst: "/t", UID: &uid, GID: &uid}},
		Network: "private", Allow: []egress.Rule{{Name: "*.example.test", Port: 443, Protocol: "tcp"}},
	}
	p, err := NewPlan(spec, testHost())
	if err != nil {
		t.Fatal(err)
	}
	var got order
	text := marshal(&order{Plan: *p})
	if err := unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if again := marshal(&got); !bytes.Equal(again, text) {
		t.Error("what arrived is not what was sent")
	}
	if !reflect.DeepEqual(got.Plan, *p) {
		t.Errorf("got %+v\nwant %+v", got.Plan, *p)
	}
	for n := range text {
		if err := unmarshal(text[:n], new(order)); err == nil {
			t.Fatalf("the first %d of %d bytes were enough", n, len(text))
		}
	}
	for _, printed := range []string{planJSON(t, spec, testHost()), planText(spec, testHost())} {
		if strings.Contains(printed, "hidden") || !strings.Contains(printed, "TOKEN") {
			t.Error("the printed plan shows a secret, or not its name")
		}
	}
}

func TestLastGroup(t *testing.T) {
	for _, test := range []struct {
		ids  []userns.ID
		want uint32
	}{
		{[]userns.ID{{Inside: 0, Outside: 1000, Size: 1}}, 0},
		{[]userns.ID{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 65536}}, 65536},
		{[]userns.ID{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 10}, {Inside: 11, Outside: 5000, Size: 10}}, 10},
		{[]userns.ID{{Inside: 0, Outside: 200000, Size: 1}, {Inside: 1, Outside: 100000, Size: 65536}}, 0},
	} {
		if got := lastGroup(test.ids); got != test.want {
			t.Errorf("%v: %d, not %d", test.ids, got, test.want)
		}
	}
}
