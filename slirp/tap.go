package slirp

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// connectTap makes the interface a tap, whose frames are read from and written to the descriptor that is
// returned (tuntap.rst), in the form that a packet socket has them in.
func connectTap(c Config) (*os.File, error) {
	const device = "/dev/net/tun" // the host's: the root is not changed yet
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: device, Err: err}
	}
	f := os.NewFile(uintptr(fd), device)
	if err := makeTap(c, fd); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func makeTap(c Config, fd int) error {
	request, err := unix.NewIfreq(c.iface())
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	link, err := netlink.LinkByName(c.iface())
	if err != nil {
		return fmt.Errorf("find %s: %w", c.iface(), err)
	}
	mac := c.mac()
	if err := netlink.LinkSetHardwareAddr(link, net.HardwareAddr(mac[:])); err != nil {
		return fmt.Errorf("give %s a hardware address: %w", c.iface(), err)
	}
	if err := netlink.LinkSetMTU(link, c.MTU); err != nil {
		return fmt.Errorf("give %s an MTU of %d: %w", c.iface(), c.MTU, err)
	}
	_, err = configure(c)
	return err
}
