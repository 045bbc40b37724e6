package userns

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Receive is the first thing that a stage does: it waits until it has been told what to
// do and its ids are mapped, and becomes root of its namespace. The error is io.EOF
// if the parent has ended instead. The goroutine must be locked to its thread.
func Receive() ([]byte, error) {
	message, join, err := receive(syscall.Setresgid, syscall.Setresuid)
	if err != nil {
		return nil, err
	}
	return message, join()
}

// ReceiveEarly is Receive in two steps, for a stage that does all it does on the calling
// thread. When it returns, the ids may be unmapped yet: the process has every capability,
// opens what the caller may open, and can own nothing. join waits for them.
func ReceiveEarly() (message []byte, join func() error, err error) {
	return receive(threadOnly(unix.SYS_SETRESGID), threadOnly(unix.SYS_SETRESUID))
}

// threadOnly changes the ids of this thread alone: the others keep none at all, and need
// not be stopped to be given them.
func threadOnly(nr uintptr) func(r, e, s int) error {
	return func(r, e, s int) error {
		if _, _, errno := unix.RawSyscall(nr, uintptr(r), uintptr(e), uintptr(s)); errno != 0 {
			return errno
		}
		return nil
	}
}

func receive(setresgid, setresuid func(r, e, s int) error) ([]byte, func() error, error) {
	unix.CloseOnExec(messageFD)
	f := os.NewFile(messageFD, "message")
	var size [8]byte
	if _, err := io.ReadFull(f, size[:]); err != nil {
		return nil, nil, err
	}
	message := make([]byte, binary.NativeEndian.Uint64(size[:]))
	if _, err := io.ReadFull(f, message); err != nil {
		return nil, nil, err
	}
	return message, func() error {
		defer f.Close()
		if _, err := io.ReadFull(f, size[:1]); err != nil {
			return err
		}
		return becomeRoot(setresgid, setresuid)
	}, nil
}

// becomeRoot takes the ids that were just mapped. The supplementary groups stay: what they
// open for the caller they open here too.
func becomeRoot(setresgid, setresuid func(r, e, s int) error) error {
	if err := setresgid(0, 0, 0); err != nil {
		return fmt.Errorf("become root of the user namespace: setresgid: %w", err)
	}
	if err := setresuid(0, 0, 0); err != nil {
		return fmt.Errorf("become root of the user namespace: setresuid: %w", err)
	}
	// The change of ids has cleared it (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the parent: %w", err)
	}
	// The ambient set has done its work; nothing executed from here is to get it.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	return nil
}
