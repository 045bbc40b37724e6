//go:build !hot

package fuseoverlay

import "golang.org/x/sys/unix"

// Extended attributes have no system calls by descriptor and name (before Linux 6.13), nor for a
// descriptor of O_PATH. So the way is a path of at most two names, from /proc/self/fd.

func getXattr(path, name string, dest []byte, follow bool) (int, error) {
	if follow {
		return unix.Getxattr(path, name, dest)
	}
	return unix.Lgetxattr(path, name, dest)
}

func readXattr(path, name string, follow bool) ([]byte, error) {
	value := make([]byte, 256)
	for {
		n, err := getXattr(path, name, value, follow)
		if err == nil {
			return value[:n], nil
		}
		if err != unix.ERANGE || len(value) >= 1<<16 {
			return nil, err
		}
		value = make([]byte, 1<<16)
	}
}

// listXattrs are the names; none, where the file system knows of none.
func listXattrs(path string, follow bool) ([]string, error) {
	list := make([]byte, 512)
	for {
		var n int
		var err error
		if follow {
			n, err = unix.Listxattr(path, list)
		} else {
			n, err = unix.Llistxattr(path, list)
		}
		switch {
		case err == nil:
			return xattrNames(list[:n]), nil
		case err == unix.EOPNOTSUPP:
			return nil, nil
		case err != unix.ERANGE || len(list) >= 1<<16:
			return nil, err
		}
		list = make([]byte, 1<<16)
	}
}

func setXattr(path, name string, value []byte, flags int, follow bool) error {
	if follow {
		return unix.Setxattr(path, name, value, flags)
	}
	return unix.Lsetxattr(path, name, value, flags)
}

func removeXattr(path, name string, follow bool) error {
	if follow {
		return unix.Removexattr(path, name)
	}
	return unix.Lremovexattr(path, name)
}
