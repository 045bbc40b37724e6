package cli

import (
	"errors"

	"golang.org/x/sys/unix"
)

// refusePrivilege refuses to run setuid, setgid or with capabilities of the file: what sbx
// does for its caller, it would then do with rights that the caller does not have. The kernel
// says so of each of them by AT_SECURE (getauxval(3)).
func refusePrivilege() error {
	const atSecure = 23
	pairs, err := unix.Auxv()
	if err != nil {
		return nil // this was not started by a kernel
	}
	for _, pair := range pairs {
		if pair[0] == atSecure && pair[1] != 0 {
			return errors.New("start: setuid, setgid or capabilities of the file: sbx needs none, and runs with none")
		}
	}
	return nil
}
