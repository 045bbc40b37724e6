package slirp

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// connectTap makes eth0 a tap, whose frames are read from and written to the descriptor that is
// returned (tuntap.rst): one by one, and with neither segmentation nor checksums left to either
// side, for gVisor speaks virtio headers with sockets only. Large packets make up for it.
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
	request, err := unix.NewIfreq("eth0")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := netlink.LinkSetHardwareAddr(link, net.HardwareAddr(sandboxMAC[:])); err != nil {
		return fmt.Errorf("give eth0 a hardware address: %w", err)
	}
	if err := netlink.LinkSetMTU(link, c.TapMTU); err != nil {
		return fmt.Errorf("give eth0 an MTU of %d: %w", c.TapMTU, err)
	}
	return configure(c)
}
