package cli

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sbx/sandbox"
)

func (a *runArgs) setNetwork(s string) error {
	mode, _, _ := strings.Cut(s, ":")
	switch s {
	case "none", "host":
		if a.spec.Network != "" && a.spec.Network != s {
			return fmt.Errorf("%s: already %s", s, a.spec.Network)
		}
		a.spec.Network = s
		return nil
	case "":
		return fmt.Errorf("an empty name")
	}
	switch mode {
	case "none", "host":
		return fmt.Errorf("%s: %s has no options", quoteArg(s), mode)
	}
	return &usageError{msg: fmt.Sprintf("%s: only none and host are built into this version of sbx", quoteArg(s))}
}

// namespace checks a namespace that is private or the host's.
func namespace(s string, also ...string) (string, error) {
	for _, word := range append(also, "private", "host") {
		if s == word {
			return s, nil
		}
	}
	if mode, _, _ := strings.Cut(s, ":"); mode == "container" || mode == "ns" {
		return "", &usageError{msg: fmt.Sprintf("%s: joining a namespace is not built into this version of sbx", quoteArg(s))}
	}
	return "", fmt.Errorf("%s: not one of %s", quoteArg(s), strings.Join(append([]string{"private", "host"}, also...), ", "))
}

func (a *runArgs) setPID(s string) (err error) {
	a.spec.PID, err = namespace(s)
	return err
}

func (a *runArgs) setIPC(s string) (err error) {
	a.spec.IPC, err = namespace(s, "shareable", "none")
	return err
}

func (a *runArgs) setUTS(s string) (err error) {
	a.spec.UTS, err = namespace(s)
	return err
}

func (a *runArgs) setCgroupNS(s string) (err error) {
	a.spec.CgroupNS, err = namespace(s)
	return err
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

func (a *runArgs) setHostname(s string) error {
	a.spec.Hostname = s
	return checkHostname(s, 64) // __NEW_UTS_LEN
}

// addHost reads --add-host NAME[;NAME...]:ADDRESS.
func (a *runArgs) addHost(s string) error {
	names, addr, ok := strings.Cut(s, ":")
	if !ok {
		names, addr, ok = strings.Cut(s, "=") // docker's newer spelling
	}
	if !ok {
		return fmt.Errorf("%s: not NAME:ADDRESS", quoteArg(s))
	}
	if addr == "host-gateway" {
		return &usageError{msg: "host-gateway: " + noNetwork}
	}
	ip, err := netip.ParseAddr(strings.Trim(addr, "[]"))
	if err != nil || ip.Zone() != "" {
		return fmt.Errorf("%s: not an address", quoteArg(addr))
	}
	for name := range strings.SplitSeq(names, ";") {
		if err := checkHostname(name, 255); err != nil {
			return err
		}
		a.spec.AddHosts = append(a.spec.AddHosts, sandbox.HostEntry{Name: name, Addr: ip.String()})
	}
	return nil
}

func (a *runArgs) setHostsFile(s string) error {
	switch s {
	case "none", "image":
		a.spec.HostsFile = s
		return nil
	case "":
		return fmt.Errorf("not none, image, or a file")
	}
	abs, err := filepath.Abs(s)
	if err != nil {
		return err
	}
	if _, err := os.Stat(abs); err != nil {
		return err
	}
	a.spec.HostsFile = abs
	return nil
}

func (a *runArgs) addDNS(s string) error {
	for _, word := range splitComma(s) {
		if word != "none" {
			ip, err := netip.ParseAddr(word)
			if err != nil {
				return fmt.Errorf("%s: not an address", quoteArg(word))
			}
			word = ip.String()
		}
		a.spec.DNS = append(a.spec.DNS, word)
	}
	return nil
}

func (a *runArgs) addDNSOption(s string) error {
	for _, word := range splitComma(s) {
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return fmt.Errorf("%s: not an option of resolv.conf", quoteArg(word))
		}
		a.spec.DNSOptions = append(a.spec.DNSOptions, word)
	}
	return nil
}

func (a *runArgs) addDNSSearch(s string) error {
	for _, word := range splitComma(s) {
		// A dot, or nothing, means no search at all.
		if word != "" && word != "." {
			if err := checkHostname(strings.TrimSuffix(word, "."), 255); err != nil {
				return err
			}
		}
		a.spec.DNSSearch = append(a.spec.DNSSearch, word)
	}
	return nil
}

// expose checks --expose PORT[-PORT][/PROTOCOL]. It is a note for --publish-all
// and changes nothing by itself, with podman neither.
func (a *runArgs) expose(s string) error {
	ports, proto, hasProto := strings.Cut(s, "/")
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from == 0 || from > to || hasProto && proto != "tcp" && proto != "udp" && proto != "sctp" {
		return fmt.Errorf("%s: not PORT[-PORT][/tcp|udp|sctp]", quoteArg(s))
	}
	return nil
}

// finishNetwork refuses contradictions that no single flag shows.
func (a *runArgs) finishNetwork() error {
	s := &a.spec
	for _, word := range s.DNS {
		if word == "none" && len(s.DNS)+len(s.DNSSearch)+len(s.DNSOptions) > 1 {
			return &usageError{msg: "--dns none keeps the image's resolv.conf: no other --dns flag goes with it"}
		}
	}
	if s.NoHosts && len(s.AddHosts) > 0 {
		return &usageError{msg: "--no-hosts and --add-host exclude each other"}
	}
	if s.NoHosts && s.HostsFile != "" {
		return &usageError{msg: "--no-hosts and --hosts-file exclude each other"}
	}
	if s.Hostname != "" && s.UTS == "host" {
		return &usageError{msg: "--hostname needs a private --uts"}
	}
	return nil
}
