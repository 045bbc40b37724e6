package slirp

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// PublishError says why a port cannot be published.
type PublishError struct {
	Port Port
	Err  error
}

func (e *PublishError) Error() string {
	cause := e.Err
	if errno, ok := errors.AsType[unix.Errno](e.Err); ok {
		cause = errno // and not the address again
	}
	return fmt.Sprintf("publish %s: %v", e.Port, cause)
}

func (e *PublishError) Unwrap() error { return e.Err }

// Hint says what helps.
func (e *PublishError) Hint() string {
	switch {
	case errors.Is(e.Err, unix.EADDRINUSE):
		return "another program has it, perhaps another sandbox: ss -lntup; without a port of the host's, one is chosen that is free"
	case errors.Is(e.Err, unix.EACCES):
		return fmt.Sprintf("ports below %d are root's here (net.ipv4.ip_unprivileged_port_start): publish a higher one of the host's", unprivileged())
	case errors.Is(e.Err, unix.EADDRNOTAVAIL):
		return "this host has no such address; 0.0.0.0 is all of IPv4, [::] all of IPv6"
	case errors.Is(e.Err, unix.EINVAL) && e.Port.Address.Zone() != "":
		return "this host has no such interface: ip address"
	case errors.Is(e.Err, unix.EAFNOSUPPORT):
		return "this host has no IPv6"
	case errors.Is(e.Err, unix.EMFILE):
		return "ulimit -n is how many files, and so ports, a process may have"
	}
	return ""
}

const unprivilegedFile = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// unprivileged is the first port that is everybody's. The file may be out of reach.
func unprivileged() int {
	const usual = 1024
	text, err := os.ReadFile(unprivilegedFile)
	if err != nil {
		return usual
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return usual
	}
	return n
}
