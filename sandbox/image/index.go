package image

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The index is what the hot path reads in place of the library's records: those are JSON,
// of everything at once, and the library locks them, podman's for as long as it unpacks.
// It is two kinds of file:
//
//	index/names     text:  sbx-index 3 CHECKSUM ENVIRONMENT
//	                       file MTIME SIZE INODE PATH     what it was made from
//	                       image ID DIGEST,... NAME       once a name; "-" for none
//	                       short SHORT NAME               what a name without a registry means here
//	index/ID        binary: layers and configuration of one image (index_record.go)
//
// It is valid for as long as those files are as they were. A record never changes: it
// is also the file that a lock is taken on, shared by whoever uses the image,
// exclusively by who removes it.

const indexVersion = "sbx-index 3 "

// index is the text of index/names.
type index struct{ text string }

// errStale says that the index must be made again.
var errStale = errors.New("the index is out of date")

// openIndex reads the index, and makes it anew if it has to.
func (s *Store) openIndex() (index, error) {
	ix, err := s.readIndex()
	if errors.Is(err, errStale) {
		return s.makeIndex()
	}
	return ix, err
}

func (s *Store) readIndex() (index, error) {
	text, err := os.ReadFile(s.path("index/names"))
	if errors.Is(err, fs.ErrNotExist) {
		return index{}, errStale
	}
	if err != nil {
		return index{}, fmt.Errorf("store: %w", err)
	}
	ix := index{string(text)}
	if head, rest, _ := bytes.Cut(text, []byte("\n")); string(head) != indexHead(rest) || !ix.valid() {
		return index{}, errStale
	}
	return ix, nil
}

// valid compares the stamps of the files that the index was made from.
func (ix index) valid() bool {
	_, rest, _ := strings.Cut(ix.text, "\n")
	for {
		line, next, _ := strings.Cut(rest, "\n")
		stamp, ok := strings.CutPrefix(line, "file ")
		if !ok {
			return true
		}
		was, path, ok := cutStamp(stamp)
		if !ok || was != stampOf(path) {
			return false
		}
		rest = next
	}
}

// indexHead is the first line of an index, which changes when a bit of the rest does.
func indexHead(rest []byte) string {
	return indexVersion + strconv.FormatUint(uint64(crc32.ChecksumIEEE(rest)), 16) + " " + surroundings()
}

// cutStamp divides "MTIME SIZE INODE PATH" before PATH.
func cutStamp(line string) (stamp, path string, ok bool) {
	at := 0
	for range 3 {
		i := strings.IndexByte(line[at:], ' ')
		if i < 0 {
			return "", "", false
		}
		at += i + 1
	}
	return line[:at-1], line[at:], true
}

// stampOf is what changes when a file does. The library replaces its files by a rename.
func stampOf(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return "0 0 0"
	}
	b := make([]byte, 0, 60)
	b = strconv.AppendInt(b, st.Mtim.Nano(), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, st.Size, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, st.Ino, 10)
	return string(b)
}

// entry is an image line of the index.
type entry struct {
	id      string
	digests string // joined by commas
	name    string // "" for none
}

func (e entry) digest() Digest {
	d, _, _ := strings.Cut(e.digests, ",")
	return Digest(d)
}

func (e entry) has(d string) bool {
	for have := range strings.SplitSeq(e.digests, ",") {
		if have == d {
			return true
		}
	}
	return false
}

// entries calls f with each image line until f returns false.
func (ix index) entries(f func(entry) bool) {
	for line := range strings.Lines(ix.text) {
		rest, ok := strings.CutPrefix(line, "image ")
		if !ok {
			continue
		}
		id, rest, _ := strings.Cut(rest, " ")
		digests, name, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
		if name == "-" {
			name = ""
		}
		if !f(entry{id, digests, name}) {
			return
		}
	}
}

// long is the full reference that a short name means, or name itself.
func (ix index) long(name string) string {
	_, rest, found := strings.Cut(ix.text, "\nshort "+name+" ")
	if !found {
		return name
	}
	full, _, _ := strings.Cut(rest, "\n")
	return full
}

// find looks up a full reference, a reference by digest, a short name with its tag, an id or
// the beginning of one.
func (ix index) find(name string) (entry, error) {
	name = ix.long(name)
	var found *entry
	ids := strings.TrimPrefix(name, "sha256:")
	isID := looksLikeID(name)
	repository, pin, _ := strings.Cut(name, "@")
	several := false
	ix.entries(func(e entry) bool {
		switch {
		case e.name != "" && e.name == name:
			found, several = &e, false
			return false
		case pin != "" && e.has(pin) && repositoryOf(e.name) == repository:
			e.name = name
			found = &e
		case isID && strings.HasPrefix(e.id, ids):
			if found == nil { // the first line of an image is its first library's
				found = &entry{e.id, e.digests, ""}
			}
			several = several || found.id != e.id
		}
		return true
	})
	switch {
	case several:
		return entry{}, fmt.Errorf("image %s: more than one image has an id that begins so", name)
	case found == nil:
		return entry{}, fmt.Errorf("image %s: %w", quoteless(name), ErrNotFound)
	}
	return *found, nil
}

// repositoryOf cuts tag or digest off a full reference.
func repositoryOf(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		return name[:colon]
	}
	return name
}

// fresh calls f with the index, and again for as long as f finds it out of date: an image
// is being removed, or a record is gone or damaged.
func (s *Store) fresh(f func(index) error) error {
	for range 100 {
		ix, err := s.openIndex()
		if err != nil {
			return err
		}
		if err := f(ix); !errors.Is(err, errStale) {
			return err
		}
	}
	return errors.New("store: it changes all the time")
}

// Find looks an image up by its full reference, by NAME@DIGEST, by a short name with its
// tag, or by its id or the beginning of it. The Image is held: it cannot be removed until its Lock is closed.
func (s *Store) Find(name string) (img *Image, err error) {
	err = s.fresh(func(ix index) error {
		e, err := ix.find(name)
		if err != nil {
			return err
		}
		r, held, err := s.hold(e.id)
		if err != nil {
			return err
		}
		img = &Image{
			ID: e.id, Name: e.name, Digest: e.digest(), Layers: r.layers, Config: r.config,
			ReadOnly: r.libraryAt != s.library(), Lock: held,
		}
		return nil
	})
	return img, err
}

// hold opens the record of an image and locks it, shared. One that is not there, or
// damaged, has the index made again.
func (s *Store) hold(id string) (*record, *os.File, error) {
	file := s.path("index/" + id)
	f, err := os.Open(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("store: %w", err)
	}
	var r *record
	if err == nil {
		r, err = readHeld(f)
		if err == nil {
			return r, f, nil
		}
		f.Close()
	}
	switch {
	case errors.Is(err, errDamaged):
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("store: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	os.Remove(s.path("index/names"))
	return nil, nil, errStale
}

func readHeld(f *os.File) (*record, error) {
	if err := flock(f, unix.LOCK_SH); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if st.Nlink == 0 {
		return nil, errStale
	}
	text := make([]byte, st.Size)
	if _, err := f.ReadAt(text, 0); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return decodeRecord(text)
}
