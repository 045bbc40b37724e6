//go:build !hot

package slirp

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A way to somewhere may take less than the link: the host's kernel knows, by its routes and by
// what routers have said. It refuses a datagram that is too large (EMSGSIZE), and the sandbox is
// told as a router would tell it; so it sends smaller ones, or fragments. Those come out of the stack
// whole and as large as before, and so whoever has been told is believed: the host's kernel
// makes fragments again.

const (
	maxNarrow  = 1024            // ways that are remembered
	narrowTime = 5 * time.Minute // Linux itself believes what it is told for ten
)

// narrow are the destinations that the sandbox has been told about.
type narrow struct {
	mu   sync.Mutex
	told map[netip.Addr]time.Time
}

func (n *narrow) knows(dst netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, ok := n.told[dst]
	return ok && time.Since(t) < narrowTime
}

func (n *narrow) add(dst netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told == nil || len(n.told) >= maxNarrow {
		n.told = map[netip.Addr]time.Time{}
	}
	n.told[dst] = time.Now()
}

// wayOut is what a flow of UDP does about the way to dst.
type wayOut struct {
	outside *net.UDPConn
	link    int // bytes of a packet
	dst     netip.Addr
	narrow  *narrow
	tell    func(mtu int)
}

// begin has the kernel refuse what is too large, if nobody has been told.
func (w *wayOut) begin() {
	if !w.narrow.knows(w.dst) {
		w.discover(unix.IP_PMTUDISC_DO)
	}
}

// tooLarge is called when it has refused n bytes. What the sandbox has sent in one packet is
// lost, and told; what it has sent in fragments is sent again, as it is.
func (w *wayOut) tooLarge(b []byte) {
	mtu, err := w.mtu()
	if err != nil {
		return
	}
	w.discover(unix.IP_PMTUDISC_WANT)
	if len(b)+udpOverhead(w.dst) > w.link {
		w.outside.Write(b)
		return
	}
	w.narrow.add(w.dst)
	w.tell(mtu)
}

func udpOverhead(dst netip.Addr) int {
	if dst.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

func (w *wayOut) discover(how int) {
	w.control(func(fd int) error {
		if w.dst.Is4() {
			return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, how)
		}
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, how) // the same numbers
	})
}

func (w *wayOut) mtu() (mtu int, err error) {
	err = w.control(func(fd int) (err error) {
		if w.dst.Is4() {
			mtu, err = unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU)
		} else {
			mtu, err = unix.GetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU)
		}
		return err
	})
	return mtu, err
}

func (w *wayOut) control(do func(fd int) error) error {
	raw, err := w.outside.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
