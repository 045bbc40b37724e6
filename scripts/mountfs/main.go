//go:build !hot

// Command mountfs mounts a stack of directories with sbx's overlay over FUSE, and serves it until it
// is unmounted; it says so on stdout when it is mounted. It is for bench-fs: sbx does this by itself.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	fuseoverlay "sbx/fuse-overlay"
)

const lateTimers = 500_000 // nanoseconds; see sandbox/overfuse.go

func main() {
	// As sbx starts its server: the timers of Go's runtime may be late.
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil && slack < lateTimers {
		if unix.Prctl(unix.PR_SET_TIMERSLACK, lateTimers, 0, 0, 0) == nil {
			fmt.Fprintln(os.Stderr, "mountfs:", unix.Exec("/proc/self/exe", os.Args, os.Environ()))
			os.Exit(1)
		}
	}
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: mountfs LOWER[:LOWER...] UPPER WORK MOUNTPOINT")
		os.Exit(2)
	}
	if err := serve(strings.Split(os.Args[1], ":"), os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "mountfs:", err)
		os.Exit(1)
	}
}

func serve(lower []string, upper, work, mountpoint string) error {
	var o fuseoverlay.Options
	var err error
	for _, name := range lower {
		dir, err := os.Open(name)
		if err != nil {
			return err
		}
		o.Lower = append(o.Lower, dir)
	}
	if o.Upper, err = os.Open(upper); err != nil {
		return err
	}
	if o.Work, err = os.Open(work); err != nil {
		return err
	}
	o.Volatile = true // as fuse-overlayfs, which does not wait for the disk when it copies up
	target, err := os.Open(mountpoint)
	if err != nil {
		return err
	}
	device, mount, err := fuseoverlay.Mount(false, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	err = unix.MoveMount(int(mount.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return err
	}
	mount.Close()
	target.Close()
	return fuseoverlay.Serve(device, o, func() { fmt.Println("mounted") })
}
