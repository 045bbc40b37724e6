//go:build !hot

package cli

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// An imageEntry is one image of the store, for the commands that list and show.
// Its JSON is what sbx images --format json prints, with podman's keys.
type imageEntry struct {
	ID          string            `json:"Id"`
	RepoTags    []string          `json:"RepoTags"`
	RepoDigests []string          `json:"RepoDigests"`
	Names       []string          `json:"Names"`
	Digest      string            `json:"Digest"`
	Size        int64             `json:"Size"`
	VirtualSize int64             `json:"VirtualSize"`
	Created     int64             `json:"Created"` // Unix time
	CreatedAt   time.Time         `json:"CreatedAt"`
	Labels      map[string]string `json:"Labels"`
	Dangling    bool              `json:"Dangling"`
	ReadOnly    bool              `json:"ReadOnly"`
	Arch        string            `json:"Arch"`
	OS          string            `json:"Os"`
	Containers  int               `json:"Containers"`
}

// imageRow is one line of the table, and what a template of --format sees: an image has one for each of its names.
type imageRow struct {
	ID, Repository, Tag, Digest  string
	Created, CreatedSince, Size  string
	CreatedAt, CreatedTime       string
	Names, RepoTags, RepoDigests []string
	Labels                       map[string]string
	Dangling, ReadOnly           bool
	Arch, Os                     string
	name                         string // the one that this row is about; "" for an image without
	created                      time.Time
	size                         int64
}

// Id is podman's name for the id, in templates as in JSON.
func (r imageRow) Id() string { return r.ID }

// imagesFlags are the flags of sbx images.
type imagesFlags struct {
	quiet, noTrunc, digests, noHeading bool
	filters                            []string
	sort, format                       string
}

func defineImages(a *app, fs *pflag.FlagSet) action {
	f := &imagesFlags{}
	fs.BoolP("all", "a", false, "") // there are no intermediate images to hide
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "")
	fs.BoolVar(&f.digests, "digests", false, "")
	fs.BoolVarP(&f.noHeading, "noheading", "n", false, "")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil, "")
	fs.StringVar(&f.sort, "sort", "created", "")
	fs.StringVar(&f.format, "format", "", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 1, "NAME"); err != nil {
			return 0, err
		}
		for _, name := range args {
			f.filters = append(f.filters, "reference="+name)
		}
		entries, err := a.listImages()
		if err != nil {
			return 0, err
		}
		return 0, a.images(f, entries, time.Now())
	}
}

// images prints those entries that the filters let through.
func (a *app) images(f *imagesFlags, entries []imageEntry, now time.Time) error {
	keep, err := parseFilters(f.filters, entries, now)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e imageEntry) bool { return !keep(e) })
	slices.SortStableFunc(entries, func(a, b imageEntry) int { return b.CreatedAt.Compare(a.CreatedAt) })
	if f.format == "json" && !f.quiet {
		if entries == nil {
			entries = []imageEntry{}
		}
		return a.printJSON(entries)
	}
	rows := []imageRow{}
	for _, e := range entries {
		rows = append(rows, e.rows(f.noTrunc, now)...)
	}
	rows = slices.DeleteFunc(rows, func(r imageRow) bool { return !f.asksFor(r.name) })
	if err := sortRows(rows, f.sort); err != nil {
		return err
	}
	switch {
	case f.quiet:
		return a.printIDs(rows)
	case f.format != "":
		return a.printFormat(f.format, rows, !f.noHeading)
	}
	return a.printImages(rows, f)
}

// asksFor reports whether a name is among those that --filter reference= and NAME ask for: of
// an image that has others too, these are not shown.
func (f *imagesFlags) asksFor(name string) bool {
	asked := false
	for _, s := range f.filters {
		if pattern, ok := strings.CutPrefix(s, "reference="); ok {
			if name == "" || matchName(pattern, name) {
				return true
			}
			asked = true
		}
	}
	return !asked
}

func (a *app) printIDs(rows []imageRow) error {
	var b strings.Builder
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.ID] {
			seen[r.ID] = true
			b.WriteString(r.ID + "\n")
		}
	}
	return a.print(b.String())
}

func (a *app) printImages(rows []imageRow, f *imagesFlags) error {
	header := []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}
	if f.digests {
		header = slices.Insert(header, 2, "DIGEST")
	}
	if f.noHeading {
		header = nil
	}
	var lines [][]string
	for _, r := range rows {
		line := []string{r.Repository, r.Tag, r.ID, r.Created, r.Size}
		if f.digests {
			line = slices.Insert(line, 2, r.Digest)
		}
		lines = append(lines, line)
	}
	return a.printTable(header, lines)
}

const none = "<none>"

// rows gives a row for each name; an image without one has a row, too.
func (e imageEntry) rows(noTrunc bool, now time.Time) []imageRow {
	row := imageRow{
		ID: "sha256:" + e.ID, Repository: none, Tag: none, Digest: cmp.Or(e.Digest, none),
		Created: humanAge(e.CreatedAt, now), CreatedAt: humanTime(e.CreatedAt), Size: humanSize(e.Size),
		Names: e.Names, RepoTags: e.RepoTags, RepoDigests: e.RepoDigests, Labels: e.Labels,
		Dangling: e.Dangling, ReadOnly: e.ReadOnly, Arch: e.Arch, Os: e.OS,
		created: e.CreatedAt, size: e.Size,
	}
	row.CreatedSince, row.CreatedTime = row.Created, row.CreatedAt
	if !noTrunc {
		row.ID = e.ID[:min(12, len(e.ID))]
	}
	if len(e.RepoTags) == 0 {
		if len(e.RepoDigests) > 0 {
			row.Repository, _, _ = strings.Cut(e.RepoDigests[0], "@")
		}
		return []imageRow{row}
	}
	var rows []imageRow
	for _, name := range e.RepoTags {
		row.name = name
		row.Repository, row.Tag = splitName(name)
		rows = append(rows, row)
	}
	return rows
}

func sortRows(rows []imageRow, key string) error {
	var by func(a, b imageRow) int
	switch key {
	case "created":
		by = func(a, b imageRow) int { return b.created.Compare(a.created) }
	case "id":
		by = func(a, b imageRow) int { return cmp.Compare(a.ID, b.ID) }
	case "repository":
		by = func(a, b imageRow) int { return cmp.Compare(a.Repository, b.Repository) }
	case "size":
		by = func(a, b imageRow) int { return cmp.Compare(a.size, b.size) }
	case "tag":
		by = func(a, b imageRow) int { return cmp.Compare(a.Tag, b.Tag) }
	default:
		return &usageError{msg: fmt.Sprintf("--sort: %s: not one of created, id, repository, size, tag", quoteArg(key))}
	}
	slices.SortStableFunc(rows, by)
	return nil
}

// A filter says whether an image is to be shown.
type filter func(imageEntry) bool

// parseFilters reads --filter KEY=VALUE, or KEY!=VALUE for all others. Several of one key are
// alternatives, but labels must all be there; what different keys say must all be true.
func parseFilters(list []string, entries []imageEntry, now time.Time) (filter, error) {
	byKey := map[string][]filter{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, &usageError{msg: fmt.Sprintf("--filter: %s: not KEY=VALUE", quoteArg(s))}
		}
		key, not := strings.CutSuffix(key, "!")
		one, err := parseFilter(key, value, entries, now)
		if err != nil {
			return nil, &flagError{"filter", fmt.Errorf("%s: %w", quoteArg(s), err)}
		}
		if not {
			yes := one
			one = func(e imageEntry) bool { return !yes(e) }
		}
		if key == "label" || not {
			key = s
		}
		byKey[key] = append(byKey[key], one)
	}
	return func(e imageEntry) bool {
		for _, alternatives := range byKey {
			if !slices.ContainsFunc(alternatives, func(f filter) bool { return f(e) }) {
				return false
			}
		}
		return true
	}, nil
}

func parseFilter(key, value string, entries []imageEntry, now time.Time) (filter, error) {
	switch key {
	case "reference":
		if _, err := path.Match(value, ""); err != nil {
			return nil, err
		}
		return func(e imageEntry) bool {
			return slices.ContainsFunc(e.Names, func(name string) bool { return matchName(value, name) })
		}, nil
	case "id":
		prefix := strings.TrimPrefix(value, "sha256:")
		return func(e imageEntry) bool { return strings.HasPrefix(e.ID, prefix) }, nil
	case "label":
		name, want, hasWant := strings.Cut(value, "=")
		return func(e imageEntry) bool {
			have, ok := e.Labels[name]
			return ok && (!hasWant || have == want)
		}, nil
	case "dangling":
		want, err := parseBool(value)
		return func(e imageEntry) bool { return e.Dangling == want }, err
	case "readonly":
		want, err := parseBool(value)
		return func(e imageEntry) bool { return e.ReadOnly == want }, err
	case "before", "since", "after":
		i := slices.IndexFunc(entries, func(e imageEntry) bool {
			return len(value) >= 3 && strings.HasPrefix(e.ID, strings.TrimPrefix(value, "sha256:")) ||
				slices.ContainsFunc(e.Names, func(name string) bool { return matchName(escapeGlob(value), name) })
		})
		if i < 0 {
			return nil, fmt.Errorf("no such image")
		}
		limit := entries[i].CreatedAt
		if key == "before" {
			return func(e imageEntry) bool { return e.CreatedAt.Before(limit) }, nil
		}
		return func(e imageEntry) bool { return e.CreatedAt.After(limit) }, nil
	case "until":
		limit, err := parseTime(value, now)
		return func(e imageEntry) bool { return e.CreatedAt.Before(limit) }, err
	}
	return nil, &usageError{
		msg:  "unknown filter",
		hint: "reference, id, label, dangling, readonly, before, since, until",
	}
}

// matchName compares a pattern with a full name, with and without its tag, and with
// and without the registry and the namespaces in front.
func matchName(pattern, name string) bool {
	for {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
		bare, _ := splitName(name)
		if ok, _ := path.Match(pattern, bare); ok {
			return true
		}
		_, rest, ok := strings.Cut(name, "/")
		if !ok {
			return false
		}
		name = rest
	}
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// parseTime reads a time before now (24h), a date, a date with a time, or Unix seconds.
func parseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("not a time like 24h or 2026-01-02")
}
