//go:build !hot

package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// watchOpen counts how many layers are opened.
func (f *Fetched) watchOpen() *atomic.Int32 {
	var n atomic.Int32
	for i := range f.Layers {
		open := f.Layers[i].Open
		f.Layers[i].Open = func(ctx context.Context) (*os.File, error) {
			n.Add(1)
			return open(ctx)
		}
	}
	return &n
}

func TestSharedLayers(t *testing.T) {
	s := newStore(t)
	base, top := layerOf(t, inTar{name: "base", body: "b"}), layerOf(t, inTar{name: "top", body: "t"})
	a := fetchedOf(t, "localhost/a:latest", base)
	b := fetchedOf(t, "localhost/b:latest", base, top)
	put(t, s, a)
	opened := b.watchOpen()
	img := put(t, s, b)
	if opened.Load() != 1 {
		t.Errorf("%d layers opened, one was there", opened.Load())
	}
	// Removing a leaves the layer that b lies on.
	if _, deleted, err := s.Remove("localhost/a:latest", false); err != nil || len(deleted) != 1 {
		t.Fatal(deleted, err)
	}
	if got, err := os.ReadFile(img.Layers[1] + "/base"); err != nil || string(got) != "b" {
		t.Errorf("%q, %v", got, err)
	}
	if _, deleted, err := s.Remove("localhost/b:latest", false); err != nil || len(deleted) != 1 {
		t.Fatal(deleted, err)
	}
	if layers := s.layers(t); len(layers) > 0 {
		t.Errorf("layers are left: %v", layers)
	}
}

// layers lists the directories of layers that the library has.
func (s *Store) layers(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(s.path("storage/overlay"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		if len(e.Name()) == 64 {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

func TestNames(t *testing.T) {
	s := newStore(t)
	a := put(t, s, fetchedOf(t, "localhost/a:latest", layerOf(t, inTar{name: "a", body: "a"})))
	b := put(t, s, fetchedOf(t, "localhost/b:latest", layerOf(t, inTar{name: "b", body: "b"})))
	is := func(name, id string) {
		t.Helper()
		img, err := s.Find(name)
		if id == "" {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		img.Lock.Close()
		if img.ID != id {
			t.Errorf("%s: %s, want %s", name, img.ID, id)
		}
	}
	if err := s.AddNames("localhost/a:latest", "localhost/a:1", "localhost/c:latest"); err != nil {
		t.Fatal(err)
	}
	is("localhost/a:1", a.ID)
	// A name moves to the image that gets it last.
	if err := s.AddNames(b.ID, "localhost/c:latest"); err != nil {
		t.Fatal(err)
	}
	is("localhost/c:latest", b.ID)
	if _, _, err := s.Remove(a.ID, false); err == nil || !strings.Contains(err.Error(), "several names") {
		t.Errorf("an image with two names: %v", err)
	}
	if names, deleted, err := s.Remove("localhost/a:1", false); err != nil || !slices.Equal(names, []string{"localhost/a:1"}) || deleted != nil {
		t.Error(names, deleted, err)
	}
	is("localhost/a:1", "")
	// The last one, too: the image stays, without a name.
	if err := s.AddNames(b.ID, "localhost/a:latest"); err != nil {
		t.Fatal(err)
	}
	is("localhost/a:latest", b.ID)
	is(a.ID[:10], a.ID)
	list, err := s.List()
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for _, sum := range list {
		if sum.Dangling != (sum.ID == a.ID) || sum.ReadOnly || sum.Size == 0 || sum.Labels["name"] == "" {
			t.Errorf("%+v", sum)
		}
	}
	if names, deleted, err := s.Remove(b.ID[:12], true); err != nil || len(names) != 3 || len(deleted) != 1 {
		t.Error(names, deleted, err)
	}
	for _, bad := range []string{"", "a b", "x", "localhost/x", "../../etc"} {
		if err := s.AddNames(a.ID, bad); err == nil {
			t.Errorf("name %q was accepted", bad)
		}
	}
	if _, _, err := s.Remove("localhost/none:latest", true); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// A pull that moves a name leaves the image that had it, without one.
func TestPutAgain(t *testing.T) {
	s := newStore(t)
	first := put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "1", body: "1"})))
	f := fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "2", body: "2"}))
	second := put(t, s, f)
	if first.ID == second.ID {
		t.Fatal("the test needs two images")
	}
	opened := f.watchOpen()
	if again := put(t, s, f); again.ID != second.ID || opened.Load() != 0 {
		t.Errorf("put again: %s, %d layers opened", again.ID, opened.Load())
	}
	list, err := s.List()
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for _, sum := range list {
		if sum.Dangling != (sum.ID == first.ID) {
			t.Errorf("%+v", sum)
		}
	}
	in, err := s.Inspect("localhost/x:latest")
	if err != nil {
		t.Fatal(err)
	}
	if in.ID != second.ID || in.Digest != f.Digest || !slices.Equal(in.RepoTags, []string{"localhost/x:latest"}) ||
		!slices.Equal(in.RepoDigests, []string{"localhost/x@" + f.Digest.String()}) || in.ManifestType != f.MediaType || len(in.RootFS.Layers) != 1 {
		t.Errorf("%+v", in)
	}
}

func TestRemoveInUse(t *testing.T) {
	s := newStore(t)
	put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x", body: "x"})))
	user := helperCommand(t, "hold", s.Dir(), "localhost/x:latest")
	stdin, err := user.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := user.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	for _, force := range []bool{false, true} {
		_, _, err := s.Remove("localhost/x:latest", force)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint("process ", user.Process.Pid)) {
			t.Errorf("in use, force %v: %v", force, err)
		}
	}
	// Its user ends by a signal: nothing is left that holds the image.
	if err := user.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	user.Wait()
	stdin.Close()
	if _, _, err := s.Remove("localhost/x:latest", false); err != nil {
		t.Error(err)
	}
}

// bigImage has several layers that take a while.
func bigImage(t *testing.T, name string) *Fetched {
	t.Helper()
	var tars [][]byte
	for l := range 4 {
		var files []inTar
		for i := range 300 {
			files = append(files, inTar{name: fmt.Sprintf("l%d/f%d", l, i), body: strings.Repeat(fmt.Sprint(l, i), 2000), uid: i})
		}
		tars = append(tars, layerOf(t, files...))
	}
	return fetchedOf(t, name, tars...)
}

func TestConcurrentPut(t *testing.T) {
	s := newStore(t)
	f := bigImage(t, "localhost/big:latest")
	saved := f.save(t)
	var all sync.WaitGroup
	for range 8 {
		cmd := helperCommand(t, "put", s.Dir(), saved)
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	s.check(t, "localhost/big:latest", f)
	if layers := s.layers(t); len(layers) != 4 {
		t.Errorf("%d layers in the store", len(layers))
	}
}

// check looks whether an image is there, whole, and nothing else.
func (s *Store) check(t *testing.T, name string, f *Fetched) {
	t.Helper()
	img, err := s.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Lock.Close()
	if len(img.Layers) != len(f.Layers) {
		t.Fatalf("%d layers", len(img.Layers))
	}
	for i, dir := range img.Layers {
		l := len(img.Layers) - 1 - i
		got, err := os.ReadFile(fmt.Sprintf("%s/l%d/f299", dir, l))
		if err != nil || string(got) != strings.Repeat(fmt.Sprint(l, 299), 2000) {
			t.Errorf("layer %d: %d bytes, %v", l, len(got), err)
		}
	}
	for _, dir := range []string{"staging", "storage/overlay/tempdirs", "storage/overlay-layers/tempdirs"} {
		if left, _ := filepath.Glob(s.path(dir) + "/*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if _, err := os.Lstat(s.path("unfinished")); err == nil {
		t.Error("the store is marked as unfinished")
	}
}

// Killed at any moment, a put leaves the image absent or whole; and the next one works. It is
// killed while layers are unpacked, and while the store is changed.
func TestKilledPut(t *testing.T) {
	s := newStore(t)
	f := bigImage(t, "localhost/big:latest")
	saved := f.save(t)
	there := func(pattern string) bool { found, _ := filepath.Glob(s.path(pattern)); return len(found) > 0 }
	inTime, absent := map[string]int{}, 0
	for i := range 20 {
		moment, later := "staging/layer-*", 100*time.Millisecond
		if i%2 == 1 {
			moment, later = "unfinished", 60*time.Millisecond
		}
		cmd := helperCommand(t, "put", s.Dir(), saved)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		for waiting := true; waiting && !there(moment); {
			select {
			case <-ended:
				waiting = false
			case <-time.After(100 * time.Microsecond):
			}
		}
		time.Sleep(rand.N(later))
		cmd.Process.Kill()
		<-ended
		time.Sleep(20 * time.Millisecond) // sbx-store dies after it
		if there(moment) {
			inTime[moment]++
		}
		img, err := s.Find("localhost/big:latest")
		if errors.Is(err, ErrNotFound) {
			absent++
			continue
		}
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		img.Lock.Close()
		s.checkFiles(t, f)
		if _, _, err := s.Remove("localhost/big:latest", true); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	t.Logf("absent %d times of 20; killed in time: %v", absent, inTime)
	if len(inTime) < 2 {
		t.Errorf("no put was killed at one of the moments that matter: %v", inTime)
	}
	put(t, s, f)
	s.check(t, "localhost/big:latest", f)
	if layers := s.layers(t); len(layers) != 4 {
		t.Errorf("%d layers in the store", len(layers))
	}
}

func (s *Store) checkFiles(t *testing.T, f *Fetched) {
	t.Helper()
	img, err := s.Find(f.Names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer img.Lock.Close()
	for _, dir := range img.Layers {
		if files, err := filepath.Glob(dir + "/*/*"); err != nil || len(files) != 300 {
			t.Errorf("%s: %d files, %v", dir, len(files), err)
		}
	}
}

// A layer that cannot be had, or a cancelled pull, leaves nothing.
func TestFailingLayer(t *testing.T) {
	s := newStore(t)
	for name, open := range map[string]func(context.Context, context.CancelFunc) error{
		"failed":    func(context.Context, context.CancelFunc) error { return errors.New("registry on fire") },
		"cancelled": func(ctx context.Context, cancel context.CancelFunc) error { cancel(); <-ctx.Done(); return ctx.Err() },
	} {
		ctx, cancel := context.WithCancel(context.Background())
		f := bigImage(t, "localhost/big:latest")
		f.Layers[3].Open = func(inner context.Context) (*os.File, error) { return nil, open(inner, cancel) }
		_, err := s.Put(ctx, f)
		if err == nil || name == "failed" && !strings.Contains(err.Error(), "registry on fire") || name == "cancelled" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: more than a line: %q", name, err)
		}
		if left, _ := filepath.Glob(s.path("staging") + "/*"); len(left) > 0 || len(s.layers(t)) > 0 {
			t.Errorf("%s: left behind: %v, %v", name, left, s.layers(t))
		}
		cancel()
	}
}

// What the stage said last counts, though it ended with blobs unread.
func TestLastWord(t *testing.T) {
	blob, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	ended := func() socket {
		ours, theirs, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(ours.send(blobSent{0}, blob), theirs.send(reply{Done: true}, nil), theirs.f.Close()); err != nil {
			t.Fatal(err)
		}
		return ours
	}
	ours := ended()
	defer ours.f.Close()
	var r reply
	if _, err := ours.receive(&r); err != nil || !r.Done {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := ours.receive(&r); err != io.EOF {
		t.Error(err)
	}
	ours = ended()
	defer ours.f.Close()
	layer := Layer{Open: func(context.Context) (*os.File, error) { return os.Open(os.DevNull) }}
	for range 3 {
		if err := sendBlob(t.Context(), ours, 1, layer); err != nil {
			t.Error(err)
		}
	}
}

func TestTooManyLayers(t *testing.T) {
	f := fetchedOf(t, "localhost/x:latest", slices.Repeat([][]byte{nil}, 500)...)
	if _, err := newStore(t).Put(context.Background(), f); err == nil || !strings.Contains(err.Error(), "500 layers") {
		t.Error(err)
	}
}

// The index follows what others do to the library's records.
func TestStaleIndex(t *testing.T) {
	s := newStore(t)
	put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x", body: "x"})))
	records := s.library().imagesFile()
	text, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(text string) {
		t.Helper()
		if err := replaceFile(records, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(strings.Replace(string(text), "localhost/x:latest", "localhost/y:latest", 1))
	if _, err := s.Find("localhost/x:latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a name that is gone: %v", err)
	}
	img, err := s.Find("localhost/y:latest")
	if err != nil {
		t.Fatal(err)
	}
	img.Lock.Close()
	// A damaged index is made again; damaged records are told.
	names, err := os.ReadFile(s.path("index/names"))
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{"", "sbx-index 0\n", "\x00\x00", strings.Replace(string(names), "localhost/y", "localhost/x", 1), string(names[:len(names)/2])} {
		writeFile(t, s.path("index/names"), damage)
		if img, err = s.Find("localhost/y:latest"); err != nil {
			t.Fatalf("index %q: %v", damage, err)
		}
		img.Lock.Close()
	}
	if err := os.Remove(s.path("index/" + img.ID)); err != nil {
		t.Fatal(err)
	}
	if img, err = s.Find("localhost/y:latest"); err != nil {
		t.Fatalf("without its record: %v", err)
	}
	img.Lock.Close()
	rewrite("[")
	if _, err = s.Find("localhost/y:latest"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("damaged records: %v", err)
	}
	// An image whose layer is gone is not there.
	rewrite(string(text))
	asRoot(t, "rm", "-rf", img.Layers[0])
	rewrite(string(text) + "\n")
	if _, err = s.Find("localhost/x:latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without its layer: %v", err)
	}
}

// An image that has lost a layer can be brought in again, and removed. What shares its
// other layers is not touched.
func TestLostLayer(t *testing.T) {
	base, top := layerOf(t, inTar{name: "base", body: "b"}), layerOf(t, inTar{name: "top", body: "t"})
	a, b := fetchedOf(t, "localhost/a:latest", base), fetchedOf(t, "localhost/b:latest", base, top)
	whole := func(s *Store, f *Fetched) {
		t.Helper()
		img, err := s.Find(f.Names[0])
		if err != nil {
			t.Fatal(err)
		}
		defer img.Lock.Close()
		for _, dir := range img.Layers {
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("%s: %s: %v, %v", img.Name, dir, files, err)
			}
		}
	}
	for name, lose := range map[string]func(s *Store, img *Image) string{
		"diff of the top":     func(_ *Store, img *Image) string { return img.Layers[0] },
		"the top":             func(_ *Store, img *Image) string { return filepath.Dir(img.Layers[0]) },
		"diff of the base":    func(_ *Store, img *Image) string { return img.Layers[1] },
		"the base":            func(_ *Store, img *Image) string { return filepath.Dir(img.Layers[1]) },
		"all layers":          func(s *Store, _ *Image) string { return s.path("storage/overlay") },
		"the records of both": func(s *Store, _ *Image) string { return s.library().layersFile() },
	} {
		t.Run(name, func(t *testing.T) {
			for _, unseen := range []bool{false, true} {
				s := newStore(t)
				lost := 0
				lose := func(img *Image) {
					lost++
					asRoot(t, "mv", lose(s, img), s.path(fmt.Sprint("lost", lost)))
				}
				put(t, s, a)
				img := put(t, s, b)
				lose(img)
				if unseen { // the index does not know yet
					os.Remove(s.path("index/names"))
				}
				put(t, s, b)
				whole(s, b)
				put(t, s, a)
				whole(s, a)
				lose(img)
				if _, _, err := s.Remove(b.Names[0], false); err != nil {
					t.Error(err)
				}
				put(t, s, a)
				whole(s, a)
				if layers := s.layers(t); len(layers) != 1 {
					t.Errorf("layers are left: %v", layers)
				}
			}
		})
	}
}

// Records that nobody can read are told once and moved aside; then all goes on.
func TestDamagedRecords(t *testing.T) {
	f := fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x", body: "x"}))
	find := func(s *Store) error { img, err := s.Find(f.Names[0]); closeImage(img); return err }
	for _, file := range []func(libraryAt) string{libraryAt.imagesFile, libraryAt.layersFile} {
		for _, text := range []string{"", "[", "{}", "\x00\x00"} {
			for what, meet := range map[string]func(s *Store) error{
				"find": find,
				"put":  func(s *Store) error { img, err := s.Put(t.Context(), f); closeImage(img); return err },
			} {
				s := newStore(t)
				img := put(t, s, f)
				damaged := file(s.library())
				writeFile(t, damaged, text)
				if what == "find" {
					os.Remove(s.path("index/names")) // else only who changes the store reads it
				}
				err := meet(s)
				wantError(t, err, "read "+damaged)
				if h, ok := errors.AsType[interface {
					error
					Hint() string
				}](err); !ok || !strings.Contains(h.Hint(), "pull") {
					t.Errorf("%s: no hint: %v", what, err)
				}
				if err := find(s); !errors.Is(err, ErrNotFound) && !strings.HasSuffix(damaged, "layers.json") {
					t.Errorf("%s, %q: afterwards: %v", what, text, err)
				}
				put(t, s, f)
				if left := s.layers(t); len(left) != 1 {
					t.Errorf("layers: %v", left)
				}
				if _, deleted, err := s.Remove(f.Names[0], false); err != nil || !slices.Equal(deleted, []string{img.ID}) {
					t.Error(deleted, err)
				}
			}
		}
	}
}

// In a namespace with one id, files belong to root whatever the image says.
func TestSingleID(t *testing.T) {
	s := newStore(t)
	f := fetchedOf(t, "localhost/x:latest", layerOf(t,
		inTar{name: "home/"}, inTar{name: "home/ada", body: "x", uid: 1000, gid: 1000, mode: 0o4755},
		inTar{name: "home/far", body: "x", uid: 4_000_000, gid: 65534}, inTar{name: "home/.wh.gone"}))
	cmd := helperCommand(t, "put", s.Dir(), f.save(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	img, err := s.Find("localhost/x:latest")
	if err != nil {
		t.Fatal(err)
	}
	defer img.Lock.Close()
	for _, name := range []string{"home/ada", "home/far", "home/gone"} {
		st, err := os.Lstat(filepath.Join(img.Layers[0], name))
		if err != nil {
			t.Error(err)
			continue
		}
		if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Getuid() {
			t.Errorf("%s belongs to %d", name, uid)
		}
	}
	if st, err := os.Stat(img.Layers[0] + "/home/ada"); err != nil || st.Mode()&os.ModeSetuid == 0 {
		t.Errorf("setuid: %v, %v", st.Mode(), err)
	}
}

// On an overlay, as in a container, layers are unpacked as long as they delete nothing.
func TestStoreOnOverlay(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	defer asRoot(t, "rm", "-rf", dir+"/u", dir+"/w")
	plain := fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x", body: "x", uid: 0}))
	deletes := fetchedOf(t, "localhost/y:latest", layerOf(t, inTar{name: ".wh.x"}))
	out := asRoot(t, "bash", "-c", fmt.Sprintf(`cd %[1]s; mkdir l u w m; mount -t overlay -o userxattr,lowerdir=l,upperdir=u,workdir=w none m
		for image in %s %s; do (exec -a %s %s put %[1]s/m/sbx $image); done; ls m/sbx/storage/overlay/*/diff`, dir, plain.save(t), deletes.save(t), helperName, self))
	if !strings.HasSuffix(out, "\nx\n") || !strings.Contains(out, "operation not permitted: the store lies on an overlay") {
		t.Error(out)
	}
}

// With a disk that is too small, and a store that cannot be written to.
func TestNoRoom(t *testing.T) {
	s := newStore(t)
	small := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := bigImage(t, "localhost/big:latest") // 5 MB
	out := asRoot(t, "bash", "-c", fmt.Sprintf(`mount -t tmpfs -o size=3m none %s; (exec -a %s %s put %[1]s/sbx %[4]s); ls -A %[1]s/sbx/staging %[1]s/sbx/storage/overlay/l`,
		small, helperName, self, f.save(t)))
	t.Log(out)
	if !strings.Contains(out, "no space left on device") || strings.Count(out, "\n") > 5 {
		t.Errorf("a full disk: %s", out)
	}
	if err := os.MkdirAll(s.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Dir(), 0o500); err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(context.Background(), f)
	if err == nil || !strings.Contains(err.Error(), s.Dir()) || !errors.Is(err, syscall.EACCES) {
		t.Errorf("a store that cannot be written to: %v", err)
	}
	if h, ok := errors.AsType[*hinted](err); !ok || h.Hint() == "" {
		t.Errorf("no hint: %v", err)
	}
	if err := os.Chmod(s.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
}
