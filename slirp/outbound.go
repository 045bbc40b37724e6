//go:build !hot

package slirp

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// outbound makes a socket leave the host from where the caller wants it to: a function for
// net.Dialer's Control. What goes to the host's loopback goes from there.
func (s *Stack) outbound(dst netip.Addr) func(network, address string, c syscall.RawConn) error {
	from := s.from(dst)
	if from == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = leaveFrom(int(fd), from) })
		if err != nil {
			return err
		}
		return failed
	}
}

// from is the address or the interface; "" is the kernel's choice.
func (s *Stack) from(dst netip.Addr) string {
	switch {
	case dst.IsLoopback():
		return ""
	case dst.Is4():
		return s.config.IPv4.Outbound
	}
	return s.config.IPv6.Outbound
}

func leaveFrom(fd int, from string) error {
	a, err := netip.ParseAddr(from)
	if err != nil {
		return unix.BindToDevice(fd, from) // Linux 5.7: without CAP_NET_RAW
	}
	// If it can, the port is chosen when the socket connects, and serves several destinations (ip(7)).
	unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if a.Is4() {
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: a.As4()})
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: a.As16()})
}
