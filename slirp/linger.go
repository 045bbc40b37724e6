//go:build !hot

package slirp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// closeLater makes the kernel close fd behind the back of this process, when that has ended.
// Whoever closes a packet socket last waits for a grace period of RCU (packet_release,
// net/packet/af_packet.c), ten milliseconds that the user would wait for too. So the last
// one is the collector of sockets that are only in each other's queues: one socket of a pair
// gets the other's descriptor, and fd, as a message (unix_gc, net/unix/garbage.c). Before Linux
// 6.10 that, too, works in the process that closes, and only the time is lost.
func closeLater(fd int) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	return unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(fd, pair[1]), nil, 0)
}
