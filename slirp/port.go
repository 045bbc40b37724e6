package slirp

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Port is a port of the host's that leads to one of the sandbox's, or a range of them side by
// side.
type Port struct {
	Protocol string     `json:"protocol"` // tcp, udp
	Address  netip.Addr `json:"address"`  // of the host's
	Host     uint16     `json:"host"`     // the first, at that address; 0: the kernel chooses each
	Inside   uint16     `json:"inside"`   // the first, in the sandbox
	Count    int        `json:"count"`
}

func (p Port) random() bool { return p.Host == 0 }

// nth is the i-th port of the range, as a range of one.
func (p Port) nth(i int) Port {
	p.Inside, p.Count = p.Inside+uint16(i), 1
	if !p.random() {
		p.Host += uint16(i)
	}
	return p
}

// String is ADDRESS:PORT -> PORT/PROTOCOL.
func (p Port) String() string {
	host := "random"
	if !p.random() {
		host = portRange(p.Host, p.Count)
	}
	return fmt.Sprintf("%s:%s -> %s/%s", bracketed(p.Address), host, portRange(p.Inside, p.Count), p.Protocol)
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func portRange(first uint16, count int) string {
	text := strconv.Itoa(int(first))
	if count > 1 {
		text += "-" + strconv.Itoa(int(first)+count-1)
	}
	return text
}

// Collides: the host can listen at one of them only. That an address is one family's alone, even
// the one that stands for all of it, is how Publish listens.
func (p Port) Collides(q Port) bool {
	sameAddress := p.Address == q.Address ||
		p.Address.Is4() == q.Address.Is4() && (p.Address.IsUnspecified() || q.Address.IsUnspecified())
	return p.Protocol == q.Protocol && sameAddress && !p.random() && !q.random() &&
		int(p.Host) < int(q.Host)+q.Count && int(q.Host) < int(p.Host)+p.Count
}

// Leads: port inside is one that this leads to.
func (p Port) Leads(protocol string, inside uint16) bool {
	return p.Protocol == protocol && inside >= p.Inside && int(inside) < int(p.Inside)+p.Count
}

// Chosen are the random ones among ports, each with the next of the ports that the kernel chose.
func Chosen(ports []Port, chosen []uint16) (list []Port) {
	for _, p := range ports {
		for i := 0; i < p.Count && p.random() && len(chosen) > 0; i++ {
			one := p.nth(i)
			one.Host, chosen = chosen[0], chosen[1:]
			list = append(list, one)
		}
	}
	return list
}
