//go:build !hot

package image

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/opencontainers/go-digest"
)

// Where podman keeps its images: storage.conf(5), as far as it says that. Nothing else
// in it has any effect on us.

// storageConfs are the files that podman would look for, the user's own first.
func storageConfs() []string {
	if file := os.Getenv("CONTAINERS_STORAGE_CONF"); file != "" {
		return []string{file}
	}
	return []string{
		filepath.Join(configHome(), "containers/storage.conf"),
		"/etc/containers/storage.conf",
		"/usr/share/containers/storage.conf",
	}
}

type storageConf struct {
	Storage struct {
		GraphRoot string `toml:"graphroot"`
		Rootless  string `toml:"rootless_storage_path"`
		Options   struct {
			Additional []string `toml:"additionalimagestores"`
		} `toml:"options"`
	} `toml:"storage"`
}

// podmanStores are podman's own store and its additional image stores, by either driver.
func podmanStores() []libraryAt {
	root := filepath.Join(dataHome(), "containers/storage")
	if os.Getuid() == 0 {
		root = "/var/lib/containers/storage"
	}
	var additional []string
	for i, file := range storageConfs() {
		var conf storageConf
		if _, err := toml.DecodeFile(file, &conf); err != nil {
			continue // also a file of another version; podman itself will complain
		}
		switch s := conf.Storage; {
		case s.GraphRoot != "" && (i == 0 || os.Getuid() == 0): // the system's is root's
			root = expandHome(s.GraphRoot)
		case s.Rootless != "" && os.Getuid() != 0:
			root = expandHome(s.Rootless)
		}
		additional = conf.Storage.Options.Additional
		break // podman reads only the first that is there
	}
	var stores []libraryAt
	for _, r := range append([]string{root}, additional...) {
		at := libraryAt{filepath.Clean(r), "overlay"}
		if filepath.IsAbs(r) && !strings.ContainsAny(r, "\n\x00") && !slices.Contains(stores, at) {
			stores = append(stores, at, libraryAt{at.root, "vfs"})
		}
	}
	return stores
}

// expandHome replaces what storage.conf(5) allows in a path.
func expandHome(path string) string {
	return os.Expand(path, func(name string) string {
		if name == "UID" {
			return strconv.Itoa(os.Getuid())
		}
		return os.Getenv(name)
	})
}

func sortedUnique(l []digest.Digest) []digest.Digest {
	if len(l) > 1 {
		slices.Sort(l[1:]) // the first is the image's own
	}
	return slices.Compact(l)
}
