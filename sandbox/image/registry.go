//go:build !hot

package image

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	registryname "github.com/google/go-containerregistry/pkg/name"
	registry "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
)

const (
	maxManifest = 4 << 20 // manifests and configurations
	maxAnswer   = 1 << 20 // error messages
	idleTimeout = 60 * time.Second
)

// client speaks the distribution API to one registry about one repository. The library
// answers the registry's challenges; every request it makes goes through our transport, which
// says where it may go and what it may hold.
type client struct {
	name  Name
	creds credentials
	host  registryname.Registry
	wire  *transport

	mu   sync.Mutex
	http *http.Client // nil until the registry has said how it wants to be asked
}

func newClient(e endpoint, a Access, c credentials) (*client, error) {
	insecure := e.insecure
	if a.TLSVerify != nil {
		insecure = !*a.TLSVerify
	}
	config, err := tlsConfig(e.name.Registry, a, insecure)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", e.name.Registry, err)
	}
	var options []registryname.Option
	if insecure {
		options = append(options, registryname.Insecure) // http too, where https cannot be spoken
	}
	host, err := registryname.NewRegistry(e.name.Registry, options...)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", e.name.Registry, err)
	}
	wire := newTransport(host.RegistryStr(), insecure, cmp.Or(a.idle, idleTimeout), config)
	return &client{name: e.name, creds: c, host: host, wire: wire}, nil
}

func (c *client) close() { c.wire.close() }

// connect asks the registry how it wants to be asked, once, and gets a token if it wants one:
// to pull this repository.
func (c *client) connect(ctx context.Context) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil {
		return c.http, nil
	}
	auth := authn.Anonymous
	if !c.creds.empty() {
		auth = authn.FromConfig(authn.AuthConfig{
			Username: c.creds.username, Password: c.creds.password, IdentityToken: c.creds.identityToken,
		})
	}
	var scopes []string
	if c.name.Tag != "" || c.name.Digest != "" { // login has no image in mind
		scopes = []string{"repository:" + c.name.Path + ":pull"}
	}
	authorized, err := registry.NewWithContext(ctx, c.host, auth, registry.NewUserAgent(c.wire, "sbx"), scopes)
	if err != nil {
		return nil, err
	}
	c.http = &http.Client{Transport: authorized}
	return c.http, nil
}

// ping asks for nothing but to be let in.
func (c *client) ping(ctx context.Context) error {
	resp, err := c.get(ctx, "/v2/", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// get asks the registry for a path. An answer that is not 2xx is a *RegistryError.
func (c *client) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	authorized, err := c.connect(ctx)
	if err != nil {
		return nil, c.failed(err)
	}
	u := url.URL{Scheme: "https", Host: c.host.RegistryStr(), Path: path} // http where that is what it speaks
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, c.failed(err)
	}
	if header != nil {
		r.Header = header
	}
	resp, err := authorized.Do(r)
	if err != nil {
		return nil, c.failed(err)
	}
	return resp, checkAnswer(resp)
}

// failed names the registry, and drops the URL from the message: it may hold a signature.
func (c *client) failed(err error) error {
	if answer, ok := errors.AsType[*RegistryError](err); ok {
		return answer
	}
	if refused, ok := errors.AsType[*registry.Error](err); ok {
		return answerOf(refused)
	}
	if u, ok := errors.AsType[*url.Error](err); ok { // of https and http, the first
		err = u.Err
	}
	err = fmt.Errorf("registry %s: %w", c.name.Registry, err)
	var notTLS tls.RecordHeaderError
	_, badCert := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case badCert:
		return withHint(err, "give its authority with --cert-dir or in /etc/containers/certs.d/"+c.name.Registry+", or do without with --tls-verify=false")
	case errors.As(err, &notTLS), strings.Contains(err.Error(), "HTTP response to HTTPS client"): // net/http has no type for it
		return withHint(err, "it speaks http only: --tls-verify=false, or insecure = true in registries.conf")
	}
	return err
}

// readBounded reads all of a small thing.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return data, err
}

// manifest asks for the manifest of a tag or digest; it is checked by whoever calls.
func (c *client) manifest(ctx context.Context, ref string) (body []byte, header http.Header, err error) {
	accept := http.Header{"Accept": {strings.Join(manifestTypes(), ", ")}}
	resp, err := c.get(ctx, "/v2/"+c.name.Path+"/manifests/"+ref, accept)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err = readBounded(resp.Body, maxManifest)
	if err != nil {
		return nil, nil, fmt.Errorf("read the manifest from %s: %w", c.name.Registry, err)
	}
	return body, resp.Header, nil
}

// blob asks for a blob from an offset on; the answer may start there (206) or anew (200).
func (c *client) blob(ctx context.Context, d digest.Digest, offset int64) (*http.Response, error) {
	h := http.Header{}
	if offset > 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	return c.get(ctx, "/v2/"+c.name.Path+"/blobs/"+d.String(), h)
}
