package sandbox

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// etc makes the files that say who and where the sandbox is. They lie over the
// image's, in memory: no file of the image or of a --rootfs is ever written.
func (p *planner) etc() error {
	spec := p.spec
	file := func(dst, why, text string) {
		p.step(Step{Op: opFile, Dst: dst, Why: why, Text: text, Mode: 0o644, ReadOnly: p.readOnly})
	}
	if p.has("uts") && !spec.NoHostname {
		file("/etc/hostname", whose(spec.Hostname != "", "--hostname"), p.Hostname+"\n")
	}
	switch {
	case spec.NoHosts && spec.HostsFile != "":
		return Errorf("--no-hosts and --hosts-file exclude each other")
	case spec.NoHosts && len(spec.AddHosts) > 0:
		return Errorf("--add-host: with --no-hosts, /etc/hosts is the image's, and nothing is added to it")
	case !spec.NoHosts:
		text, err := p.hostsFile()
		if err != nil {
			return err
		}
		file("/etc/hosts", hostsFlag(spec), text)
		if spec.HostsFile == "image" {
			p.Steps[len(p.Steps)-1].Op = opHosts
		}
	}
	switch {
	case !slices.Contains(spec.DNS, "none"):
		file("/etc/resolv.conf", dnsFlag(spec), p.resolvConf())
	case len(spec.DNS)+len(spec.DNSSearch)+len(spec.DNSOptions) > 1:
		return Errorf("--dns none: it keeps the image's resolv.conf, and no other --dns flag goes with it")
	}
	file("/run/.containerenv", "default", fmt.Sprintf("engine=\"sbx\"\nid=%q\nimage=%q\nrootless=1\n", p.ID, p.Image))
	p.Steps[len(p.Steps)-1].Optional = !p.ofImage // a directory may be such that nothing can be made in it
	if spec.Passwd == nil || *spec.Passwd {
		p.step(Step{Op: opPasswd, Dst: "/etc/passwd", Text: spec.PasswdEntry, Options: p.users(), ReadOnly: p.readOnly, Why: whose(spec.PasswdEntry != "", "--passwd-entry")})
		p.step(Step{Op: opGroup, Dst: "/etc/group", Options: p.groups(), ReadOnly: p.readOnly, Why: "default"})
	}
	if spec.SdnotifySocket != "" {
		p.step(Step{Op: opBind, Dst: notifySocket, Src: spec.SdnotifySocket, NoSuid: true, NoDev: true, NoExec: true, Why: "--sdnotify"})
	}
	if tz := spec.Timezone; tz != "" {
		src := "/etc/localtime"
		if tz != "local" {
			src = p.host.Zoneinfo + "/" + tz
		}
		p.step(Step{Op: opBind, Dst: "/etc/localtime", Src: src, ReadOnly: true, NoSuid: true, NoDev: true, Why: "--tz"})
	}
	for _, s := range spec.Secrets {
		if err := checkTarget(s.Dst); err != nil {
			return fmt.Errorf("--secret %s: %w", s.ID, err)
		}
		uid, gid := s.UID, s.GID
		p.step(Step{Op: opFile, Dst: s.Dst, Why: "--secret", Secret: s.Data, Mode: Mode(cmp.Or(s.Mode, 0o444)), UID: &uid, GID: &gid})
	}
	return nil
}

// notifySocket is where the command finds systemd's socket (sd_notify(3)).
const notifySocket = "/run/notify/notify.sock"

func dnsFlag(spec *Spec) string {
	switch {
	case len(spec.DNS) > 0:
		return "--dns"
	case len(spec.DNSSearch) > 0:
		return "--dns-search"
	}
	return whose(len(spec.DNSOptions) > 0, "--dns-option")
}

func hostsFlag(spec *Spec) string {
	if spec.HostsFile != "" {
		return "--hosts-file"
	}
	return whose(len(spec.AddHosts) > 0, "--add-host")
}

// hostsFile says what the other sandbox's does, or what sbx and the user know, and then what
// --hosts-file says: of two lines for a name, the first counts. The host has a name where the sandbox may reach it.
func (p *planner) hostsFile() (string, error) {
	var text strings.Builder
	if j := p.host.Joined; j != nil && j.Hosts != nil {
		text.WriteString(*j.Hosts)
		if p.has("uts") {
			fmt.Fprintf(&text, "127.0.0.1\t%s\n", p.Hostname)
		}
		return text.String(), nil
	}
	text.WriteString("127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain ip6-localhost ip6-loopback\n")
	host, reachable := p.hostAddress()
	for _, h := range p.spec.AddHosts {
		switch {
		case h.Addr != HostGateway:
			fmt.Fprintf(&text, "%s\t%s\n", h.Addr, h.Name)
		case reachable:
			fmt.Fprintf(&text, "%s\t%s\n", host, h.Name)
		default:
			return "", &Error{Text: "--add-host " + h.Name + ":" + HostGateway + ": the sandbox cannot reach the host", Fix: p.toReachHost()}
		}
	}
	if reachable {
		fmt.Fprintf(&text, "%s\thost.containers.internal host.docker.internal\n", host)
	}
	if p.has("uts") {
		own := "127.0.0.1"
		if a, ok := p.ownAddress(); ok { // servers that listen on their own name can be reached
			own = a.String()
		}
		fmt.Fprintf(&text, "%s\t%s\n", own, p.Hostname)
	}
	return text.String() + p.spec.HostsText, nil
}

// toReachHost is what gives the sandbox a way to the host.
func (p *planner) toReachHost() string {
	switch p.Network {
	case "slirp4netns":
		return "--network slirp4netns:allow_host_loopback=true"
	case "pasta":
		return "--network pasta:--map-host-loopback,169.254.1.2 with a pasta that has this option; with any, pasta:--map-gw, and the address of the gateway instead of " + HostGateway
	case userDefined:
		return "on a network of your own there is no way to the host: only a private network has one, --network private:host-loopback"
	}
	return "--network private:host-loopback"
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// resolvConf is the host's where the sandbox shares its network, or that of another sandbox; a private one's names the
// stack, which asks the host's; without a network it names nobody. What the user says replaces it line by line, as with podman.
func (p *planner) resolvConf() string {
	spec := p.spec
	if j := p.host.Joined; j != nil && j.Resolv != nil {
		return *j.Resolv
	}
	var servers, search, options []string
	if p.Network != "none" {
		for line := range strings.Lines(p.host.Resolv) {
			switch fields := strings.Fields(line); {
			case len(fields) < 2:
			case fields[0] == "nameserver" && isAddress(fields[1]):
				servers = append(servers, fields[1])
			case fields[0] == "search" || fields[0] == "domain":
				search = fields[1:]
			case fields[0] == "options":
				options = append(options, fields[1:]...)
			}
		}
	}
	switch {
	case p.Link != nil: // which asks those
		servers = []string{p.Link.IPv4.Resolver.String()}
	case len(p.Networks) > 0:
		servers = p.memberResolvers()
	case len(spec.DNS) > 0:
		servers = spec.DNS
	case p.Driver != nil: // which asks those, too
		servers = []string{p.Driver.Resolver.String()}
	}
	if len(spec.DNSSearch) > 0 {
		search = spec.DNSSearch
		if slices.Equal(search, []string{"."}) {
			search = nil
		}
	}
	if len(spec.DNSOptions) > 0 {
		options = spec.DNSOptions
	}
	var text strings.Builder
	if len(search) > 0 {
		fmt.Fprintln(&text, "search", strings.Join(search, " "))
	}
	for _, s := range servers {
		fmt.Fprintln(&text, "nameserver", s)
	}
	if len(options) > 0 {
		fmt.Fprintln(&text, "options", strings.Join(options, " "))
	}
	return text.String()
}
