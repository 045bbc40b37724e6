// Package network keeps user-defined networks: what they are, and who has which address.
//
//	Store     the directory of all of them           network.go
//	Create    decides and writes a definition        create.go, subnets.go
//	Lease     gives a run its addresses              lease.go
//
// A network is a directory of the caller's, of its name:
//
//	NAME/network.json       the definition, which never changes
//	NAME/live               its lock is held by whoever leases, joins or removes; and in it
//	NAME/live/members/ID    a run that is on the network, which holds a lock on it while it lives
//	NAME/live/leases/ADDR   an address that is leased, by host-local's allocator
//	NAME/live/socket        where the network's sbx-net listens, while it has members
//
// What a killed run has left is given back by whoever opens the network next. Nothing here
// makes a network: package slirp does, in sbx-net.
package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Network is the definition of one, in podman's words: templates of its users name the fields, and
// programs the keys.
type Network struct {
	Name              string            `json:"name"`
	ID                string            `json:"id"`
	Driver            string            `json:"driver"`
	Created           time.Time         `json:"created"`
	Subnets           []Subnet          `json:"subnets"`
	IPv6Enabled       bool              `json:"ipv6_enabled"`
	Internal          bool              `json:"internal"` // nothing leads out
	DNSEnabled        bool              `json:"dns_enabled"`
	NetworkDNSServers []netip.Addr      `json:"network_dns_servers,omitempty"` // asked in the place of the host's
	Labels            map[string]string `json:"labels"`
	Options           map[string]string `json:"options"`

	dir string
}

// Subnet is the network of one family: a Network has one or two.
type Subnet struct {
	Subnet     netip.Prefix `json:"subnet"`
	Gateway    netip.Addr   `json:"gateway"`
	LeaseRange *Range       `json:"lease_range,omitempty"` // nil is all of it
}

// Range is what addresses are leased from, both ends included.
type Range struct {
	StartIP netip.Addr `json:"start_ip"`
	EndIP   netip.Addr `json:"end_ip"`
}

// String is for templates that print all of a Subnet.
func (r Range) String() string { return r.StartIP.String() + "-" + r.EndIP.String() }

// ErrNotFound: there is no network of that name.
var ErrNotFound = errors.New("no such network")

const maxDefinition = 1 << 20

// Store is the directory in which networks are kept.
type Store struct{ dir string }

// In is the store in data, sbx's data directory.
func In(data string) Store { return Store{filepath.Join(data, "networks")} }

// Live is the directory of what there is only while the network has members.
func (n *Network) Live() string { return filepath.Join(n.dir, "live") }

// CheckName accepts what may be the name of a network.
func CheckName(name string) error {
	if slices.Contains([]string{"none", "host", "private", "bridge", "default", "podman", "container", "ns", "slirp4netns", "pasta"}, name) {
		return fmt.Errorf("%s: that name has a meaning of its own for --network", name)
	}
	letter := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' }
	ok := 0 < len(name) && len(name) <= 128 && letter(name[0])
	for i := range len(name) {
		ok = ok && (letter(name[i]) || strings.IndexByte("_.-", name[i]) >= 0)
	}
	if !ok {
		return fmt.Errorf("%q: not a name of letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// List returns every network, by name.
func (s Store) List() ([]*Network, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []*Network
	for _, e := range entries {
		if CheckName(e.Name()) != nil {
			continue // one that is being made, or removed
		}
		n, err := s.read(e.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// Find returns a network by its name, or by the beginning of its id.
func (s Store) Find(name string) (*Network, error) {
	if CheckName(name) == nil {
		n, err := s.read(name)
		if !errors.Is(err, ErrNotFound) {
			return n, err
		}
	}
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var found []*Network
	for _, n := range list {
		if name != "" && strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("network %s: %w", printable(name), ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("network %s: several ids begin so", printable(name))
}

func printable(name string) string {
	if CheckName(name) != nil && strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Sprintf("%q", name)
	}
	return name
}

func (s Store) read(name string) (*Network, error) {
	n := &Network{dir: filepath.Join(s.dir, name)}
	f, err := os.OpenFile(filepath.Join(n.dir, "network.json"), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("network %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDefinition))
	if err == nil {
		err = json.Unmarshal(text, n)
	}
	if err == nil {
		err = n.check()
	}
	if err != nil {
		return nil, fmt.Errorf("network %s: %s: %w", name, f.Name(), err)
	}
	n.Name = name
	return n, nil
}

// check: the file is the caller's, and may have been edited.
func (n *Network) check() error {
	if len(n.Subnets) == 0 || len(n.Subnets) > 2 {
		return fmt.Errorf("%d subnets", len(n.Subnets))
	}
	for i := range n.Subnets {
		if err := n.Subnets[i].check(); err != nil {
			return err
		}
	}
	if len(n.Subnets) == 2 && n.Subnets[0].Subnet.Addr().Is4() == n.Subnets[1].Subnet.Addr().Is4() {
		return errors.New("a network has at most one subnet of each family")
	}
	return nil
}

// write makes the network's directory, whole or not at all.
func (n *Network) write(s Store) error {
	text, err := json.MarshalIndent(n, "", "    ")
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(s.dir, ".new-")
	if err != nil {
		return err
	}
	n.dir = filepath.Join(s.dir, n.Name)
	for _, dir := range []string{"live", "live/members", "live/leases"} {
		if err == nil {
			err = os.Mkdir(filepath.Join(tmp, dir), 0o700)
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(tmp, "network.json"), append(text, '\n'), 0o600)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, n.dir, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		os.RemoveAll(tmp)
	}
	return err
}

// lock takes the lock of all networks, whose subnets must not overlap, and removes what those have left
// who were killed while they held it.
func (s Store) lock() (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := lockFile(s.dir, unix.O_DIRECTORY, unix.LOCK_EX)
	if err == nil && f == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	for _, pattern := range []string{".new-*", ".gone-*"} {
		left, _ := filepath.Glob(filepath.Join(s.dir, pattern))
		for _, dir := range left {
			if err := os.RemoveAll(dir); err != nil {
				f.Close()
				return nil, err
			}
		}
	}
	return f, nil
}

// lockFile opens and locks; it returns nil for what is gone by then.
func lockFile(path string, flags, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err != nil || st.Nlink == 0 {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockLive takes the lock of one network.
func (n *Network) lockLive() (*os.File, error) {
	f, err := lockFile(n.Live(), unix.O_DIRECTORY, unix.LOCK_EX)
	if err == nil && f == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	return f, nil
}

// InUseError: a network that has members cannot be removed.
type InUseError struct {
	Name    string
	Members int
}

func (e *InUseError) Error() string {
	if e.Members == 1 {
		return fmt.Sprintf("network %s: a sandbox is on it", e.Name)
	}
	return fmt.Sprintf("network %s: %d sandboxes are on it", e.Name, e.Members)
}

// ExitStatus is podman's for that.
func (e *InUseError) ExitStatus() int { return 2 }

// Hint says what helps.
func (e *InUseError) Hint() string {
	return "it can be removed when they have ended; sbx ends none of them"
}

// Remove removes a network that no sandbox is on.
func (s Store) Remove(n *Network) error {
	all, err := s.lock()
	if err != nil {
		return err
	}
	defer all.Close()
	live, err := n.lockLive()
	if err != nil {
		return err
	}
	defer live.Close()
	members, err := n.sweep()
	if err != nil {
		return err
	}
	if len(members) > 0 {
		return &InUseError{n.Name, len(members)}
	}
	gone := filepath.Join(s.dir, ".gone-"+n.ID)
	if err := os.Rename(n.dir, gone); err != nil {
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	return os.RemoveAll(gone)
}
