package slirp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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
	far, segments, err := makeVeth(c, here)
	if back := unix.Setns(here, unix.CLONE_NEWNET); back != nil {
		return nil, fmt.Errorf("return to the net namespace of the sandbox: %w", back)
	}
	if err != nil {
		return nil, err
	}
	eth0, err := configure(c)
	if c.Member == nil && err == nil {
		netlink.LinkSetGSOIPv4MaxSize(eth0, longFrame) // Linux 6.3; without, frames are shorter
	}
	if err == nil && !segments {
		err = leaveNoSegments(c.iface())
	}
	if err != nil {
		far.Close()
		return nil, err
	}
	return far, nil
}

// makeVeth makes the interface in the namespace there, and its peer here, with a socket on it.
func makeVeth(c Config, there int) (f *os.File, segments bool, err error) {
	attrs, mac := netlink.NewLinkAttrs(), c.mac()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = "sbx0", c.MTU, net.HardwareAddr(stackMAC[:])
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: c.iface(), PeerHardwareAddr: net.HardwareAddr(mac[:]),
		PeerNamespace: netlink.NsFd(there), PeerMTU: uint32(c.MTU),
	})
	if err != nil {
		return nil, false, fmt.Errorf("make veth pair: %w", err)
	}
	link, err := netlink.LinkByName("sbx0")
	if err != nil {
		return nil, false, fmt.Errorf("find sbx0: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, false, fmt.Errorf("bring up sbx0: %w", err)
	}
	f, segments, err = packetSocket(link.Attrs().Index)
	if err != nil {
		netlink.LinkDel(link) // or else eth0 is there until the kernel has taken this namespace down
	}
	return f, segments, err
}

// longFrame is how much of a stream the sandbox's kernel hands over at a time, whatever the MTU: IPv4 has a
// length for a quarter of that. It, the stack, and whoever waits at the host's end wake up each time, which is
// most of what a stream costs.
const longFrame = 4 * 65408

const vnetHeader = 10 // bytes before each frame (struct virtio_net_hdr)

// linkBuffer is how much may wait on the link: the kernel doubles it, and counts its own part in.
const linkBuffer = 1 << 20

// packetSocket reads and writes whole frames, of which the kernel leaves segmentation and
// checksums to whoever is at the other end (packet(7), PACKET_VNET_HDR); segments says
// whether it can tell of those of UDP.
func packetSocket(index int) (f *os.File, segments bool, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, false, fmt.Errorf("packet socket: %w", err)
	}
	f = os.NewFile(uintptr(fd), "packet socket")
	if segments, err = setPacketOptions(fd, index); err != nil {
		f.Close()
		return nil, false, fmt.Errorf("packet socket: %w", err)
	}
	return f, segments, nil
}

func setPacketOptions(fd, index int) (segments bool, err error) {
	// Linux 6.2 has a word in the header for datagrams that belong together, and loses them before; since
	// 6.4 one may say how long the header is, so who may has both.
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR_SZ, vnetHeader)
	segments = err == nil
	if errors.Is(err, unix.ENOPROTOOPT) {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	}
	if err != nil {
		return false, fmt.Errorf("PACKET_VNET_HDR: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil { // Linux 4.20
		return false, fmt.Errorf("PACKET_IGNORE_OUTGOING: %w", err)
	}
	// As much room as rmem_max lets a user have: what comes when that is full is lost.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, linkBuffer); err != nil {
		return false, fmt.Errorf("SO_RCVBUF: %w", err)
	}
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return false, fmt.Errorf("bind: %w", err)
	}
	return segments, nil
}

// leaveNoSegments has the sandbox's kernel make the datagrams of UDP_SEGMENT itself, before they reach
// the interface (ethtool-netlink.rst, FEATURES_SET).
func leaveNoSegments(iface string) error {
	family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
	if err != nil {
		return fmt.Errorf("ethtool: %w", err)
	}
	request := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	request.AddData(&nl.Genlmsg{Command: unix.ETHTOOL_MSG_FEATURES_SET, Version: unix.ETHTOOL_GENL_VERSION})
	const nested = unix.NLA_F_NESTED
	device := nl.NewRtAttr(nested|unix.ETHTOOL_A_FEATURES_HEADER, nil)
	device.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_NAME, nl.ZeroTerminated(iface))
	wanted := nl.NewRtAttr(nested|unix.ETHTOOL_A_FEATURES_WANTED, nil)
	bit := wanted.AddRtAttr(nested|unix.ETHTOOL_A_BITSET_BITS, nil).AddRtAttr(nested|unix.ETHTOOL_A_BITSET_BITS_BIT, nil)
	bit.AddRtAttr(unix.ETHTOOL_A_BITSET_BIT_NAME, nl.ZeroTerminated("tx-udp-segmentation")) // without a value: off
	request.AddData(device)
	request.AddData(wanted)
	if _, err := request.Execute(unix.NETLINK_GENERIC, 0); err != nil {
		return fmt.Errorf("ethtool: leave no segments of UDP to %s: %w", iface, err)
	}
	return nil
}

// configure gives the interface its addresses and routes.
func configure(c Config) (netlink.Link, error) {
	link, err := netlink.LinkByName(c.iface())
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", c.iface(), err)
	}
	for _, f := range c.families() {
		address := &netlink.Addr{IPNet: ipNet(f.Address)}
		if f.Address.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD // it is used at once
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return nil, fmt.Errorf("give %s %s: %w", c.iface(), f.Address, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", c.iface(), err)
	}
	if !c.routes() {
		return link, nil
	}
	for _, f := range c.families() {
		err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: f.Gateway.AsSlice()})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("route by %s: %w", f.Gateway, err)
		}
	}
	return link, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
