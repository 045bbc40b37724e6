//go:build !hot

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"sbx/sandbox"
	"sbx/sandbox/network"
)

// networks is the store of user-defined networks.
func (a *app) networks() (network.Store, error) {
	store, err := a.store()
	if err != nil {
		return network.Store{}, err
	}
	return network.In(store.Dir()), nil
}

func defineNetworkCreate(a *app, fs *pflag.FlagSet) action {
	o := network.Options{Labels: map[string]string{}, Options: map[string]string{}}
	var subnets, gateways, ranges []string
	var ignore bool
	fs.StringArrayVar(&subnets, "subnet", nil, "")
	fs.StringArrayVar(&gateways, "gateway", nil, "")
	fs.StringArrayVar(&ranges, "ip-range", nil, "")
	fs.BoolVar(&o.IPv6, "ipv6", false, "")
	fs.BoolVar(&o.Internal, "internal", false, "")
	fs.BoolVar(&o.NoDNS, "disable-dns", false, "")
	fs.BoolVar(&ignore, "ignore", false, "")
	fs.Var(parsed(func(s string) error { return addServer(&o.Servers, s) }), "dns", "")
	fs.Var(parsed(func(s string) error { return addPair(o.Labels, s) }), "label", "")
	fs.VarP(parsed(func(s string) error { return addNetworkOption(o.Options, s) }), "opt", "o", "")
	fs.VarP(parsed(only("bridge")), "driver", "d", "")
	fs.Var(parsed(only("host-local")), "ipam-driver", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 1, "NAME"); err != nil {
			return 0, err
		}
		if len(args) == 1 {
			o.Name = args[0]
			if err := network.CheckName(o.Name); err != nil {
				return 0, &usageError{msg: err.Error()}
			}
		}
		var err error
		if o.Subnets, err = readSubnets(subnets, gateways, ranges); err != nil {
			return 0, err
		}
		return 0, a.createNetwork(o, ignore)
	}
}

func (a *app) createNetwork(o network.Options, ignore bool) error {
	store, err := a.networks()
	if err != nil {
		return err
	}
	host, err := sandbox.Networks()
	if err != nil {
		return err
	}
	n, err := store.Create(o, host)
	name := o.Name
	switch {
	case errors.Is(err, network.ErrExists) && ignore:
	case errors.Is(err, network.ErrExists):
		return &hinted{err, "sbx network inspect " + o.Name + " shows it; --ignore makes this no error"}
	case err != nil:
		hint := ""
		var fix interface{ Hint() string }
		if errors.As(err, &fix) {
			hint = fix.Hint()
		}
		return &usageError{msg: err.Error(), hint: hint}
	default:
		name = n.Name
	}
	return a.print(name + "\n")
}

func only(word string) func(string) error {
	return func(s string) error {
		if s != word {
			return fmt.Errorf("%s: there is only %s", quoteArg(s), word)
		}
		return nil
	}
}

func addServer(list *[]netip.Addr, s string) error {
	return eachWord(s, func(word string) error {
		a, err := netip.ParseAddr(word)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("%s: not an address", quoteArg(word))
		}
		*list = append(*list, a.Unmap())
		return nil
	})
}

func addPair(pairs map[string]string, s string) error {
	key, value, _ := strings.Cut(s, "=")
	if key == "" {
		return fmt.Errorf("%s: not NAME=VALUE", quoteArg(s))
	}
	pairs[key] = value
	return noControl(s)
}

// addNetworkOption reads --opt mtu=N.
func addNetworkOption(options map[string]string, s string) error {
	key, value, _ := strings.Cut(s, "=")
	if key == "com.docker.network.driver.mtu" {
		key = "mtu"
	}
	if key != "mtu" {
		return fmt.Errorf("%s: there is one option, mtu=BYTES", quoteArg(s))
	}
	if n, err := strconv.Atoi(value); err != nil || n < minNetworkMTU || n > 65535 {
		return fmt.Errorf("%s: not a number from %d to 65535", quoteArg(s), minNetworkMTU)
	}
	options[key] = value
	return nil
}

// minNetworkMTU is what IPv6 asks of a link (RFC 8200).
const minNetworkMTU = 1280

// readSubnets joins --subnet, and the --gateway and --ip-range that lie in it.
func readSubnets(subnets, gateways, ranges []string) ([]network.Subnet, error) {
	var list []network.Subnet
	for _, s := range subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, &flagError{"subnet", fmt.Errorf("%s: not a subnet like 10.89.1.0/24", quoteArg(s))}
		}
		if slices.ContainsFunc(list, func(other network.Subnet) bool { return other.Subnet.Addr().Is4() == p.Addr().Is4() }) {
			return nil, &flagError{"subnet", fmt.Errorf("%s: a network has at most one subnet of each family", quoteArg(s))}
		}
		list = append(list, network.Subnet{Subnet: p})
	}
	if len(list) == 0 && len(gateways)+len(ranges) > 0 {
		return nil, &usageError{msg: "--gateway and --ip-range need --subnet", hint: "--subnet 10.89.1.0/24 --gateway 10.89.1.254, for example"}
	}
	within := func(a netip.Addr) *network.Subnet {
		i := slices.IndexFunc(list, func(s network.Subnet) bool { return s.Subnet.Contains(a) })
		if i < 0 {
			return nil
		}
		return &list[i]
	}
	for _, s := range gateways {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, &flagError{"gateway", fmt.Errorf("%s: not an address", quoteArg(s))}
		}
		subnet := within(a)
		switch {
		case subnet == nil:
			return nil, &usageError{msg: fmt.Sprintf("--gateway: %s: not in %s", a, strings.Join(subnets, " or ")), hint: "without --gateway it is the first address of the subnet, " + list[0].Subnet.Masked().Addr().Next().String()}
		case subnet.Gateway.IsValid():
			return nil, &flagError{"gateway", fmt.Errorf("%s: %s has a gateway already, %s", a, subnet.Subnet, subnet.Gateway)}
		}
		subnet.Gateway = a
	}
	for _, s := range ranges {
		r, err := readRange(s)
		if err != nil {
			return nil, &flagError{"ip-range", err}
		}
		subnet := within(r.StartIP)
		switch {
		case subnet == nil || !subnet.Subnet.Contains(r.EndIP):
			return nil, &usageError{msg: fmt.Sprintf("--ip-range: %s: not in %s", s, strings.Join(subnets, " or ")), hint: "without --ip-range all of the subnet is for sandboxes"}
		case subnet.LeaseRange != nil:
			return nil, &flagError{"ip-range", fmt.Errorf("%s: %s has a range already", s, subnet.Subnet)}
		}
		if r.StartIP == subnet.Subnet.Addr() {
			r.StartIP = r.StartIP.Next() // the network's own
		}
		if last := network.Last(subnet.Subnet); r.EndIP.Is4() && r.EndIP == last {
			r.EndIP = last.Prev() // broadcast
		}
		subnet.LeaseRange = &r
	}
	return list, nil
}

// readRange reads a prefix, or FIRST-LAST.
func readRange(s string) (network.Range, error) {
	if p, err := netip.ParsePrefix(s); err == nil && p == p.Masked() {
		return network.Range{StartIP: p.Addr(), EndIP: network.Last(p)}, nil
	}
	first, last, _ := strings.Cut(s, "-")
	start, err1 := netip.ParseAddr(first)
	end, err2 := netip.ParseAddr(last)
	if err1 != nil || err2 != nil || start.Zone()+end.Zone() != "" || start.Is4() != end.Is4() || end.Less(start) {
		return network.Range{}, fmt.Errorf("%s: neither a prefix like 10.89.1.128/25 nor FIRST-LAST", quoteArg(s))
	}
	return network.Range{StartIP: start, EndIP: end}, nil
}

// networkRow is a network as listings and templates have it: what podman says of one beside that is
// the same for all of ours.
type networkRow struct {
	*network.Network
	NetworkInterface string            `json:"-"` // there is no bridge on this host
	Routes           []string          `json:"-"`
	IPAMOptions      map[string]string `json:"ipam_options"`
}

func newNetworkRow(n *network.Network) networkRow {
	return networkRow{Network: n, IPAMOptions: map[string]string{"driver": "host-local"}}
}

func (networkRow) headings() map[string]string { return map[string]string{"ID": "NETWORK ID"} }

func defineNetworkLs(a *app, fs *pflag.FlagSet) action {
	quiet := fs.BoolP("quiet", "q", false, "")
	noHeading := fs.BoolP("noheading", "n", false, "")
	noTrunc := fs.Bool("no-trunc", false, "")
	filters := fs.StringArrayP("filter", "f", nil, "")
	format := fs.String("format", "", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 0, ""); err != nil {
			return 0, err
		}
		list, err := a.filteredNetworks(*filters)
		if err != nil {
			return 0, err
		}
		return 0, a.printNetworks(list, *quiet, !*noHeading, *noTrunc, *format)
	}
}

func (a *app) filteredNetworks(filters []string) ([]*network.Network, error) {
	keep, err := networkFilter(filters)
	if err != nil {
		return nil, err
	}
	store, err := a.networks()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	return slices.DeleteFunc(list, func(n *network.Network) bool { return !keep(n) }), err
}

func (a *app) printNetworks(list []*network.Network, quiet, heading, noTrunc bool, format string) error {
	rows := []networkRow{}
	var lines [][]string
	var names strings.Builder
	for _, n := range list {
		if !noTrunc && format != "json" {
			short := *n
			short.ID = n.ID[:min(12, len(n.ID))]
			n = &short
		}
		rows = append(rows, newNetworkRow(n))
		lines = append(lines, []string{n.ID, n.Name, n.Driver})
		names.WriteString(n.Name + "\n")
	}
	switch {
	case quiet:
		return a.print(names.String())
	case format != "":
		return a.printFormat(format, rows, heading)
	case heading:
		return a.printTable([]string{"NETWORK ID", "NAME", "DRIVER"}, lines)
	}
	return a.printTable(nil, lines)
}

// networkFilter reads --filter KEY=VALUE, as of images: several of one key are alternatives.
func networkFilter(filters []string) (func(*network.Network) bool, error) {
	byKey := map[string][]func(*network.Network) bool{}
	for _, s := range filters {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, &usageError{msg: fmt.Sprintf("--filter: %s: not KEY=VALUE", quoteArg(s))}
		}
		key, not := strings.CutSuffix(key, "!")
		var one func(*network.Network) bool
		switch key {
		case "name":
			pattern, err := regexp.Compile(value)
			if err != nil {
				return nil, &flagError{"filter", fmt.Errorf("%s: %w", quoteArg(s), err)}
			}
			one = func(n *network.Network) bool { return pattern.MatchString(n.Name) }
		case "id":
			one = func(n *network.Network) bool { return strings.HasPrefix(n.ID, value) }
		case "driver":
			one = func(n *network.Network) bool { return n.Driver == value }
		case "label":
			name, want, hasWant := strings.Cut(value, "=")
			one = func(n *network.Network) bool {
				have, ok := n.Labels[name]
				return ok && (!hasWant || have == want)
			}
		case "until":
			limit, err := parseTime(value, time.Now())
			if err != nil {
				return nil, &flagError{"filter", err}
			}
			one = func(n *network.Network) bool { return n.Created.Before(limit) }
		default:
			return nil, &usageError{msg: fmt.Sprintf("--filter: %s: unknown filter", quoteArg(s)), hint: "name, id, label, driver, until"}
		}
		if not {
			yes := one
			one = func(n *network.Network) bool { return !yes(n) }
		}
		if key == "label" || not {
			key = s
		}
		byKey[key] = append(byKey[key], one)
	}
	return func(n *network.Network) bool {
		for _, alternatives := range byKey {
			if !slices.ContainsFunc(alternatives, func(f func(*network.Network) bool) bool { return f(n) }) {
				return false
			}
		}
		return true
	}, nil
}

// networkInspection is what sbx network inspect prints, with podman's keys.
type networkInspection struct {
	networkRow
	Containers map[string]networkMember `json:"containers"`
}

type networkMember struct {
	Name       string                      `json:"name"`
	Interfaces map[string]networkInterface `json:"interfaces"`
}

type networkInterface struct {
	Subnets []networkAddress `json:"subnets"`
}

type networkAddress struct {
	IPNet   netip.Prefix `json:"ipnet"`
	Gateway netip.Addr   `json:"gateway"`
}

func defineNetworkInspect(a *app, fs *pflag.FlagSet) action {
	format := fs.StringP("format", "f", "json", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 1, -1, "NETWORK"); err != nil {
			return 0, err
		}
		store, err := a.networks()
		if err != nil {
			return 0, err
		}
		all := []networkInspection{}
		var missing []error
		for _, name := range args {
			n, err := store.Find(name)
			if err != nil {
				missing = append(missing, listed(err))
				continue
			}
			i, err := inspectNetwork(n)
			if err != nil {
				return 0, err
			}
			all = append(all, i)
		}
		if len(all) == 0 {
			return 0, errors.Join(missing...)
		}
		return 0, errors.Join(append([]error{a.printFormat(*format, all, false)}, missing...)...)
	}
}

func inspectNetwork(n *network.Network) (networkInspection, error) {
	i := networkInspection{newNetworkRow(n), map[string]networkMember{}}
	members, err := n.Members()
	for _, m := range members {
		var in networkInterface
		for _, address := range m.Addresses {
			for _, s := range n.Subnets {
				if s.Subnet.Contains(address.Addr()) {
					in.Subnets = append(in.Subnets, networkAddress{address, s.Gateway})
				}
			}
		}
		i.Containers[m.ID] = networkMember{m.Name, map[string]networkInterface{m.Interface: in}}
	}
	return i, err
}

func defineNetworkRm(a *app, fs *pflag.FlagSet) action {
	force := fs.BoolP("force", "f", false, "")
	fs.IntP("time", "t", 10, "") // for those that podman ends
	return func(args []string) (int, error) {
		if err := wantArgs(args, 1, -1, "NETWORK"); err != nil {
			return 0, err
		}
		store, err := a.networks()
		if err != nil {
			return 0, err
		}
		var errs []error
		for _, name := range args {
			n, err := store.Find(name)
			if errors.Is(err, network.ErrNotFound) && *force {
				continue
			}
			if err == nil {
				err = store.Remove(n)
			}
			if err == nil {
				err = a.print(n.Name + "\n")
			}
			if errors.Is(err, network.ErrNotFound) {
				err = &missingNetwork{listed(err)}
			}
			errs = append(errs, err)
		}
		slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(rmStatus(b), rmStatus(a)) })
		return 0, errors.Join(errs...)
	}
}

// missingNetwork is one that cannot be removed; the exit status is podman's for that.
type missingNetwork struct{ error }

func (e *missingNetwork) Unwrap() error   { return e.error }
func (e *missingNetwork) ExitStatus() int { return 1 }

// rmStatus is what podman ends with for err: of several, the highest counts.
func rmStatus(err error) int {
	var status interface{ ExitStatus() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return status.ExitStatus()
	}
	return statusFailed
}

// listed says where the names are that might have been meant.
func listed(err error) error {
	if errors.Is(err, network.ErrNotFound) {
		return &hinted{err, "sbx network ls lists those that there are"}
	}
	return err
}

func defineNetworkPrune(a *app, fs *pflag.FlagSet) action {
	filters := fs.StringArray("filter", nil, "")
	fs.BoolP("force", "f", false, "") // nothing is asked
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 0, ""); err != nil {
			return 0, err
		}
		list, err := a.filteredNetworks(*filters)
		if err != nil {
			return 0, err
		}
		store, err := a.networks()
		if err != nil {
			return 0, err
		}
		var errs []error
		for _, n := range list {
			err := store.Remove(n)
			if _, used := errors.AsType[*network.InUseError](err); used || errors.Is(err, network.ErrNotFound) {
				continue
			}
			errs = append(errs, cmp.Or(err, a.print(n.Name+"\n")))
		}
		return 0, errors.Join(errs...)
	}
}

func defineNetworkExists(a *app, fs *pflag.FlagSet) action {
	return func(args []string) (int, error) {
		if err := wantArgs(args, 1, 1, "NETWORK"); err != nil {
			return 0, err
		}
		store, err := a.networks()
		if err != nil {
			return 0, err
		}
		_, err = store.Find(args[0])
		if errors.Is(err, network.ErrNotFound) {
			return 1, nil
		}
		return 0, err
	}
}

// networkNames are for completion.
func (a *app) networkNames() completion {
	list, _ := a.filteredNetworks(nil)
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	return choice(names...)
}
