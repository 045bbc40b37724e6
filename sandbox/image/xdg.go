package image

import (
	"os"
	"path/filepath"
	"strconv"
)

// surroundings is what the places depend on, in one word.
func surroundings() string {
	return strconv.Quote(configHome()) + " " + strconv.Quote(dataHome()) + " " + strconv.Quote(os.Getenv("CONTAINERS_STORAGE_CONF")) +
		" " + strconv.Quote(os.Getenv("CONTAINERS_REGISTRIES_CONF"))
}

func dataHome() string { return xdgHome("XDG_DATA_HOME", ".local/share") }

// xdgHome ignores a relative directory (basedir-spec).
func xdgHome(name, below string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), below)
}

// configHome is a path below $XDG_CONFIG_HOME.
func configHome(elem ...string) string {
	return filepath.Join(append([]string{xdgHome("XDG_CONFIG_HOME", ".config")}, elem...)...)
}
