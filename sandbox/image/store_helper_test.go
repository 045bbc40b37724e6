//go:build !hot

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"sbx/userns"
)

// rootName is a stage that runs a program as sbx-store would see the world: as root of
// a user namespace with the caller's subordinate ids, in a mount namespace of its own.
const rootName = "image-test-root"

func serveRoot() {
	runtime.LockOSThread()
	message, err := userns.Receive()
	var args []string
	if err == nil {
		err = json.Unmarshal(message, &args)
	}
	if err == nil {
		os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		err = cmd.Run()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// asRoot runs a program that way and returns what it prints.
func asRoot(t *testing.T, args ...string) string {
	t.Helper()
	return string(runStage(t, rootName, "", args...))
}

// libraryName is a stage that asks the storage library itself, as a later pushing sbx would.
const libraryName = "image-test-library"

func serveLibrary() {
	runtime.LockOSThread()
	message, err := userns.Receive()
	var args []string
	if err == nil {
		err = json.Unmarshal(message, &args)
	}
	if err == nil {
		err = writeDiff(args[0], args[1])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// writeDiff prints the tar of a layer.
func writeDiff(dir, layer string) error {
	lib, err := openLibrary(dir)
	if err != nil {
		return err
	}
	none := archive.Uncompressed
	diff, err := lib.Diff("", layer, &storage.DiffOptions{Compression: &none})
	if err != nil {
		return err
	}
	defer diff.Close()
	_, err = io.Copy(os.Stdout, diff)
	return err
}

// runStage runs one of the tests' stages and returns what it prints.
func runStage(t *testing.T, name, dir string, args ...string) []byte {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	caller, err := userns.FindCaller("", "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stage := userns.Stage{Name: name, Flags: unix.CLONE_NEWNS, Caller: caller, Map: caller.Default(), Env: storeEnv(dir)}
	stage.Stdio[1] = out
	message, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	child, err := stage.Start(message)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child.PidFD)
	status, err := child.Wait()
	text, rerr := os.ReadFile(out.Name())
	if err != nil || rerr != nil || status.ExitStatus() != 0 {
		t.Errorf("%s: status %d, %v, %v\n%s", strings.Join(args, " "), status.ExitStatus(), err, rerr, text)
	}
	return text
}

// wipe removes a store: the files of layers belong to subordinate ids.
func (s *Store) wipe(t *testing.T) {
	t.Helper()
	asRoot(t, "rm", "-rf", s.dir)
}

// helperName is this test binary doing something in a process of its own.
const helperName = "image-test-helper"

func helperCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = append([]string{helperName}, args...)
	return cmd
}

// helperMain is: find DIR NAME, hold DIR NAME, put DIR SAVED.
func helperMain(args []string) int {
	s, err := Open(args[1])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var img *Image
	switch args[0] {
	case "find", "hold":
		img, err = s.Find(args[2])
	case "put":
		var f *Fetched
		if f, err = loadFetched(args[2]); err == nil {
			img, err = s.Put(context.Background(), f)
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(img.ID)
	if args[0] == "hold" { // until its standard input ends
		os.Stdin.Read(make([]byte, 1))
	}
	img.Lock.Close()
	return 0
}

// savedImage is a Fetched in a file, for another process.
type savedImage struct {
	Ref, MediaType   string
	Names            []string
	Digest           digest.Digest
	Manifest, Config []byte
	Layers           []savedLayer
}

type savedLayer struct {
	Digest, DiffID digest.Digest
	File           string
}

func (f *Fetched) save(t *testing.T) string {
	t.Helper()
	saved := savedImage{f.Ref, f.MediaType, f.Names, f.Digest, f.Manifest, f.Config, nil}
	for _, l := range f.Layers {
		blob, err := l.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		blob.Close()
		saved.Layers = append(saved.Layers, savedLayer{l.Digest, l.DiffID, blob.Name()})
	}
	text, err := json.Marshal(saved)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/image.json"
	writeFile(t, file, string(text))
	return file
}

func loadFetched(file string) (*Fetched, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var saved savedImage
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, err
	}
	f := &Fetched{Ref: saved.Ref, Names: saved.Names, Digest: saved.Digest, MediaType: saved.MediaType, Manifest: saved.Manifest, Config: saved.Config}
	for _, l := range saved.Layers {
		f.Layers = append(f.Layers, Layer{
			Digest: l.Digest, DiffID: l.DiffID, Size: -1,
			Open: func(context.Context) (*os.File, error) { return os.Open(l.File) },
		})
	}
	return f, nil
}
