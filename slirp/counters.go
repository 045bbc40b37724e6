//go:build !hot

package slirp

import (
	"fmt"
	"os"
	"strings"
)

// Counters tell what a Stack has refused or dropped, and why.
type Counters struct {
	TCP, UDP, Pings     int64 // flows beyond the limits
	Questions           int64 // flows to the resolver, the same
	Clients, UDPClients int64 // of published ports, the same
	HalfOpen            int64 // connections that were asked for while too many were not there yet
	Malformed           int64 // packets
	Foreign             int64 // frames to a network of several, from no address of the sandbox's
	Denied              int64 // flows, by the rules, or to what is nobody's business
	DeniedNames         int64 // questions, by the rules
	Unlogged            int64 // lines that the log had no time for, and has not told of yet
}

// Counters returns what there has been so far.
func (s *Stack) Counters() Counters {
	stats := s.ip.Stats()
	c := Counters{
		TCP: s.tcps.refusals.Load() + s.unnamed.refusals.Load(), UDP: s.udps.refusals.Load(), Pings: s.pings.refusals.Load(),
		Questions: s.questions.refusals.Load() + s.askers.refusals.Load(),
		Clients:   s.clients.refusals.Load(), UDPClients: s.udpClients.refusals.Load(),
		HalfOpen:  int64(stats.TCP.ForwardMaxInFlightDrop.Value()),
		Malformed: int64(stats.IP.MalformedPacketsReceived.Value() + stats.ARP.MalformedPacketsReceived.Value() + stats.UDP.MalformedPacketsReceived.Value()),
		Denied:    s.denied.Load(), DeniedNames: s.deniedNames.Load(),
	}
	if s.link != nil {
		c.Malformed += s.link.malformed.Load()
	}
	if s.log != nil {
		c.Unlogged = s.log.lost.Load()
	}
	return c
}

// String names what there has been any of.
func (c Counters) String() string {
	var list []string
	for _, one := range []struct {
		n    int64
		what string
	}{
		{c.TCP, "connections out too many"}, {c.UDP, "flows of UDP out too many"}, {c.Pings, "pings too many"},
		{c.Questions, "flows to the resolver too many"},
		{c.Clients, "connections to published ports too many"}, {c.UDPClients, "clients of published UDP ports too many"},
		{c.HalfOpen, "half-open connections too many"}, {c.Malformed, "malformed packets"}, {c.Foreign, "frames from a foreign address"},
		{c.Denied, "flows denied"}, {c.DeniedNames, "names denied"}, {c.Unlogged, "lines missing in the log"},
	} {
		if one.n > 0 {
			list = append(list, fmt.Sprintf("%s: %d", one.what, one.n))
		}
	}
	if list == nil {
		return "nothing was refused or dropped"
	}
	return strings.Join(list, "; ")
}

// tell is the last that sbx hears, if it wants to.
func (c Counters) tell(control *os.File) { Send(control, Reply{Counts: c.String()}, nil) }
