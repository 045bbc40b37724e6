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

func xdgHome(name, below string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), below)
}

// configHome is a path below $XDG_CONFIG_HOME.
func configHome(elem ...string) string {
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		base = filepath.Join(os.Getenv("HOME"), ".config")
	}
	return filepath.Join(append([]string{base}, elem...)...)
}
