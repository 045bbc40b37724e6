package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sbx/sandbox"
)

// parseDevice reads one --device SRC[:DST][:PERMISSIONS]. The permissions change nothing: a
// rootless sandbox has the caller's own rights.
func parseDevice(s string) (d sandbox.Device, err error) {
	parts := strings.Split(s, ":")
	d.Src = parts[0]
	switch {
	case !filepath.IsAbs(d.Src) && strings.Contains(d.Src, "/") && strings.Contains(s, "="):
		return d, &usageError{msg: fmt.Sprintf("%s: %s", quoteArg(s), noCDI)}
	case !filepath.IsAbs(d.Src):
		return d, fmt.Errorf("%s: not SRC[:DST][:rwm]", quoteArg(s))
	case len(parts) == 1, len(parts) == 2 && isPerm(parts[1]):
		d.Dst = d.Src
	case len(parts) == 2, len(parts) == 3 && isPerm(parts[2]):
		d.Dst = parts[1]
	default:
		return d, fmt.Errorf("%s: not SRC[:DST][:rwm]", quoteArg(s))
	}
	d.Src = filepath.Clean(d.Src)
	d.Dst, err = insidePath(d.Dst)
	return d, err
}

func isPerm(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "rwm") == ""
}

// expandDevice looks at the source: a node stands for itself, a directory for
// every node below it.
func expandDevice(d sandbox.Device) ([]sandbox.Device, error) {
	info, err := os.Stat(d.Src)
	switch {
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeDevice != 0:
		return []sandbox.Device{d}, nil
	case !info.IsDir():
		return nil, fmt.Errorf("%s: not a device", quoteArg(d.Src))
	}
	var found []sandbox.Device
	err = filepath.WalkDir(d.Src, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeDevice == 0 {
			return err
		}
		found = append(found, sandbox.Device{Src: path, Dst: d.Dst + strings.TrimPrefix(path, d.Src)})
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s: no devices in there", quoteArg(d.Src))
	}
	return found, err
}

func (a *runArgs) addDevice(s string) error {
	d, err := parseDevice(s)
	if err != nil {
		return err
	}
	if perm := s[strings.LastIndexByte(s, ':')+1:]; isPerm(perm) && !(strings.Contains(perm, "r") && strings.Contains(perm, "w")) {
		a.app.warn("--device: %s: not restricted to %s: the command may do with it what you may", d.Src, perm)
	}
	found, err := expandDevice(d)
	a.spec.Devices = append(a.spec.Devices, found...)
	return err
}
