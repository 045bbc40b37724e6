package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
	"golang.org/x/sys/unix"
)

// Lease is what a run has of a network, for as long as the process lives that made it.
type Lease struct {
	Addresses []netip.Prefix // each with the length of its network

	network *Network
	id      string
	lock    *os.File
}

// Member is a run that is on a network.
type Member struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Interface string         `json:"interface"`
	Addresses []netip.Prefix `json:"addresses"`
}

// device stands for the interface in the allocator's files: a run has one on each network.
const device = "eth"

// Lease gives the run m an address of each subnet: those that are wanted, or the next ones that are
// free.
func (n *Network) Lease(m Member, wanted []netip.Addr) (*Lease, error) {
	live, err := n.lockLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	if _, err := n.sweep(); err != nil {
		return nil, err
	}
	l := &Lease{network: n, id: m.ID}
	if l.lock, err = os.OpenFile(n.member(m.ID), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	err = unix.Flock(int(l.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = l.allocate(wanted)
	}
	if err == nil {
		m.Addresses = l.Addresses
		err = json.NewEncoder(l.lock).Encode(m)
	}
	if err != nil {
		l.giveBack()
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	return l, nil
}

func (n *Network) member(id string) string { return filepath.Join(n.Live(), "members", id) }

// allocate asks host-local.
func (l *Lease) allocate(wanted []netip.Addr) error {
	store, err := disk.New("leases", l.network.Live())
	if err != nil {
		return err
	}
	defer store.Close()
	for _, w := range wanted {
		if err := l.network.refusal(w); err != nil {
			return err
		}
	}
	for i, s := range l.network.Subnets {
		r := s.leases()
		var address net.IP
		if j := slices.IndexFunc(wanted, s.Subnet.Contains); j >= 0 {
			r, address = Range{wanted[j], wanted[j]}, wanted[j].AsSlice() // a lease range binds only those who take what comes
			if l.network.leased(wanted[j]) {
				return fmt.Errorf("%s: another sandbox has that address", wanted[j])
			}
		}
		set := allocator.RangeSet{{
			RangeStart: r.StartIP.AsSlice(), RangeEnd: r.EndIP.AsSlice(), Gateway: s.Gateway.AsSlice(),
			Subnet: types.IPNet{IP: s.Subnet.Addr().AsSlice(), Mask: net.CIDRMask(s.Subnet.Bits(), s.Subnet.Addr().BitLen())},
		}}
		if err := set.Canonicalize(); err != nil {
			return err
		}
		got, err := allocator.NewIPAllocator(&set, store, i).Get(l.id, device, address)
		if err != nil && address == nil {
			return fmt.Errorf("no address of %s is free", s.Subnet)
		}
		if err != nil {
			return err
		}
		a, _ := netip.AddrFromSlice(got.Address.IP)
		l.Addresses = append(l.Addresses, netip.PrefixFrom(a.Unmap(), s.Subnet.Bits()))
	}
	return nil
}

func (n *Network) leased(a netip.Addr) bool {
	_, err := os.Lstat(disk.GetEscapedPath(filepath.Join(n.Live(), "leases"), net.IP(a.AsSlice()).String()))
	return err == nil
}

// Release gives the addresses back.
func (l *Lease) Release() error {
	live, err := l.network.lockLive()
	if err != nil {
		l.lock.Close()
		return err
	}
	defer live.Close()
	return l.giveBack()
}

func (l *Lease) giveBack() error {
	defer l.lock.Close()
	return l.network.giveBack(l.id)
}

// giveBack needs the network's lock. The member's own file goes last: it leads to the rest.
func (n *Network) giveBack(id string) error {
	store, err := disk.New("leases", n.Live())
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.ReleaseByID(id, device); err != nil {
		return err
	}
	if err := os.Remove(n.member(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweep gives back what killed runs have left, and returns who is on the network. It needs the network's lock.
func (n *Network) sweep() ([]Member, error) {
	entries, err := os.ReadDir(filepath.Join(n.Live(), "members"))
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	var alive []Member
	for _, e := range entries {
		lock, err := lockFile(n.member(e.Name()), 0, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == unix.EWOULDBLOCK:
			alive = append(alive, n.readMember(e.Name()))
		case err != nil:
			return nil, fmt.Errorf("network %s: %w", n.Name, err)
		case lock != nil:
			err := n.giveBack(e.Name())
			lock.Close()
			if err != nil {
				return nil, fmt.Errorf("network %s: %w", n.Name, err)
			}
		}
	}
	return alive, n.sweepLeases()
}

// sweepLeases gives back addresses of nobody: whoever is killed while host-local writes such a file
// leaves an empty one.
func (n *Network) sweepLeases() error {
	dir := filepath.Join(n.Live(), "leases")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		id, _, _ := strings.Cut(string(text), disk.LineBreak)
		if _, err := os.Lstat(n.member(filepath.Base(id))); id != "" && err == nil {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	return nil
}

func (n *Network) readMember(id string) Member {
	m := Member{}
	if f, err := os.Open(n.member(id)); err == nil {
		text, _ := io.ReadAll(io.LimitReader(f, maxDefinition))
		f.Close()
		json.Unmarshal(text, &m)
	}
	m.ID = id
	return m
}

// Members are the runs that are on the network.
func (n *Network) Members() ([]Member, error) {
	live, err := n.lockLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	return n.sweep()
}
