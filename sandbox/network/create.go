package network

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Options are what a network is asked to be. The zero value is one with a subnet that is free.
type Options struct {
	Name     string // "" is made up
	Subnets  []Subnet
	IPv6     bool // beside IPv4
	Internal bool
	NoDNS    bool // members are not found by name
	Servers  []netip.Addr
	Labels   map[string]string
	Options  map[string]string
}

// ErrExists: the name is taken.
var ErrExists = errors.New("it exists already")

// Create makes a network. host are the networks that this host is in: a sandbox could not
// reach those if its own were among them.
func (s Store) Create(o Options, host []netip.Prefix) (*Network, error) {
	lock, err := s.lock()
	if err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	defer lock.Close()
	others, err := s.List()
	if err != nil {
		return nil, err
	}
	n := &Network{
		Name: o.Name, Driver: "bridge", Created: time.Now().Round(0), Subnets: o.Subnets,
		Internal: o.Internal, DNSEnabled: !o.NoDNS, NetworkDNSServers: o.Servers, Labels: o.Labels, Options: o.Options,
	}
	if n.Name == "" {
		n.Name = unusedName(others)
	}
	if err := CheckName(n.Name); err != nil {
		return nil, err
	}
	if find(others, n.Name) != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, ErrExists)
	}
	random := make([]byte, 32+7)
	if _, err := unix.Getrandom(random, 0); err != nil {
		return nil, fmt.Errorf("getrandom: %w", err)
	}
	n.ID = hex.EncodeToString(random[:32])
	if err := n.choose(o.IPv6, random[32:], others, host); err != nil {
		return nil, err
	}
	if err := n.write(s); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = ErrExists
		}
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	return n, nil
}

func find(list []*Network, name string) *Network {
	for _, n := range list {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func unusedName(taken []*Network) string {
	for i := 1; ; i++ {
		if name := fmt.Sprint("sbx", i); find(taken, name) == nil {
			return name
		}
	}
}

// choose completes the subnets, and holds them against the others'.
func (n *Network) choose(ipv6 bool, random []byte, others []*Network, host []netip.Prefix) error {
	var theirs []netip.Prefix
	for _, o := range others {
		for _, s := range o.Subnets {
			theirs = append(theirs, s.Subnet)
		}
	}
	var has4, has6 bool
	for i := range n.Subnets {
		s := &n.Subnets[i]
		if err := checkPrefix(s.Subnet); err != nil {
			return err
		}
		has4, has6 = has4 || s.Subnet.Addr().Is4(), has6 || s.Subnet.Addr().Is6()
		for _, o := range others {
			for _, taken := range o.Subnets {
				if taken.Subnet.Overlaps(s.Subnet) {
					return fmt.Errorf("subnet %s: it overlaps %s of network %s", s.Subnet, taken.Subnet, o.Name)
				}
			}
		}
		if other, ok := overlap(s.Subnet, host); ok {
			return fmt.Errorf("subnet %s: it overlaps %s, which this host is in", s.Subnet, other)
		}
	}
	if !has4 && !has6 {
		p, err := free(append(theirs, host...))
		if err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, Subnet{Subnet: p})
	}
	if ipv6 && !has6 {
		n.Subnets = append(n.Subnets, Subnet{Subnet: local(random)})
	}
	n.IPv6Enabled = has6 || ipv6
	for i := range n.Subnets {
		if s := &n.Subnets[i]; !s.Gateway.IsValid() {
			s.Gateway = s.Subnet.Addr().Next()
		}
	}
	return n.check()
}
