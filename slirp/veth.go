//go:build !hot

package slirp

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VethRequest is the message of rtnetlink(7) that makes a veth pair of any name, for whoever
// wants to know whether this kernel does.
func VethRequest() []byte {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	request.AddData(info)
	return request.Serialize()
}
