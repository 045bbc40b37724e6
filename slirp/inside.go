package slirp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A client of a published port arrives in the sandbox on a socket that was made there, and that
// has the client's address: for the sandbox's kernel it is a connection between two of its own
// sockets. Sockets are made by sbx-init, which is in the sandbox's net namespace, and used by
// sbx-net, which is not:
//
//	sbx-net -> sbx-init   socketRequest, marshalled
//	sbx-init -> sbx-net   an errno, and with 0 the socket: not connected yet
//
// An address that is not the sandbox's needs IP_TRANSPARENT, and a way back: what the server
// sends must find that socket, and not leave by eth0. So such sockets have a mark, the server's side
// of a connection inherits it (net.ipv4.tcp_fwmark_accept), and what has the mark stays.

// returnMark is that mark, "sbx", and the number of the table that keeps it here.
const returnMark = 0x736278

// KeepReturns makes what has the mark stay in the net namespace of the calling thread. It is for a
// namespace where ReturnSysctls are on.
func KeepReturns(c Config) error {
	if err := tryTransparent(); err != nil {
		return err
	}
	for _, f := range c.families() {
		family := netlink.FAMILY_V4
		every := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if f.Address.Addr().Is6() {
			family, every = netlink.FAMILY_V6, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		rule := netlink.NewRule()
		rule.Family, rule.Mark, rule.Table, rule.Priority = family, returnMark, returnMark, 1
		if err := netlink.RuleAdd(rule); err != nil {
			return fmt.Errorf("rule for what returns to clients: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		err = netlink.RouteAdd(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: ipNet(every), Table: returnMark, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
		})
		if err != nil {
			return fmt.Errorf("route for what returns to clients: %w", err)
		}
	}
	return nil
}

// tryTransparent finds out whether sockets may have a client's address, and the mark.
func tryTransparent() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	return setTransparent(fd, false)
}

func setTransparent(fd int, six bool) error {
	level, option, name := unix.SOL_IP, unix.IP_TRANSPARENT, "IP_TRANSPARENT"
	if six {
		level, option, name = unix.SOL_IPV6, unix.IPV6_TRANSPARENT, "IPV6_TRANSPARENT"
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return os.NewSyscallError(name, err)
	}
	return os.NewSyscallError("SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, returnMark))
}

// ReturnSysctls must be 1 for that: the server's side has the mark, and so has a RST where there is none.
func ReturnSysctls(c Config) []string {
	names := []string{"net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect"}
	if c.IPv6.used() {
		names = append(names, "net.ipv6.fwmark_reflect")
	}
	return names
}

// socketRequest asks for a socket in the sandbox.
type socketRequest struct {
	datagrams bool
	source    netip.AddrPort // a client's, or port 0 for any port; the zero AddrPort never
}

func (r socketRequest) marshal() []byte {
	b, _ := r.source.MarshalBinary()
	if r.datagrams {
		return append([]byte{1}, b...)
	}
	return append([]byte{0}, b...)
}

func (r *socketRequest) unmarshal(b []byte) error {
	if len(b) != 1+4+2 && len(b) != 1+16+2 {
		return unix.EINVAL
	}
	r.datagrams = b[0] == 1
	return r.source.UnmarshalBinary(b[1:])
}

// ServeSockets makes sockets in the net namespace of the calling thread, as asked for on requests,
// until pidfd's process ends, and closes it then. Where returns are not kept, sockets have addresses
// of the sandbox's own.
func ServeSockets(requests *os.File, pidfd int, returns bool) {
	defer requests.Close()
	debug.SetGCPercent(100) // sbx-init does not collect its garbage otherwise, for it makes none
	fd := int(requests.Fd())
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
	packet := make([]byte, 64)
	for {
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return
		}
		if poll[0].Revents != 0 {
			return
		}
		if poll[1].Revents == 0 {
			continue
		}
		n, _, err := unix.Recvfrom(fd, packet, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 { // sbx-net has ended: there are no more requests
			return
		}
		answerSocket(fd, packet[:n], returns)
	}
}

func answerSocket(fd int, packet []byte, returns bool) {
	var r socketRequest
	made, err := -1, r.unmarshal(packet)
	if err == nil {
		made, err = r.make(returns)
	}
	if err != nil {
		errno, ok := errors.AsType[unix.Errno](err)
		if !ok {
			errno = unix.EINVAL
		}
		unix.Sendmsg(fd, []byte{byte(errno)}, nil, nil, unix.MSG_NOSIGNAL)
		return
	}
	unix.Sendmsg(fd, []byte{0}, unix.UnixRights(made), nil, unix.MSG_NOSIGNAL)
	unix.Close(made)
}

// make makes the socket and gives it its address. Where the port is taken in the sandbox, as by a
// server that listens there, it gets another.
func (r *socketRequest) make(returns bool) (int, error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if r.source.Addr().Is6() {
		domain = unix.AF_INET6
	}
	if r.datagrams {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := r.bind(fd, returns); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (r *socketRequest) bind(fd int, returns bool) error {
	address := r.source.Addr()
	if !address.IsLoopback() {
		if !returns {
			return nil // connect(2) takes an address of the sandbox's own
		}
		if err := setTransparent(fd, address.Is6()); err != nil {
			return err
		}
	}
	if !r.datagrams { // what is left of earlier connections from there is not in the way
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	err := unix.Bind(fd, sockaddr(r.source))
	if r.source.Port() != 0 && (err == unix.EADDRINUSE || err == unix.EADDRNOTAVAIL) {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(address, 0)))
	}
	return err
}

// sockaddr is an address without a zone, as the kernel takes it.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
