package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
)

// The filters are made of the data as it is embedded: hence two runs.
//go:generate go test -run ^TestData$ -update .
//go:generate go test -run ^TestFilters$ -update .

var update = flag.Bool("update", false, "write the generated and golden files")

func TestData(t *testing.T) {
	for _, arch := range []string{"amd64", "386", "arm64"} {
		current(t, "syscalls/"+arch+".txt", numbersOf(t, arch))
	}
	profile, err := json.Marshal(seccomp.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	current(t, "moby.json", profile)
}

func TestFilters(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		var names []string
		for _, c := range combinations(arch) {
			names = append(names, c.name())
			current(t, "bpf/"+arch+"/"+c.name(), filterOf(t, c, arch))
		}
		onlyFiles(t, "bpf/"+arch, names)
	}
}

// numbersOf reads the numbers of golang.org/x/sys, under the names that profiles use.
func numbersOf(t *testing.T, arch string) []byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch+".go"))
	if err != nil {
		t.Fatal(err)
	}
	var table syscallTable
	for _, m := range regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+= (\d+)$`).FindAllStringSubmatch(string(source), -1) {
		nr, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(m[1], "ARCH_SPECIFIC") {
			continue // a range of arm64, not a call
		}
		for len(table) <= nr {
			table = append(table, "")
		}
		if table[nr] == "" {
			table[nr] = strings.ToLower(m[1])
		}
	}
	var b bytes.Buffer
	for nr, name := range table {
		if name != "" {
			b.WriteString(strconv.Itoa(nr) + " " + name + "\n")
		}
	}
	return b.Bytes()
}

// current compares a file with what it should be, or writes it.
func current(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("%s is not current: run go generate ./sandbox/policy (%v)", name, err)
	}
}

func onlyFiles(t *testing.T, dir string, names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains(names, e.Name()) {
			continue
		}
		if !*update {
			t.Errorf("%s/%s belongs to no combination", dir, e.Name())
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}
