//go:build !hot

package fuseoverlay

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ServeStage is the process sbx-overlay. It is root of the user namespace that owns the mount, and ends
// when that is unmounted, or with whoever started it.
func ServeStage() {
	ready := os.NewFile(ReadyFD, "ready")
	unix.CloseOnExec(ReadyFD)
	o, err := received(os.Args)
	if err == nil {
		err = Serve(os.NewFile(DeviceFD, "/dev/fuse"), o, func() {
			ready.WriteString(Ready)
			ready.Close()
		})
	}
	if err != nil {
		ready.WriteString(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

func received(argv []string) (o Options, err error) {
	if len(argv) != 4 {
		return o, errors.New("bug in sbx: " + ProcessName + " is not called by people")
	}
	lower, err1 := strconv.Atoi(argv[1])
	upper, err2 := strconv.ParseBool(argv[2])
	o.Volatile, err = strconv.ParseBool(argv[3])
	if err := errors.Join(err1, err2, err); err != nil {
		return o, err
	}
	next := LayersFD
	dir := func() *os.File {
		next++
		return os.NewFile(uintptr(next-1), fmt.Sprint("layer ", next-LayersFD))
	}
	for range lower {
		o.Lower = append(o.Lower, dir())
	}
	if upper {
		o.Upper, o.Work = dir(), dir()
	}
	return o, nil
}
