//go:build !hot

package cli

import (
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func testEntries() []imageEntry {
	entry := func(id byte, age time.Duration, size int64, names ...string) imageEntry {
		e := imageEntry{
			ID: strings.Repeat(string(id), 64), Names: names, RepoTags: names, CreatedAt: testNow.Add(-age),
			Size: size, Digest: "sha256:" + strings.Repeat(string(id), 64), Dangling: len(names) == 0, OS: "linux", Arch: "amd64",
		}
		e.Created = e.CreatedAt.Unix()
		return e
	}
	const day = 24 * time.Hour
	old := entry('a', 300*day, 7_800_000, "docker.io/library/alpine:3.20", "localhost/base:1")
	old.Labels = map[string]string{"role": "base", "tier": "os"}
	return []imageEntry{old, entry('b', 2*time.Hour, 120_000_000, "localhost:5000/team/tool:v2"), entry('c', 10*day, 512)}
}

func TestImages(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags imagesFlags
		want  string
	}{
		{"table", imagesFlags{sort: "created"}, `
REPOSITORY                TAG     IMAGE ID      CREATED        SIZE
localhost:5000/team/tool  v2      bbbbbbbbbbbb  2 hours ago    120 MB
<none>                    <none>  cccccccccccc  10 days ago    512 B
docker.io/library/alpine  3.20    aaaaaaaaaaaa  10 months ago  7.8 MB
localhost/base            1       aaaaaaaaaaaa  10 months ago  7.8 MB
`},
		{"quiet", imagesFlags{sort: "id", quiet: true}, "\naaaaaaaaaaaa\nbbbbbbbbbbbb\ncccccccccccc\n"},
		{"whole ids", imagesFlags{sort: "id", quiet: true, noTrunc: true, filters: []string{"id=bb"}}, "\nsha256:" + strings.Repeat("b", 64) + "\n"},
		{"sorted by size", imagesFlags{sort: "size", format: "{{.Size}}"}, "\n512 B\n7.8 MB\n7.8 MB\n120 MB\n"},
		{"sorted by tag", imagesFlags{sort: "tag", format: "{{.Tag}}"}, "\n1\n3.20\n<none>\nv2\n"},
		{"template", imagesFlags{sort: "repository", format: `{{upper .Repository}}:{{.Tag}} {{json .Names}}`, filters: []string{"reference=tool"}},
			"\nLOCALHOST:5000/TEAM/TOOL:v2 [\"localhost:5000/team/tool:v2\"]\n"},
		{"table template", imagesFlags{sort: "id", format: `table {{.ID}}\t{{.CreatedSince}}`, filters: []string{"dangling=true"}}, `
IMAGE ID      CREATED
cccccccccccc  10 days ago
`},
		{"one name of two", imagesFlags{sort: "id", noHeading: true, filters: []string{"reference=base"}}, "\nlocalhost/base  1  aaaaaaaaaaaa  10 months ago  7.8 MB\n"},
		{"both names", imagesFlags{sort: "tag", format: "{{.Tag}}", filters: []string{"reference=base", "reference=alpine"}}, "\n1\n3.20\n"},
		{"map", imagesFlags{sort: "id", format: `table {{.Id}} {{index .Labels "role"}} {{.Labels.tier}}`, filters: []string{"id!=a", "id=b"}}, `
IMAGE ID      LABELS  LABELS
bbbbbbbbbbbb          <no value>
`},
		{"headings", imagesFlags{sort: "id", format: `table {{.Repository | upper}} {{range .RepoTags}}{{.}},{{end}}\t{{if .Dangling}}{{.Size}}{{end}}`, filters: []string{"id=b"}}, `
REPOSITORY                REPO TAGS                     SIZE
LOCALHOST:5000/TEAM/TOOL  localhost:5000/team/tool:v2,
`},
		{"no heading", imagesFlags{sort: "id", noHeading: true, filters: []string{"id=c"}}, "\n<none>  <none>  cccccccccccc  10 days ago  512 B\n"},
	} {
		a, stdout, _ := testAppIO()
		if err := a.images(&test.flags, testEntries(), testNow); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := "\n" + stdout.String(); got != test.want {
			t.Errorf("%s:%swant:%s", test.name, got, test.want)
		}
	}
}

func TestImagesJSON(t *testing.T) {
	a, stdout, _ := testAppIO()
	if err := a.images(&imagesFlags{sort: "created", format: "json"}, testEntries()[:1], testNow); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"Id": "aaaa`, `"RepoTags": [`, `"Size": 7800000`, `"Created": 1754`, `"role": "base"`, `"Arch": "amd64"`} {
		if !strings.Contains(stdout.String(), key) {
			t.Errorf("no %s in:\n%s", key, stdout)
		}
	}
	stdout.Reset()
	if err := a.images(&imagesFlags{sort: "created", format: "json"}, nil, testNow); err != nil || stdout.String() != "[]\n" {
		t.Errorf("no images: %q, %v", stdout, err)
	}
}

func TestFilters(t *testing.T) {
	for filters, want := range map[string]string{
		"":                                "abc",
		"reference=alpine":                "a",
		"reference=alpine:3.*":            "a",
		"reference=library/alpine":        "a",
		"reference=docker.io/*/alpine":    "a",
		"reference=*":                     "ab",
		"reference=alpin":                 "",
		"reference=alpine reference=tool": "ab",
		"reference=localhost/base":        "a",
		"id=b":                            "b",
		"id=sha256:c":                     "c",
		"label=role":                      "a",
		"label=role=base label=tier":      "a",
		"label=role=base label=none":      "",
		"label=role=other":                "",
		"label!=role":                     "bc",
		"label!=role=base label!=x":       "bc",
		"reference!=tool":                 "ac",
		"reference!=tool reference!=base": "c",
		"dangling!=true":                  "ab",
		"dangling=true":                   "c",
		"dangling=false":                  "ab",
		"before=tool":                     "ac",
		"since=alpine:3.20":               "bc",
		"since=ccc":                       "b",
		"until=24h":                       "ac",
		"until=2026-05-01":                "a",
		"reference=* until=24h":           "a",
	} {
		keep, err := parseFilters(strings.Fields(filters), testEntries(), testNow)
		if err != nil {
			t.Errorf("%s: %v", filters, err)
			continue
		}
		got := ""
		for _, e := range testEntries() {
			if keep(e) {
				got += e.ID[:1]
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", filters, got, want)
		}
	}
	for _, s := range []string{"bogus=1", "reference", "dangling=x", "until=soon", "before=nonesuch", "reference=[", "since=*"} {
		if _, err := parseFilters([]string{s}, testEntries(), testNow); err == nil {
			t.Errorf("%s was accepted", s)
		}
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 999_600: "1 MB", 7_345_678: "7.35 MB", 120_000_000_000: "120 GB"} {
		if got := humanSize(n); got != want {
			t.Errorf("humanSize(%d) = %q, want %q", n, got, want)
		}
	}
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 seconds ago", time.Second: "1 second ago", 90 * time.Second: "1 minute ago", 59 * time.Minute: "59 minutes ago",
		26 * time.Hour: "26 hours ago", 3 * day: "3 days ago", 20 * day: "2 weeks ago", 100 * day: "3 months ago", 900 * day: "2 years ago",
	} {
		if got := humanAge(testNow.Add(-d), testNow); got != want {
			t.Errorf("humanAge(%v) = %q, want %q", d, got, want)
		}
	}
	if got := humanAge(time.Time{}, testNow); got != "N/A" {
		t.Errorf("no time: %q", got)
	}
}

func TestTemplates(t *testing.T) {
	v := struct {
		List []string
		Map  map[string]string
		S    string
	}{[]string{"a", "b"}, map[string]string{"k": "<v>"}, "Hello"}
	for format, want := range map[string]string{
		`{{join .List ","}}`:               "a,b\n",
		`{{json .Map}}`:                    "{\"k\":\"<v>\"}\n",
		`{{.S | upper}} {{lower .S}}`:      "HELLO hello\n",
		`{{title "ab"}}{{index .Map "k"}}`: "Ab<v>\n",
		`{{range .List}}{{.}};{{end}}`:     "a;b;\n",
		`{{len (split "a,b,c" ",")}}`:      "3\n",
		`{{pad .S 1 1}}|{{truncate .S 2}}`: " Hello |He\n",
		`a\tb`:                             "a\tb\n",
		`{{.Map.nope}}`:                    "<no value>\n",
		`{{with .Map}}{{.k}}{{end}}`:       "<v>\n",
	} {
		a, stdout, _ := testAppIO()
		if err := a.printOne(format, v); err != nil || stdout.String() != want {
			t.Errorf("%s: %q, %v; want %q", format, stdout, err, want)
		}
	}
	for _, format := range []string{
		"{{.Nope}}", "{{", "{{wibble .}}", "{{.S.Nope}}", "{{.List.x}}", "{{range .List}}{{.Nope}}{{end}}", "{{range .List}}{{$.Nope}}{{end}}",
		"{{with .S}}{{.Nope}}{{end}}", "{{if .S}}{{else}}{{.Nope}}{{end}}", "{{with .Nope}}{{end}}",
	} {
		a, stdout, _ := testAppIO()
		if err := a.printOne(format, v); err == nil || stdout.Len() != 0 {
			t.Errorf("%s: %v, %q", format, err, stdout)
		}
	}
}
