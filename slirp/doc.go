// Package slirp is the network of a sandbox: a TCP/IP stack in user space, between a link
// into the sandbox and sockets of the host's.
//
//	Config    the addresses at both ends              config.go
//	Connect   makes the link, inside the sandbox      link.go, tap.go
//	Stack     answers on it, outside                  stack.go
//	Serve     is the process that does, sbx-net       serve.go, control.go
//
// # How a packet goes
//
//	in the sandbox's net namespace    eth0, one end of a veth pair
//	in one that nobody enters         the other end, and a packet socket on it
//	in sbx-net, beside sbx            endpoint.go and frame.go read that socket, and Stack terminates every
//	                                  flow: tcp.go, udp.go, icmp.go; dns.go for the resolver's address
//	in the host's namespaces          an ordinary socket of the caller's for each flow
//
// Connect runs in the sandbox's first process, as root of its user namespace; the packet
// socket's descriptor is all that leaves the sandbox. Nothing here needs root of the host,
// /dev/net/tun, or another program. Where the host refuses a packet socket or a veth pair, there
// is a tap in their place, for which it must have /dev/net/tun.
//
// # A network of several
//
//	members.go    an sbx-net for all of them: who comes, who leaves
//	switch.go     passes frames between their packet sockets, and nothing that is not from its sender
//	gateway.go    a member's end of its own Stack
//	names.go      answers with their names
//	aside.go      and with those of further networks that one sandbox is on
//
// # How a client gets in
//
//	in the host's namespaces          a socket that listens, at each published port: publish.go
//	in the sandbox's net namespace    TCP: a socket that sbx-init makes on request, with the client's
//	                                  address, connected to the server: inside.go; and join.go copies
//	                                  UDP: packets from the client's address by way of eth0: publishudp.go
//
// # What is reachable
//
// What the caller could reach, but not the host itself: reach.go asks the kernel, whenever
// something is dialled, whether an address is one of the host's, and refuses those, loopback,
// and what is only meaningful on the host's own links, as the metadata service of a cloud is. Nor
// is anybody outside who has an address in one of the caller's own networks (Config.Others).
//
// With rules (Config.Policy), policy.go asks package egress about each flow before it is dialled:
//
//	answer.go       answers questions for allowed names alone, of messages that are made anew
//	pins.go         and keeps which addresses were answered for which names, and until when
//	firstbytes.go   reads by which name a flow to port 80 or 443 goes
//	netlog.go       tells of each flow and each question
//
// # What bounds it
//
// Flows are counted, and beyond the limits of stack.go, or of descriptors.go, new ones are refused; what waits in
// the stack comes out of what room.go has for all flows; buffers have a size; a
// flow that stands still is forgotten in its time. Pins have a number, first bytes a length and a time,
// and lines of the log that nobody takes are counted, not kept.
package slirp
