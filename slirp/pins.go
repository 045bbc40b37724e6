//go:build !hot

package slirp

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// An address is let out to for as long as it was given as the answer for a name: at least
// pinLeast, for programs ask once and connect later, and always for pinGrace longer.
const (
	pinLeast = time.Minute
	pinMost  = 24 * time.Hour
	pinGrace = time.Minute
	maxPins  = 4096 // addresses of names; beyond, what ends soonest is forgotten
)

// pins are the addresses that allowed names have led to.
type pins struct {
	now   func() time.Time
	hosts []Host // hold always

	mu   sync.Mutex
	ends map[netip.Addr]map[string]time.Time
	n    int
}

func newPins(hosts []Host) *pins {
	return &pins{now: time.Now, hosts: hosts, ends: map[netip.Addr]map[string]time.Time{}}
}

// add notes that name has this address. An earlier answer that holds longer still does.
func (p *pins) add(name string, a netip.Addr, ttl time.Duration) {
	end := p.now().Add(min(max(ttl, pinLeast), pinMost) + pinGrace)
	p.mu.Lock()
	defer p.mu.Unlock()
	a = a.Unmap()
	if before, known := p.ends[a][name]; known {
		if end.After(before) {
			p.ends[a][name] = end
		}
		return
	}
	if p.n >= maxPins {
		p.makeRoom()
	}
	if p.ends[a] == nil {
		p.ends[a] = map[string]time.Time{}
	}
	p.ends[a][name] = end
	p.n++
}

// makeRoom forgets what has ended, and at least one.
func (p *pins) makeRoom() {
	now := p.now()
	var soonest time.Time
	var address netip.Addr
	var name string
	for a, names := range p.ends {
		for n, end := range names {
			if !end.After(now) {
				p.remove(a, n)
			} else if name == "" || end.Before(soonest) {
				address, name, soonest = a, n, end
			}
		}
	}
	if p.n >= maxPins {
		p.remove(address, name)
	}
}

func (p *pins) remove(a netip.Addr, name string) {
	delete(p.ends[a], name)
	p.n--
	if len(p.ends[a]) == 0 {
		delete(p.ends, a)
	}
}

// names are those that this address was an answer for.
func (p *pins) names(a netip.Addr) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for name, end := range p.ends[a] {
		if end.After(now) {
			names = append(names, name)
		}
	}
	for _, h := range p.hosts {
		if h.Address == a && !slices.Contains(names, h.Name) {
			names = append(names, h.Name)
		}
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// addresses are those of a name. What is in /etc/hosts goes before what a resolver says.
func (p *pins) addresses(name string) (addresses []netip.Addr) {
	for _, h := range p.hosts {
		if h.Name == name {
			addresses = append(addresses, h.Address)
		}
	}
	if addresses != nil {
		return addresses
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for a, names := range p.ends {
		if end, known := names[name]; known && end.After(now) {
			addresses = append(addresses, a)
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses
}
