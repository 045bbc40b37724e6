//go:build !hot

package image

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Registries is what registries.conf says: where short names are looked for, and from
// which hosts an image of a given name really comes. See containers-registries.conf(5).
type Registries struct {
	search   []string // unqualified-search-registries
	decided  bool     // a file sets search, if only to nothing
	mode     string   // short-name-mode
	aliases  map[string]string
	tables   []registryTable
	helpers  []string // credential-helpers: who keeps credentials, in order
	mainFile string   // "" if there is none; for messages
}

type registryTable struct {
	Prefix             string
	Location           string
	Insecure           bool
	Blocked            bool
	MirrorByDigestOnly bool `toml:"mirror-by-digest-only"`
	Mirror             []mirrorTable
}

type mirrorTable struct {
	Location string
	Insecure bool
	PullFrom string `toml:"pull-from-mirror"` // "", all, digest-only, tag-only
}

type registriesFile struct {
	Search     *[]string `toml:"unqualified-search-registries"`
	Mode       string    `toml:"short-name-mode"`
	Helpers    *[]string `toml:"credential-helpers"`
	Aliases    map[string]string
	Registry   []registryTable
	VersionOne map[string]any `toml:"registries"`
}

// registriesPaths are the files to read: the first of main that exists, then all of
// the drop-in directories, each in the order of its file names.
type registriesPaths struct {
	main    []string
	dropIns []string
}

func defaultRegistriesPaths() registriesPaths {
	user := configHome("containers")
	p := registriesPaths{
		main:    []string{filepath.Join(user, "registries.conf"), "/etc/containers/registries.conf"},
		dropIns: []string{"/etc/containers/registries.conf.d", filepath.Join(user, "registries.conf.d")},
	}
	if file := os.Getenv("CONTAINERS_REGISTRIES_CONF"); file != "" {
		p.main = []string{file}
	}
	return p
}

// all is every file and directory that they depend on.
func (p registriesPaths) all() []string {
	files := slices.Concat(p.main, p.dropIns)
	for _, dir := range p.dropIns {
		inside, _ := filepath.Glob(filepath.Join(dir, "*.conf"))
		files = append(files, inside...)
	}
	return files
}

// LoadRegistries reads the user's and the system's registries.conf. Having none is fine.
func LoadRegistries() (*Registries, error) { return loadRegistries(defaultRegistriesPaths()) }

func loadRegistries(paths registriesPaths) (*Registries, error) {
	r := &Registries{aliases: map[string]string{}, helpers: []string{authFiles}}
	for _, file := range paths.main {
		err := r.add(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.mainFile = file
		break
	}
	for _, dir := range paths.dropIns {
		files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", dir, err)
		}
		for _, file := range files {
			if err := r.add(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return r, nil
}

// maxConfig bounds every configuration file of the user.
const maxConfig = 1 << 20

func readConfig(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = &fs.PathError{Op: "read", Path: file, Err: errors.New("larger than 1 MiB")}
	}
	return data, err
}

// add lays one file over what was read before: a list replaces a list, a table the table
// of the same prefix, an alias the alias of the same name.
func (r *Registries) add(file string) error {
	data, err := readConfig(file)
	if err != nil {
		return err
	}
	var f registriesFile
	if err := toml.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if err := r.merge(f); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

func (r *Registries) merge(f registriesFile) error {
	if len(f.VersionOne) > 0 {
		return withHint(errors.New("[registries.*] is version 1 of the format, which is not read"),
			"write unqualified-search-registries and [[registry]], as in containers-registries.conf(5)")
	}
	if f.Search != nil {
		for _, host := range *f.Search {
			if err := checkHost(host); err != nil {
				return fmt.Errorf("unqualified-search-registries: %w", err)
			}
		}
		r.search, r.decided = *f.Search, true
	}
	if f.Helpers != nil {
		r.helpers = *f.Helpers
	}
	switch f.Mode {
	case "":
	case "enforcing", "permissive", "disabled":
		r.mode = f.Mode
	default:
		return fmt.Errorf("short-name-mode: bad value %s", quoteShort(f.Mode))
	}
	for name, full := range f.Aliases {
		if err := checkAlias(name, full); err != nil {
			return fmt.Errorf("alias %s: %w", quoteShort(name), err)
		}
		r.aliases[name] = full
	}
	for _, t := range f.Registry {
		if err := t.check(); err != nil {
			return fmt.Errorf("registry %s: %w", quoteShort(cmp.Or(t.Prefix, t.Location)), err)
		}
		r.tables = slices.DeleteFunc(r.tables, func(old registryTable) bool { return old.Prefix == t.Prefix })
		r.tables = append(r.tables, t)
	}
	return nil
}

func checkAlias(name, full string) error {
	short, err := parse(name)
	if err != nil {
		return err
	}
	if short.Registry != "" || short.Path != name {
		return errors.New("not a short name")
	}
	if full == "" { // erases the alias of an earlier file
		return nil
	}
	n, err := parse(full)
	if err != nil {
		return err
	}
	if n.Registry == "" || n.Digest != "" || strings.HasSuffix(full, ":"+n.Tag) {
		return fmt.Errorf("%s is not HOST/PATH", quoteShort(full))
	}
	return nil
}

func (t *registryTable) check() error {
	if t.Prefix == "" {
		t.Prefix = t.Location
	}
	t.Prefix = strings.TrimRight(t.Prefix, "/")
	t.Location = strings.TrimRight(t.Location, "/")
	if domain, ok := strings.CutPrefix(t.Prefix, "*."); ok {
		if strings.Contains(domain, "/") || checkHost(domain) != nil {
			return errors.New("prefix is not *.DOMAIN")
		}
	} else {
		if err := checkLocation(t.Prefix); err != nil {
			return fmt.Errorf("prefix: %w", err)
		}
		if t.Location == "" {
			t.Location = t.Prefix
		}
	}
	if t.Location != "" {
		if err := checkLocation(t.Location); err != nil {
			return fmt.Errorf("location: %w", err)
		}
	}
	for i, m := range t.Mirror {
		t.Mirror[i].Location = strings.TrimRight(m.Location, "/")
		if err := checkLocation(m.Location); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
		switch m.PullFrom {
		case "", "all", "digest-only", "tag-only":
		default:
			return fmt.Errorf("mirror %s: bad pull-from-mirror %s", m.Location, quoteShort(m.PullFrom))
		}
		if m.PullFrom != "" && t.MirrorByDigestOnly {
			return fmt.Errorf("mirror %s: pull-from-mirror beside mirror-by-digest-only", m.Location)
		}
	}
	return nil
}

// checkLocation takes HOST[:PORT][/PATH...]; what comes of it with a name is parsed again.
func checkLocation(s string) error {
	host, _, _ := strings.Cut(s, "/")
	return checkHost(host)
}

// endpoint is one place from which an image may come.
type endpoint struct {
	name     Name // the physical one
	insecure bool // http, or https with a certificate that nobody checked
	mirror   bool
}

// endpoints are the places of an image, mirrors first.
func (r *Registries) endpoints(n Name) ([]endpoint, error) {
	t := r.table(n)
	if t == nil {
		return []endpoint{{name: n}}, nil
	}
	if t.Blocked {
		return nil, withHint(fmt.Errorf("registry %s is blocked", t.Prefix), "registries.conf says blocked = true for it")
	}
	var list []endpoint
	for _, m := range t.Mirror {
		byDigest := n.Digest != ""
		if t.MirrorByDigestOnly && !byDigest || m.PullFrom == "digest-only" && !byDigest || m.PullFrom == "tag-only" && byDigest {
			continue
		}
		at, err := t.rewrite(n, m.Location)
		if err != nil {
			return nil, err
		}
		list = append(list, endpoint{name: at, insecure: m.Insecure, mirror: true})
	}
	at, err := t.rewrite(n, t.Location)
	if err != nil {
		return nil, err
	}
	return append(list, endpoint{name: at, insecure: t.Insecure}), nil
}

// table is the one with the longest prefix of n.
func (r *Registries) table(n Name) *registryTable {
	var best *registryTable
	for i := range r.tables {
		t := &r.tables[i]
		if t.match(n) > 0 && (best == nil || len(strings.TrimPrefix(t.Prefix, "*")) > len(strings.TrimPrefix(best.Prefix, "*"))) {
			best = t
		}
	}
	return best
}

// match is how much of n the prefix covers, or 0.
func (t *registryTable) match(n Name) int {
	if domain, ok := strings.CutPrefix(t.Prefix, "*"); ok {
		if strings.HasSuffix(n.Registry, domain) {
			return len(n.Registry)
		}
		return 0
	}
	full := n.String()
	if !strings.HasPrefix(full, t.Prefix) {
		return 0
	}
	rest := full[len(t.Prefix):]
	switch {
	case rest == "" || rest[0] == '/':
		return len(t.Prefix)
	case strings.Contains(t.Prefix, "/") && (rest[0] == ':' || rest[0] == '@'):
		return len(t.Prefix)
	}
	return 0
}

// rewrite puts location in the place of the prefix.
func (t *registryTable) rewrite(n Name, location string) (Name, error) {
	if location == "" || location == t.Prefix {
		return n, nil
	}
	at, err := parse(location + n.String()[t.match(n):])
	if err == nil && at.Registry == "" {
		// checkLocation took the host for one; parse sees one only with a dot or a port.
		err = fmt.Errorf("location %s has no host", quoteShort(location))
	}
	return at, err
}
