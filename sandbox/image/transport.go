//go:build !hot

package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
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

const maxRedirects = 5

// transport speaks to one registry and to wherever that sends us.
type transport struct {
	own     *http.Transport // to the registry's host and port
	foreign *http.Transport // elsewhere: no client certificate, guarded addresses
	host    atomic.Value    // string: HOST:PORT of the registry
	level   atomic.Int32    // privacy of the registry's own address
	proxies sync.Map        // HOST:PORT of proxies in use; the user named them, not the registry
}

func newTransport(host string, own *tls.Config) *transport {
	t := &transport{}
	t.host.Store(host)
	foreign := own.Clone()
	foreign.Certificates = nil
	if name, _, err := net.SplitHostPort(host); err == nil {
		t.level.Store(int32(privacyOfHost(name)))
	}
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

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if hostPort(r.URL) == t.host.Load() {
		return t.own.RoundTrip(r)
	}
	return t.foreign.RoundTrip(r)
}

// setHost is for a registry that turns out to speak http: another default port.
func (t *transport) setHost(host string) { t.host.Store(host) }

func (t *transport) close() {
	t.own.CloseIdleConnections()
	t.foreign.CloseIdleConnections()
}

// dialOwn remembers how private the registry's address is.
func (t *transport) dialOwn(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil || addr != t.host.Load() { // another address is the user's proxy
		return conn, err
	}
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		t.level.Store(int32(privacyOf(at.Addr())))
	}
	return conn, nil
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

// checkTarget refuses what can be seen from a URL alone; the rest is dialForeign's.
func (t *transport) checkTarget(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return &forbiddenTarget{u.Scheme + "://" + u.Host, "not http"}
	}
	if hostPort(u) == t.host.Load() {
		return nil
	}
	return t.allow(privacyOfHost(u.Hostname()), u.Host)
}

// redirect is the http.Client's CheckRedirect.
func (t *transport) redirect(r *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return &forbiddenTarget{r.URL.Host, fmt.Sprintf("more than %d redirects", maxRedirects)}
	case last.URL.Scheme == "https" && r.URL.Scheme != "https":
		return &forbiddenTarget{r.URL.Scheme + "://" + r.URL.Host, "from https to " + quoteless(r.URL.Scheme)}
	case r.Method != http.MethodGet && !sameOrigin(r.URL, via[0].URL):
		return &forbiddenTarget{r.URL.Host, "the request holds a refresh token"}
	}
	if err := t.checkTarget(r.URL); err != nil {
		return err
	}
	r.URL.User = nil
	r.Header.Del("Referer") // may hold a signed URL
	if !sameOrigin(r.URL, via[0].URL) {
		r.Header.Del("Authorization")
	}
	return nil
}

// realm is the token service that a challenge names, if it may have our credentials.
func (t *transport) realm(text string, registry *url.URL) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, &forbiddenTarget{text, "the realm is not a URL"}
	}
	if sameOrigin(u, registry) {
		return u, nil
	}
	if u.Scheme != "https" {
		return nil, &forbiddenTarget{u.Scheme + "://" + u.Host, "the realm must be https or the registry itself"}
	}
	if p := privacyOfHost(u.Hostname()); p != public && u.Hostname() != registry.Hostname() {
		return nil, &forbiddenTarget{u.Host, "the realm is a " + p.String() + " address"}
	}
	return u, nil
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

// tlsConfig gathers the certificates for a registry: containers-certs.d(5).
func tlsConfig(registry string, a Access, insecure bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if a.CertDir != "" {
		return c, addCerts(c, a.CertDir)
	}
	for _, base := range []string{configHome("containers", "certs.d"), "/etc/containers/certs.d", "/etc/docker/certs.d"} {
		err := addCerts(c, filepath.Join(base, registry))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return c, err
	}
	return c, nil
}

// addCerts reads *.crt (authorities), and *.cert with *.key (our own).
func addCerts(c *tls.Config, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch filepath.Ext(file) {
		case ".crt":
			if err := addAuthority(c, file); err != nil {
				return err
			}
		case ".cert":
			key := strings.TrimSuffix(file, ".cert") + ".key"
			pair, err := tls.LoadX509KeyPair(file, key)
			if err != nil {
				return fmt.Errorf("certificate %s: %w", file, err)
			}
			c.Certificates = append(c.Certificates, pair)
		}
	}
	return nil
}

func addAuthority(c *tls.Config, file string) error {
	pem, err := readConfig(file)
	if err != nil {
		return err
	}
	if c.RootCAs == nil {
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			return fmt.Errorf("read the system's certificates: %w", err)
		}
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("certificate %s: no PEM certificate in it", file)
	}
	return nil
}
