package cli

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"sbx/sandbox"
	"sbx/slirp/egress"
)

func (a *runArgs) setNetwork(s string) error {
	mode, options, hasOptions := strings.Cut(s, ":")
	switch mode {
	case "": // of an unset variable: whoever meant none would have the whole way out
		return &usageError{msg: quoteArg(s) + ": not a network", hint: "without the flag it is private, which leads out; --network none does not"}
	case "bridge", "podman", "default": // podman's and docker's by default: one sandbox alone, with the way out
		mode = "private"
	case "none", "host", "private", "slirp4netns", "pasta":
	case "container":
		if err := checkName(options); err != nil {
			return err
		}
		mode, hasOptions = s, false
	case "ns":
		path, err := filepath.Abs(options)
		if options == "" || err != nil {
			return &usageError{msg: quoteArg(s) + ": not ns:PATH", hint: "ns:/proc/PID/ns/net is that of a process"}
		}
		mode, hasOptions = "ns:"+path, false
	default:
		return a.addNetwork(s)
	}
	if len(a.spec.Networks) > 0 {
		return alone(mode, a.spec.Networks[0].Name)
	}
	if a.spec.Network != "" && a.spec.Network != mode {
		return &usageError{msg: fmt.Sprintf("%s: already %s", mode, a.spec.Network), hint: "a sandbox has one of these: write one --network"}
	}
	a.spec.Network = mode
	switch {
	case !hasOptions:
		return nil
	case mode == "private", mode == "slirp4netns":
		return a.setNetworkOptions(mode, options)
	case mode == "pasta":
		return a.setPastaArgs(options)
	}
	return fmt.Errorf("%s: %s has no options", quoteArg(s), mode)
}

// alone: only networks of the user's own go together.
func alone(mode, own string) error {
	e := &usageError{msg: fmt.Sprintf("%s: not beside %s, a network of your own", mode, own), hint: "--network " + own + " alone"}
	if mode == "private" {
		e.hint += " leads out of the sandbox, too, unless the network is internal"
	}
	return e
}

// addAllow reads a rule. An empty one is none: whoever meant it would let everything out.
func (a *runArgs) addAllow(s string) (err error) {
	a.spec.Allow, err = addRule(a.spec.Allow, s)
	return err
}

func (a *runArgs) addDeny(s string) (err error) {
	a.spec.Deny, err = addRule(a.spec.Deny, s)
	return err
}

// addRule reads several between commas, too, as other flags do.
func addRule(rules []egress.Rule, s string) ([]egress.Rule, error) {
	words := strings.Split(s, ",")
	for i, word := range words {
		if word == "" && len(words) > 1 {
			where := "before"
			if i > 0 {
				where = "after"
			}
			return nil, &usageError{msg: fmt.Sprintf("%q: the rule %s a comma is empty", s, where), hint: "between commas there are several rules; one alone has none"}
		}
		r, err := egress.Parse(word)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (a *runArgs) setNetLog(s string) (err error) {
	if s == "" || s == "-" {
		return &usageError{msg: quoteArg(s) + ": not a file", hint: "--net-log /dev/stderr writes to stderr"}
	}
	a.spec.NetLog, err = filepath.Abs(s)
	return err
}

// setName reads the name of the sandbox.
func (a *runArgs) setName(s string) error {
	a.spec.Name = s
	return checkName(s)
}

// checkName accepts what podman and docker do, and what may be a file's name.
func checkName(s string) error {
	if s == "" || len(s) > 128 || !isAlnum(s[0]) {
		return fmt.Errorf("%s: not a name of a sandbox", quoteArg(s))
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("%s: not a name of a sandbox", quoteArg(s))
		}
	}
	return nil
}

// namespace checks a namespace that is private or the host's.
func namespace(s string) (string, error) { return oneOf(s, "private", "host") }

func ipcNamespace(s string) (string, error) { return oneOf(s, "private", "host", "shareable", "none") }

func oneOf(s string, modes ...string) (string, error) {
	if slices.Contains(modes, s) {
		return s, nil
	}
	if mode, _, _ := strings.Cut(s, ":"); mode == "container" || mode == "ns" {
		return "", &usageError{msg: fmt.Sprintf("%s: joining a namespace is not built into this version of sbx", quoteArg(s))}
	}
	return "", fmt.Errorf("%s: not one of %s", quoteArg(s), strings.Join(modes, ", "))
}

// checkHostname accepts what may stand in /etc/hosts and be given to sethostname(2).
func checkHostname(s string, max int) error {
	if s == "" || len(s) > max || !isAlnum(s[0]) {
		return fmt.Errorf("%s: not a host name", quoteArg(s))
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("%s: not a host name", quoteArg(s))
		}
	}
	return nil
}

func hostname(s string) (string, error) { return s, checkHostname(s, 64) } // __NEW_UTS_LEN

// addHost reads --add-host NAME[;NAME...]:ADDRESS.
func (a *runArgs) addHost(s string) error {
	names, addr, ok := strings.Cut(s, ":")
	if !ok {
		names, addr, ok = strings.Cut(s, "=") // docker's newer spelling
	}
	if !ok {
		return fmt.Errorf("%s: not NAME:ADDRESS", quoteArg(s))
	}
	if addr != sandbox.HostGateway {
		ip, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if err != nil || ip.Zone() != "" {
			return fmt.Errorf("%s: not an address", quoteArg(addr))
		}
		addr = ip.String()
	}
	for name := range strings.SplitSeq(names, ";") {
		if err := checkHostname(name, 255); err != nil {
			return err
		}
		a.spec.AddHosts = append(a.spec.AddHosts, sandbox.HostEntry{Name: name, Addr: addr})
	}
	return nil
}

// setHostsFile reads none, image, or the name of a file.
func (a *runArgs) setHostsFile(s string) error {
	a.spec.HostsFile, a.spec.HostsText = s, ""
	if s == "none" || s == "image" {
		return nil
	}
	text, err := readText(s, maxTextFile)
	a.spec.HostsText = string(text)
	return err
}

func (a *runArgs) addDNS(s string) error {
	if s != "none" {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("%s: not an address", quoteArg(s))
		}
		s = ip.String()
	}
	a.spec.DNS = append(a.spec.DNS, s)
	return nil
}

func (a *runArgs) addDNSOption(s string) error {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("%s: not an option of resolv.conf", quoteArg(s))
	}
	a.spec.DNSOptions = append(a.spec.DNSOptions, s)
	return nil
}

// addDNSSearch reads a domain; a dot alone means no search at all.
func (a *runArgs) addDNSSearch(s string) error {
	if s != "." {
		if err := checkHostname(strings.TrimSuffix(s, "."), 255); err != nil {
			return err
		}
	}
	a.spec.DNSSearch = append(a.spec.DNSSearch, s)
	return nil
}
