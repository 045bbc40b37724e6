//go:build !hot

package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// library is a store of the storage library, read without it: the records of images and
// layers are two JSON files, replaced by a rename when they change.
type library struct {
	libraryAt
	images []libraryImage
	layers map[string]libraryLayer
}

type libraryImage struct {
	ID      string                   `json:"id"`
	Digest  digest.Digest            `json:"digest"`
	Digests []digest.Digest          `json:"-"`
	Names   []string                 `json:"names"`
	Top     string                   `json:"layer"`
	History []string                 `json:"names-history"`
	Data    map[string]digest.Digest `json:"big-data-digests"`
}

type libraryLayer struct {
	ID     string         `json:"id"`
	Parent string         `json:"parent"`
	Size   int64          `json:"diff-size"`
	Flags  map[string]any `json:"flags"`
}

func (at libraryAt) imagesFile() string {
	return filepath.Join(at.root, at.driver+"-images", "images.json")
}
func (at libraryAt) layersFile() string {
	return filepath.Join(at.root, at.driver+"-layers", "layers.json")
}

// readLibrary reads what is there; nothing is no images.
func readLibrary(at libraryAt) (*library, error) {
	l, err := readImages(at)
	if err != nil {
		return l, err
	}
	var layers []libraryLayer
	if err := readJSON(at.layersFile(), &layers); err != nil {
		return l, err
	}
	for _, layer := range layers {
		l.layers[layer.ID] = layer
	}
	return l, nil
}

// readImages leaves out the layers.
func readImages(at libraryAt) (*library, error) {
	l := &library{libraryAt: at, layers: map[string]libraryLayer{}}
	if err := readJSON(at.imagesFile(), &l.images); err != nil {
		return l, err
	}
	for i := range l.images {
		l.images[i].Digests = l.images[i].allDigests()
	}
	return l, nil
}

func (l *library) image(id string) (libraryImage, bool) {
	for _, img := range l.images {
		if img.ID == id {
			return img, true
		}
	}
	return libraryImage{}, false
}

// maxRecords bounds a file of the library's; a thousand images make some megabytes.
const maxRecords = 256 << 20

func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() > maxRecords {
		return fmt.Errorf("%s: not a file of records", path)
	}
	if err := json.NewDecoder(f).Decode(v); err != nil {
		return &damagedRecords{path, unexpected(err)}
	}
	return nil
}

// damagedRecords is a file of the library's that nobody can read.
type damagedRecords struct {
	path string
	err  error
}

func (e *damagedRecords) Error() string { return "read " + e.path + ": " + e.err.Error() }

// allDigests is what the image's manifests are known by, its own first.
func (img libraryImage) allDigests() []digest.Digest {
	all := []digest.Digest{}
	if img.Digest != "" {
		all = append(all, img.Digest)
	}
	for key, d := range img.Data {
		if strings.HasPrefix(key, "manifest") && d != img.Digest {
			all = append(all, d)
		}
	}
	return sortedUnique(all)
}

// data reads what the library keeps with an image under key.
func (l *library) data(id, key string) ([]byte, error) {
	name := key
	if strings.ContainsFunc(key, func(c rune) bool { return c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }) {
		name = "=" + base64.StdEncoding.EncodeToString([]byte(key))
	}
	return os.ReadFile(filepath.Join(l.root, l.driver+"-images", id, name))
}

// record gathers what the index holds of an image. An image that is not whole has none.
func (l *library) record(img libraryImage) (*record, error) {
	id := digest.NewDigestFromEncoded(digest.SHA256, img.ID)
	config, err := l.data(img.ID, id.String())
	if err != nil {
		return nil, err
	}
	r := &record{libraryAt: l.libraryAt}
	if err := json.Unmarshal(config, &r.config); err != nil {
		return nil, err
	}
	for id := img.Top; id != ""; {
		layer, ok := l.layers[id]
		if !ok || layer.Flags["incomplete"] == true || len(r.layers) > maxLayers {
			return nil, fmt.Errorf("layer %s is missing or incomplete", id)
		}
		dir := l.layerDir(id)
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return nil, fmt.Errorf("%s is not a directory", dir)
		}
		r.layers = append(r.layers, dir)
		r.size += max(layer.Size, 0)
		id = layer.Parent
	}
	if l.driver == "vfs" {
		r.layers = r.layers[:min(1, len(r.layers))]
	}
	return r, nil
}

func (at libraryAt) layerDir(id string) string {
	if at.driver == "vfs" {
		return filepath.Join(at.root, "vfs/dir", id)
	}
	return filepath.Join(at.root, "overlay", id, "diff")
}

// makeIndex reads the libraries' records and writes the index.
func (s *Store) makeIndex() (index, error) {
	if err := s.prepare(); err != nil {
		return index{}, err
	}
	dir, err := os.Open(s.path("index"))
	if err != nil {
		return index{}, fmt.Errorf("store: %w", err)
	}
	defer dir.Close()
	if err := flock(dir, unix.LOCK_EX); err != nil {
		return index{}, fmt.Errorf("store: %w", err)
	}
	for range 10 {
		// Somebody else may have made it while we waited.
		if ix, err := s.readIndex(); !errors.Is(err, errStale) {
			return ix, err
		}
		err := s.pressed(s.writeIndex)
		if _, ok := errors.AsType[*damagedRecords](err); ok {
			err = s.ask(context.Background(), request{Op: "clean"}, nil)
		}
		if err != nil {
			return index{}, advised(fmt.Errorf("store: %w", err), s.dir)
		}
	}
	return index{}, errors.New("store: it changes faster than the index can be written")
}

func (s *Store) writeIndex() error {
	var text bytes.Buffer
	// Stamps first: what changes while we read makes them wrong, and so the index.
	files := append([]string{s.library().imagesFile()}, storageConfs()...)
	files = append(files, defaultRegistriesPaths().all()...)
	podmans := podmanStores()
	for _, at := range podmans {
		files = append(files, at.imagesFile())
	}
	for _, file := range files {
		fmt.Fprintf(&text, "file %s %s\n", stampOf(file), file)
	}
	own, err := readLibrary(s.library())
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	named := map[string]bool{}
	if err := s.indexLibrary(&text, own, seen, named); err != nil {
		return err
	}
	for _, at := range podmans {
		// Podman's is an offer: one that cannot be read has no images for us.
		if l, err := readLibrary(at); err == nil {
			if err := s.indexLibrary(&text, l, seen, named); err != nil {
				return err
			}
		}
	}
	if err := s.dropRecords(seen); err != nil {
		return err
	}
	for _, short := range shortNames(named) {
		text.WriteString(short)
	}
	return replaceInIndex(s.path("index/names"), append([]byte(indexHead(text.Bytes())+"\n"), text.Bytes()...))
}

// indexLibrary adds the images of one library. Of two with the same id or name the first
// counts; an image gets the names that it has anywhere.
func (s *Store) indexLibrary(text *bytes.Buffer, l *library, seen, named map[string]bool) error {
	for _, img := range l.images {
		if len(img.ID) != 64 || !isHex(img.ID) {
			continue
		}
		again := seen[img.ID]
		if !again {
			r, err := l.record(img)
			if err != nil { // not whole: absent
				if l.libraryAt == s.library() {
					s.markUnfinished()
				}
				continue
			}
			if len(r.layers) == 0 {
				if r.layers, err = s.noLayers(); err != nil {
					return err
				}
			}
			if err := s.writeRecord(img.ID, r); err != nil {
				return err
			}
			seen[img.ID] = true
		}
		digests := make([]string, len(img.Digests))
		for i, d := range img.Digests {
			digests[i] = d.String()
		}
		line := func(name string) { fmt.Fprintf(text, "image %s %s %s\n", img.ID, strings.Join(digests, ","), name) }
		any := again
		for _, name := range img.Names {
			if name != "" && !named[name] && !strings.ContainsAny(name, " \n\x00") {
				line(name)
				named[name], any = true, true
			}
		}
		if !any {
			line("-")
		}
	}
	return nil
}

// markUnfinished has the next one who changes the store clean it up, and look for itself
// first. If the mark cannot be made, only room is lost.
func (s *Store) markUnfinished() { os.WriteFile(s.path("unfinished"), nil, 0o600) }

// noLayers stands for the layers of an image that has none: something must be mounted.
func (s *Store) noLayers() ([]string, error) {
	dir := s.path("empty")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return []string{dir}, os.Chmod(dir, 0o755) // whatever the umask: it becomes /
}

// shortNames are the lines for the names without a registry that mean one of named. A
// registries.conf that cannot be read means nothing; who uses a short name is told.
func shortNames(named map[string]bool) []string {
	regs, err := LoadRegistries()
	if err != nil {
		return nil
	}
	lines := map[string]bool{}
	for name := range named {
		for _, short := range regs.shortsOf(name) {
			candidates, err := regs.Candidates(short)
			if i := slices.IndexFunc(candidates, func(c string) bool { return named[c] }); err == nil && i >= 0 {
				lines[fmt.Sprintf("short %s %s\n", short, candidates[i])] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(lines))
}

// writeRecord leaves a record alone that says the same: somebody may hold a lock on it.
func (s *Store) writeRecord(id string, r *record) error {
	file, text := s.path("index/"+id), r.encode()
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return replaceInIndex(file, text)
}

// dropRecords removes the records of images that are gone, if nobody uses those.
func (s *Store) dropRecords(keep map[string]bool) error {
	entries, err := os.ReadDir(s.path("index"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) { // its writer was killed: we hold the lock
			if err := os.Remove(s.path("index/" + e.Name())); err != nil {
				return err
			}
		}
		if len(e.Name()) != 64 || keep[e.Name()] {
			continue
		}
		f, err := os.Open(s.path("index/" + e.Name()))
		if err != nil {
			continue
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = os.Remove(f.Name())
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

const newPrefix = "new-"

// replaceInIndex writes a file so that a reader sees the old or the new one.
func replaceInIndex(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), newPrefix)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
