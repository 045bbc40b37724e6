//go:build !hot

package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"sbx/sandbox/image/registrytest"
)

// fakeStore keeps what it is given in memory, and checks every layer as the real one does.
type fakeStore struct {
	dir string

	mu     sync.Mutex
	images map[string]*Image // by id
	names  map[string]string // to ids
	layers map[string]int    // by diff_id: how often it was opened
	puts   int
	fail   error
}

func newFakeStore(t *testing.T) *fakeStore {
	t.Helper()
	return &fakeStore{dir: t.TempDir(), images: map[string]*Image{}, names: map[string]string{}, layers: map[string]int{}}
}

func (s *fakeStore) Dir() string { return s.dir }

func (s *fakeStore) Find(name string) (*Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.names[name]
	if img := s.images[name]; img != nil {
		id = name
	}
	if id == "" {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	img := *s.images[id]
	img.Name = name
	return &img, nil
}

func (s *fakeStore) AddNames(id string, names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.names[n] = id
	}
	return nil
}

func (s *fakeStore) Put(ctx context.Context, f *Fetched) (*Image, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	for _, l := range f.Layers {
		s.mu.Lock()
		have := s.layers[string(l.DiffID)] > 0
		s.mu.Unlock()
		if have {
			continue
		}
		if err := openAndCheck(ctx, l); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.layers[string(l.DiffID)]++
		s.mu.Unlock()
	}
	img := &Image{ID: digest.FromBytes(f.Config).Encoded(), Digest: f.Digest}
	if err := json.Unmarshal(f.Config, &img.Config); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.puts++
	s.images[img.ID] = img
	s.mu.Unlock()
	return img, s.AddNames(img.ID, f.Names...)
}

func openAndCheck(ctx context.Context, l Layer) error {
	f, err := l.Open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	blob, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if err := checkBytes("layer", blob, l.Digest); err != nil {
		return fmt.Errorf("handed over unchecked: %w", err)
	}
	r, err := decompressor(bytes.NewReader(blob), compression(blob[:4]))
	if err != nil {
		return err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return checkBytes("diff", content, l.DiffID)
}

// alone keeps the caller's configuration out of a test, and gives it one of its own.
func alone(t *testing.T, registriesConf string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
	for _, name := range []string{"REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "CONTAINERS_REGISTRIES_CONF"} {
		t.Setenv(name, "")
	}
	if registriesConf != "" {
		file := filepath.Join(dir, "registries.conf")
		writeFile(t, file, registriesConf)
		t.Setenv("CONTAINERS_REGISTRIES_CONF", file)
	}
}

func newRegistry(t *testing.T) *registrytest.Registry {
	t.Helper()
	r := registrytest.New()
	t.Cleanup(r.Close)
	return r
}

// options to pull from a registry of a test: http, and short waits.
func options(r *registrytest.Registry, name string) PullOptions {
	no := false
	return PullOptions{
		Image: r.Host() + "/" + name, Policy: PullAlways, RetryDelay: time.Millisecond,
		Access: Access{TLSVerify: &no, idle: 10 * time.Second},
	}
}

func testImage(o registrytest.Options) *registrytest.Image {
	if o.Layers == nil {
		o.Layers = [][]byte{registrytest.Noise(1, 3<<20), registrytest.Tar(map[string]string{"etc/passwd": "root:x:0:0::/:/bin/sh\n"}), registrytest.Noise(2, 1<<20)}
	}
	return registrytest.NewImage(o)
}

// leftBlobs are the files in the blob directory of a store.
func leftBlobs(t *testing.T, dir string) []string {
	t.Helper()
	found := map[string]bool{}
	filepath.WalkDir(filepath.Join(dir, "blobs"), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[filepath.Base(p)] = true
		}
		return nil
	})
	return slices.Sorted(maps.Keys(found))
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v; want one with %q", err, want)
	}
	if err != nil && strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("error is not one line: %q", err)
	}
}

// A directory of the environment counts if it is an absolute one.
func TestXDG(t *testing.T) {
	t.Setenv("HOME", "/h")
	for value, want := range map[string]string{"": "/h/.config/x", "conf": "/h/.config/x", "./conf": "/h/.config/x", "/c": "/c/x"} {
		t.Setenv("XDG_CONFIG_HOME", value)
		if got := configHome("x"); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
