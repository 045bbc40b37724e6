//go:build !hot

package sandbox

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"sbx/slirp"
	"sbx/userns"
)

// NoteLink notes in the plan what the link of a private network will be on this host: it tries
// what that takes, in namespaces that are gone when it returns. A run finds out by itself.
func (p *Plan) NoteLink() {
	if p.Link == nil {
		return
	}
	switch refusal, err := tryVeth(); {
	case err != nil: // no namespaces: the run has worse to tell
	case refusal != nil:
		p.Notes = append(p.Notes, "the network's link is a tap: "+refusal.Error())
	default:
		p.Notes = append(p.Notes, "the network's link is a veth pair and a packet socket")
	}
}

// tryVeth makes a packet socket and a veth pair, and returns what refuses them.
func tryVeth() (refusal, err error) {
	request, reply := slirp.VethRequest(), make([]byte, 4<<10)
	c := new(userns.Program)
	c.Do("packet socket", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	netlink := c.Do("netlink socket", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	c.Do("make veth pair", unix.SYS_SENDTO, netlink, request, len(request), 0, 0, 0)
	c.Do("make veth pair", unix.SYS_READ, netlink, reply, len(reply))
	child, err := c.Spawn(unix.CLONE_NEWUSER | unix.CLONE_NEWNET)
	if err != nil {
		return nil, err
	}
	defer unix.Close(child.PidFD)
	refusal = child.Executed()
	if _, err := child.Wait(); err != nil || refusal != nil {
		return refusal, err
	}
	const answer = unix.SizeofNlMsghdr // struct nlmsgerr begins with it
	if errno := -int32(binary.NativeEndian.Uint32(reply[answer:])); errno != 0 {
		return fmt.Errorf("make veth pair: %w", unix.Errno(errno)), nil
	}
	return nil, nil
}
