//go:build !hot

package image

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A registry is hostile: it chooses where its redirects and its token realm point. What
// it can make us do from here, inside the user's network, is bounded in three ways:
//
//   - credentials go to the registry's own origin, and to its realm, and are dropped at
//     every change of host, port or scheme (net/http keeps them at a change of port);
//   - https never becomes http;
//   - no address is contacted that is more private than the registry's own: a public one
//     cannot send us to 10.0.0.1, 127.0.0.1 or 169.254.169.254. This is decided when the
//     connection is made, so that a name which resolves twice does not help.
//
// All of it is decided here, below net/http's client and the library's, for every request
// that either makes.

const maxRedirects = 5

// transport speaks to one registry and to wherever that sends us.
type transport struct {
	registry string // HOST or HOST:PORT
	insecure bool   // http will do
	idle     time.Duration
	own      *http.Transport // to the registry
	foreign  *http.Transport // elsewhere: no client certificate, guarded addresses
	dialed   atomic.Int32    // privacy of the registry's address that was dialed last
	level    atomic.Int32    // and of the one that answered
	proxies  sync.Map        // HOST:PORT of proxies in use; the user named them, not the registry
}

func newTransport(registry string, insecure bool, idle time.Duration, own *tls.Config) *transport {
	t := &transport{registry: registry, insecure: insecure, idle: idle}
	foreign := own.Clone()
	foreign.Certificates = nil
	level := int32(privacyOfHost((&url.URL{Host: registry}).Hostname()))
	t.level.Store(level)
	t.dialed.Store(level)
	t.own = newHTTPTransport(own, t.dialOwn)
	t.foreign = newHTTPTransport(foreign, t.dialForeign)
	t.foreign.Proxy = func(r *http.Request) (*url.URL, error) {
		proxy, err := http.ProxyFromEnvironment(r)
		if proxy != nil {
			t.proxies.Store(hostPort(proxy), true)
		}
		return proxy, err
	}
	return t
}

func newHTTPTransport(c *tls.Config, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dial,
		TLSClientConfig:        c,
		TLSHandshakeTimeout:    20 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    4,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         64 << 10,
		DisableCompression:     true, // digests are of the bytes as they travel
	}
}

// RoundTrip does one request, if it may go there, without what it may not take along. An
// answer that only asks to be left alone, or comes from no registry, is an error already here.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	first, hops := r, 0 // of a chain of redirects
	for first.Response != nil {
		first = first.Response.Request
		hops++
	}
	if err := t.check(r, first, hops); err != nil {
		return nil, err
	}
	if hops > 0 {
		r = r.Clone(r.Context())
		r.URL.User = nil
		r.Header.Del("Referer") // may hold a signed URL
		if !sameOrigin(r.URL, first.URL) {
			r.Header.Del("Authorization")
		}
	}
	do := t.foreign.RoundTrip
	if t.isOwn(r.URL) {
		do = t.own.RoundTrip
	}
	resp, err := whileAlive(r, t.idle, do)
	if err != nil {
		return nil, err
	}
	if t.isOwn(r.URL) {
		t.level.Store(t.dialed.Load())
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 || resp.StatusCode/100 == 2 && isHTML(resp) {
		return nil, checkAnswer(resp)
	}
	return resp, nil
}

// check refuses what can be seen from the request alone; the rest is dialForeign's. A request
// to another host that is no redirect asks for a token, and holds the password.
func (t *transport) check(r, first *http.Request, hops int) error {
	refuse := func(reason string) error {
		return &forbiddenTarget{r.URL.Scheme + "://" + r.URL.Host, reason}
	}
	plain := r.URL.Scheme != "https"
	switch {
	case plain && r.URL.Scheme != "http" || r.URL.Host == "":
		return refuse("not http")
	case hops > maxRedirects:
		return refuse(fmt.Sprintf("more than %d redirects", maxRedirects))
	case hops > 0 && plain && r.Response.Request.URL.Scheme == "https":
		return refuse("from https to http")
	case hops > 0 && r.Method != http.MethodGet && !sameOrigin(r.URL, first.URL):
		return refuse("the request holds a refresh token")
	case t.isOwn(r.URL):
		if plain && !t.insecure {
			return refuse("only https may be spoken to it")
		}
		return nil
	case hops == 0 && plain:
		return refuse("the realm must be https or the registry itself")
	}
	return t.allow(privacyOfHost(r.URL.Hostname()), r.URL.Host)
}

func (t *transport) isOwn(u *url.URL) bool { return strings.EqualFold(u.Host, t.registry) }

func (t *transport) close() {
	t.own.CloseIdleConnections()
	t.foreign.CloseIdleConnections()
}

// dialOwn remembers how private the registry's address is. One that connects and then is not
// the registry must not count, so it is of no effect until there is an answer.
func (t *transport) dialOwn(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil || !t.isOwnAddress(addr) { // another address is the user's proxy
		return conn, err
	}
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		t.dialed.Store(int32(privacyOf(at.Addr())))
	}
	return conn, nil
}

func (t *transport) isOwnAddress(addr string) bool {
	for _, scheme := range []string{"https", "http"} {
		if addr == hostPort(&url.URL{Scheme: scheme, Host: t.registry}) {
			return true
		}
	}
	return false
}

func (t *transport) dialForeign(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	if _, isProxy := t.proxies.Load(addr); !isProxy {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return t.allow(privacyOf(at.Addr()), addr)
		}
	}
	return d.DialContext(ctx, network, addr)
}

func (t *transport) allow(p privacy, target string) error {
	if p > privacy(t.level.Load()) {
		return &forbiddenTarget{target, fmt.Sprintf("a %s address, and the registry's is not", p)}
	}
	return nil
}

// forbiddenTarget is a place to which the registry sent us and where we do not go.
type forbiddenTarget struct{ target, reason string }

func (e *forbiddenTarget) Error() string {
	return fmt.Sprintf("refused to follow the registry to %s: %s", quoteless(e.target), e.reason)
}

// privacy orders addresses by who can reach them.
type privacy int32

const (
	public privacy = iota
	private
	loopback
	linkLocal // with the metadata services of clouds
)

func (p privacy) String() string {
	return [...]string{"public", "private", "loopback", "link-local"}[p]
}

func privacyOf(a netip.Addr) privacy {
	a = a.Unmap()
	switch {
	case a.IsLoopback(), a.IsUnspecified(): // 0.0.0.0 reaches this host
		return loopback
	case a.IsLinkLocalUnicast(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return linkLocal
	case a.IsPrivate(), netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a): // carrier-grade NAT
		return private
	}
	return public
}

// privacyOfHost is what a host tells without being resolved.
func privacyOfHost(host string) privacy {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return loopback
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return privacyOf(a.WithZone(""))
	}
	return public
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && hostPort(a) == hostPort(b) }

// hostPort is the address that net/http dials for a URL.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
