package fuseoverlay

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxTransfer is of one request to read or to write.
const maxTransfer = 1 << 20

// Device is what a server of FUSE talks to the kernel by.
const Device = "/dev/fuse"

// Mount mounts a file system in no tree yet (fsopen(2), Linux 5.2), whose questions come on device: see
// Serve. The caller is root of a user namespace, and may mount in it. No fusermount is needed.
func Mount(readOnly bool, attr int) (device, mount *os.File, err error) {
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: Device, Err: err}
	}
	device = os.NewFile(uintptr(fd), Device)
	defer func() {
		if err != nil {
			device.Close()
		}
	}()
	context, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, nil, &os.PathError{Op: "fsopen", Path: "fuse", Err: err}
	}
	defer unix.Close(context)
	for _, option := range [][2]string{
		{"source", "overlay"}, {"subtype", "sbx"}, {"fd", strconv.Itoa(fd)}, {"rootmode", "40000"},
		{"user_id", "0"}, {"group_id", "0"}, {"max_read", strconv.Itoa(maxTransfer)},
		// The kernel judges by owner, mode and ACL; whoever is in the user namespace may ask.
		{"default_permissions", ""}, {"allow_other", ""},
	} {
		if option[1] == "" {
			err = unix.FsconfigSetFlag(context, option[0])
		} else {
			err = unix.FsconfigSetString(context, option[0], option[1])
		}
		if err != nil {
			return nil, nil, &os.PathError{Op: "fsconfig " + option[0], Path: "fuse", Err: err}
		}
	}
	if readOnly {
		if err := unix.FsconfigSetFlag(context, "ro"); err != nil {
			return nil, nil, &os.PathError{Op: "fsconfig ro", Path: "fuse", Err: err}
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, nil, &os.PathError{Op: "create", Path: "fuse", Err: err}
	}
	m, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, nil, &os.PathError{Op: "fsmount", Path: "fuse", Err: err}
	}
	return device, os.NewFile(uintptr(m), "fuse"), nil
}
