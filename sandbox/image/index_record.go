package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// record is what the index knows of one image. It is written field by field: decoding
// the JSON configuration would cost the hot path 150 microseconds.
type record struct {
	libraryAt // who has it: ours, or podman's
	layers    []string
	size      int64  // of the layers, unpacked
	config    Config // without its history
}

// libraryAt is where a library lies. Ours has the driver overlay; podman chooses vfs on
// some hosts, which makes of each layer a whole copy of what it lies on.
type libraryAt struct{ root, driver string }

func (s *Store) library() libraryAt { return libraryIn(s.dir) }

// libraryIn is ours, in the directory of a Store.
func libraryIn(dir string) libraryAt { return libraryAt{filepath.Join(dir, "storage"), "overlay"} }

const recordVersion = "sbx-record 2\n"

// errDamaged says that a record is not as it was written.
var errDamaged = errors.New("a damaged index record")

func (r *record) encode() []byte { return sealed(r.fields()) }

// sealed puts the version and a checksum before the fields: nobody waits for a record to
// be on the disk, and disks err.
func sealed(fields []byte) []byte {
	text := binary.LittleEndian.AppendUint32([]byte(recordVersion), crc32.ChecksumIEEE(fields))
	return append(text, fields...)
}

func (r *record) fields() []byte {
	var e encoder
	e.text(r.root)
	e.text(r.driver)
	e.list(r.layers)
	e.number(r.size)
	c := &r.config
	created := int64(-1 << 63)
	if c.Created != nil && c.Created.Year() > 1677 && c.Created.Year() < 2262 { // what UnixNano can tell
		created = c.Created.UnixNano()
	}
	e.number(created)
	for _, s := range []string{c.Author, c.Architecture, c.Variant, c.OS, c.OSVersion, c.RootFS.Type,
		c.Config.User, c.Config.WorkingDir, c.Config.StopSignal} {
		e.text(s)
	}
	for _, l := range [][]string{c.OSFeatures, c.Config.Env, c.Config.Entrypoint, c.Config.Cmd,
		keys(c.Config.ExposedPorts), keys(c.Config.Volumes), pairs(c.Config.Labels)} {
		e.list(l)
	}
	e.number(int64(len(c.RootFS.DiffIDs)))
	for _, d := range c.RootFS.DiffIDs {
		e.text(d.String())
	}
	return e
}

func decodeRecord(text []byte) (*record, error) {
	rest, ok := bytes.CutPrefix(text, []byte(recordVersion))
	if !ok || len(rest) < 4 || binary.LittleEndian.Uint32(rest) != crc32.ChecksumIEEE(rest[4:]) {
		return nil, errDamaged
	}
	d := decoder{rest: rest[4:]}
	r := &record{libraryAt: libraryAt{d.text(), d.text()}, layers: d.list(), size: d.number()}
	c := &r.config
	if ns := d.number(); ns != -1<<63 {
		t := time.Unix(0, ns).UTC()
		c.Created = &t
	}
	for _, s := range []*string{&c.Author, &c.Architecture, &c.Variant, &c.OS, &c.OSVersion, &c.RootFS.Type,
		&c.Config.User, &c.Config.WorkingDir, &c.Config.StopSignal} {
		*s = d.text()
	}
	for _, l := range []*[]string{&c.OSFeatures, &c.Config.Env, &c.Config.Entrypoint, &c.Config.Cmd} {
		*l = d.list()
	}
	c.Config.ExposedPorts, c.Config.Volumes = set(d.list()), set(d.list())
	if labels := d.list(); len(labels) > 0 {
		c.Config.Labels = make(map[string]string, len(labels)/2)
		for i := 0; i+1 < len(labels); i += 2 {
			c.Config.Labels[labels[i]] = labels[i+1]
		}
	}
	for _, id := range d.list() {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, Digest(id))
	}
	if d.bad {
		return nil, errDamaged
	}
	return r, nil
}

// encoder writes numbers as varints, and texts and lists with their length before them.
type encoder []byte

func (e *encoder) number(n int64) { *e = binary.AppendVarint(*e, n) }

func (e *encoder) text(s string) {
	e.number(int64(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) list(l []string) {
	e.number(int64(len(l)))
	for _, s := range l {
		e.text(s)
	}
}

type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) number() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.bad = true
		d.rest = nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) text() string {
	n := d.number()
	if n < 0 || n > int64(len(d.rest)) {
		d.bad = true
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) list() []string {
	n := d.number()
	if n < 0 || n > int64(len(d.rest)) {
		d.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	l := make([]string, n)
	for i := range l {
		l[i] = d.text()
	}
	return l
}

func keys(m map[string]struct{}) []string { return slices.Sorted(maps.Keys(m)) }

func pairs(m map[string]string) []string {
	var l []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		l = append(l, k, m[k])
	}
	return l
}

func set(l []string) map[string]struct{} {
	if len(l) == 0 {
		return nil
	}
	m := make(map[string]struct{}, len(l))
	for _, s := range l {
		m[s] = struct{}{}
	}
	return m
}
