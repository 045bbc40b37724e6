package cli

import (
	"net/netip"
	"strings"
)

// proxyNames are the variables that --http-proxy hands on.
func proxyNames() []string {
	return []string{
		"http_proxy", "https_proxy", "ftp_proxy", "no_proxy",
		"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY",
	}
}

// proxies are the caller's variables that are handed on. A proxy's address may hold a password, which
// is not for what nobody trusts; and a proxy would fetch what a rule denies, or is denied itself.
func (a *runArgs) proxies() (env []string) {
	if a.httpProxy != nil && !*a.httpProxy {
		return nil
	}
	asked := a.httpProxy != nil
	if !asked && (a.spec.Security.Preset == "untrusted" || len(a.spec.Allow)+len(a.spec.Deny) > 0) {
		return nil
	}
	var lost, at string // the first that is of this host's loopback, which is the sandbox's own inside
	for _, name := range proxyNames() {
		value, ok := a.caller.lookup(name)
		if !ok {
			continue
		}
		if host, loopback := ofLoopback(value); loopback && a.ownLoopback() && !strings.EqualFold(name, "no_proxy") {
			if lost == "" {
				lost, at = name, host
			}
			if !asked {
				continue
			}
		}
		env = append(env, name+"="+value)
	}
	switch {
	case lost == "":
	case asked:
		a.app.warn("--http-proxy: %s is at %s, which is the sandbox itself inside, and not this host", lost, at)
	default:
		a.app.warn("%s is at %s, this host's loopback, where the sandbox cannot go: it is not handed on; --network private:host-loopback -e %s=http://10.0.2.2:PORT leads there, --http-proxy=false says nothing of it", lost, at, lost)
	}
	return env
}

// ownLoopback: the sandbox has a network that leads somewhere, and another loopback than this host.
func (a *runArgs) ownLoopback() bool {
	switch mode, _, _ := strings.Cut(a.spec.Network, ":"); mode {
	case "none", "host", "container", "ns":
		return false
	}
	return true
}

// ofLoopback: the value of a proxy's variable, a URL or HOST:PORT, leads to the loopback of who follows it.
func ofLoopback(value string) (host string, loopback bool) {
	_, rest, ok := strings.Cut(value, "://")
	if !ok {
		rest = value
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	host = rest[strings.LastIndexByte(rest, '@')+1:]
	name := host
	if inside, ok := strings.CutPrefix(host, "["); ok {
		name, _, _ = strings.Cut(inside, "]")
	} else if i := strings.LastIndexByte(host, ':'); i >= 0 {
		name = host[:i]
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return host, a.Unmap().IsLoopback() || a.IsUnspecified()
	}
	return host, strings.EqualFold(strings.TrimSuffix(name, "."), "localhost")
}
