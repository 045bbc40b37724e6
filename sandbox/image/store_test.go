//go:build !hot

package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPutAndFind(t *testing.T) {
	s := newStore(t)
	if _, err := s.Find("docker.io/library/x:latest"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("in an empty store: %v", err)
	}
	f := fetchedOf(t, "docker.io/library/x:latest",
		layerOf(t, inTar{name: "bin/"}, inTar{name: "bin/sh", body: "#!"}, inTar{name: "home/ada/x", body: "1", uid: 1000, gid: 1000}),
		layerOf(t, inTar{name: "etc/"}, inTar{name: "etc/passwd", body: "root"}))
	img, err := s.Put(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Lock.Close()
	if img.Name != "docker.io/library/x:latest" || len(img.Layers) != 2 || img.Digest != f.Digest || img.Config.Config.Cmd[0] != "/bin/sh" {
		t.Errorf("%+v", img)
	}
	for path, want := range map[string]string{img.Layers[1] + "/bin/sh": "#!", img.Layers[0] + "/etc/passwd": "root"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, name := range []string{"docker.io/library/x:latest", img.ID, img.ID[:12], "sha256:" + img.ID, "docker.io/library/x@" + f.Digest.String()} {
		again, err := s.Find(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again.Lock.Close()
		if again.ID != img.ID {
			t.Errorf("%s: %s", name, again.ID)
		}
	}
	for _, name := range []string{"docker.io/library/x:1", "x", "docker.io/library/y@" + f.Digest.String(), "zz", "ab"} {
		if _, err := s.Find(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(s.Dir(), "staging"))
	if err != nil || len(left) != 0 {
		t.Errorf("staging: %v, %v", left, err)
	}
}
