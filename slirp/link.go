package slirp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The two ends of the link. Locally administered; there is nobody else on it.
var (
	stackMAC   = [6]byte{0x02, 0, 0x0a, 0, 0x02, 0x02}
	sandboxMAC = [6]byte{0x02, 0, 0x0a, 0, 0x02, 0x64}
)

// Connect makes the link, in the net namespace of the calling thread, which the goroutine must
// be locked to, and returns the stack's end of it, which the caller closes: a packet socket, or
// where this host refuses what that takes, a tap; refusal then says what it said.
func Connect(c Config) (link *os.File, refusal string, err error) {
	link, veth := connectVeth(c)
	if veth == nil || !isRefusal(veth) {
		return link, "", veth
	}
	link, tap := connectTap(c)
	if tap != nil {
		return nil, "", &LinkError{veth, tap}
	}
	return link, veth.Error(), nil
}

// isRefusal: a filter around us, a kernel without the module, or no more namespaces.
func isRefusal(err error) bool {
	return slices.ContainsFunc([]error{
		unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENODEV, unix.ENOSPC,
	}, func(refused error) bool { return errors.Is(err, refused) })
}

// LinkError says that there is no link of either kind.
type LinkError struct{ Veth, Tap error }

func (e *LinkError) Error() string   { return e.Veth.Error() + "; and a tap: " + e.Tap.Error() }
func (e *LinkError) Unwrap() []error { return []error{e.Veth, e.Tap} }

// Hint says what helps.
func (e *LinkError) Hint() string {
	return "--network none or host; or give the container around sbx a device: --device /dev/net/tun"
}

// connectVeth makes a veth pair. Its other end lies in a namespace that lives as long as the
// socket, and that nothing leads to.
func connectVeth(c Config) (*os.File, error) {
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("net namespace of the sandbox: %w", err)
	}
	defer unix.Close(here)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("net namespace of the link: %w", err)
	}
	far, err := makeVeth(c, here)
	if back := unix.Setns(here, unix.CLONE_NEWNET); back != nil {
		return nil, fmt.Errorf("return to the net namespace of the sandbox: %w", back)
	}
	if err != nil {
		return nil, err
	}
	if err := configure(c); err != nil {
		far.Close()
		return nil, err
	}
	return far, nil
}

// makeVeth makes the interface in the namespace there, and its peer here, with a socket on it.
func makeVeth(c Config, there int) (*os.File, error) {
	attrs, mac := netlink.NewLinkAttrs(), c.mac()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = "sbx0", c.MTU, net.HardwareAddr(stackMAC[:])
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: c.iface(), PeerHardwareAddr: net.HardwareAddr(mac[:]),
		PeerNamespace: netlink.NsFd(there), PeerMTU: uint32(c.MTU),
	})
	if err != nil {
		return nil, fmt.Errorf("make veth pair: %w", err)
	}
	link, err := netlink.LinkByName("sbx0")
	if err != nil {
		return nil, fmt.Errorf("find sbx0: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("bring up sbx0: %w", err)
	}
	f, err := packetSocket(link.Attrs().Index)
	if err != nil {
		netlink.LinkDel(link) // or else eth0 is there until the kernel has taken this namespace down
	}
	return f, err
}

// linkBuffer is how much may wait on the link: the kernel doubles it, and counts its own part in.
const linkBuffer = 1 << 20

// packetSocket reads and writes whole frames, of which the kernel leaves segmentation and
// checksums to whoever is at the other end (packet(7), PACKET_VNET_HDR).
func packetSocket(index int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "packet socket")
	for _, option := range []struct {
		name  string
		value int
	}{
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR},
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING}, // Linux 4.20
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option.value, 1); err != nil {
			f.Close()
			return nil, fmt.Errorf("packet socket: %s: %w", option.name, err)
		}
	}
	// As much room as rmem_max lets a user have: what comes when that is full is lost.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, linkBuffer); err != nil {
		f.Close()
		return nil, fmt.Errorf("packet socket: SO_RCVBUF: %w", err)
	}
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		f.Close()
		return nil, fmt.Errorf("packet socket: bind: %w", err)
	}
	return f, nil
}

// configure gives the interface its addresses and routes.
func configure(c Config) error {
	link, err := netlink.LinkByName(c.iface())
	if err != nil {
		return fmt.Errorf("find %s: %w", c.iface(), err)
	}
	for _, f := range c.families() {
		address := &netlink.Addr{IPNet: ipNet(f.Address)}
		if f.Address.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD // it is used at once
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("give %s %s: %w", c.iface(), f.Address, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", c.iface(), err)
	}
	if !c.routes() {
		return nil
	}
	for _, f := range c.families() {
		err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: f.Gateway.AsSlice()})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("route by %s: %w", f.Gateway, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
