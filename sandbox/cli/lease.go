//go:build !hot

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"sbx/sandbox"
	"sbx/sandbox/network"
)

// findNetworks makes sure, before anything is fetched, that there are those that the run is to be on.
func (r *runArgs) findNetworks() error {
	store := network.In(r.store.Dir())
	seen := map[string]bool{}
	for _, u := range r.spec.Networks {
		n, err := store.Find(u.Name)
		switch {
		case errors.Is(err, network.ErrNotFound):
			hint := "sbx network create " + u.Name + " makes it; sbx network ls lists those that there are"
			if mode := nearestMode(u.Name); mode != "" {
				hint = "did you mean " + mode + "? Or else " + hint
			}
			return &usageError{msg: "--network: " + err.Error(), hint: hint}
		case err != nil:
			return err
		case seen[n.ID]:
			return &usageError{msg: "--network: " + u.Name + ": given twice"}
		}
		seen[n.ID] = true
	}
	return nil
}

// nearestMode is what may be meant by the name of a network that is not there.
func nearestMode(name string) string {
	if near := nearest(name, []string{"host-loopback", "host_loopback", "allow_host_loopback", "loopback"}); near != "" {
		return "private:host-loopback"
	}
	return nearest(name, []string{"private", "none", "host", "slirp4netns", "pasta"})
}

// joinNetworks gives the run an address on each of its networks. Until it has left one nobody
// else gets that, nor is the network removed; without a name it leaves all.
func (r *runArgs) joinNetworks(host sandbox.Host) (leave func(name string), err error) {
	var mu sync.Mutex // the run may leave one by itself, while it ends
	leases := map[string]*network.Lease{}
	leave = func(name string) {
		mu.Lock()
		defer mu.Unlock()
		for of, l := range leases {
			if name != "" && name != of {
				continue
			}
			delete(leases, of)
			if err := l.Release(); err != nil && !errors.Is(err, network.ErrNotFound) {
				r.app.warn("%v", err)
			}
		}
	}
	store := network.In(r.store.Dir())
	for i := range r.spec.Networks {
		l, err := r.joinNetwork(store, host, i)
		if err != nil {
			leave("")
			return nil, err
		}
		leases[r.spec.Networks[i].Name] = l
	}
	return leave, nil
}

func (r *runArgs) joinNetwork(store network.Store, host sandbox.Host, i int) (*network.Lease, error) {
	u := &r.spec.Networks[i]
	n, err := store.Find(u.Name)
	if err != nil {
		return nil, err
	}
	me := network.Member{ID: host.ID, Name: cmp.Or(r.spec.Name, r.spec.Hostname, host.ID[:12]), Interface: fmt.Sprint("eth", i)}
	l, err := n.Lease(me, u.Wanted)
	if err != nil {
		return nil, err
	}
	u.Name, u.Live, u.Internal, u.DNS, u.Servers = n.Name, n.Live(), n.Internal, n.DNSEnabled, n.NetworkDNSServers
	u.MTU, _ = strconv.Atoi(n.Options["mtu"])
	for i, a := range l.Addresses {
		u.Addresses = append(u.Addresses, sandbox.UserAddress{Address: a, Gateway: n.Subnets[i].Gateway})
	}
	return l, nil
}
