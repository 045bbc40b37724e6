//go:build !hot

package image

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	maxManifest = 4 << 20 // manifests and configurations
	maxAnswer   = 1 << 20 // tokens and error messages
	idleTimeout = 60 * time.Second
)

// client speaks the distribution API to one registry about one repository.
type client struct {
	name     Name
	creds    credentials
	insecure bool
	idle     time.Duration
	wire     *transport
	http     *http.Client

	mu     sync.Mutex
	base   *url.URL // scheme and host; its scheme is "" until an insecure registry has been asked
	header string   // Authorization, once a challenge told which
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
	host := e.name.Registry
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	base := &url.URL{Scheme: "https", Host: host}
	wire := newTransport(hostPort(base), config)
	client := &client{
		name: e.name, creds: c, insecure: insecure, idle: cmp.Or(a.idle, idleTimeout),
		base: base, wire: wire,
		http: &http.Client{Transport: wire, CheckRedirect: wire.redirect},
	}
	if insecure {
		base.Scheme = ""
	}
	return client, nil
}

func (c *client) close() { c.wire.close() }

// origin is the registry's scheme and host. Only one that may be insecure is asked over
// http too, and only when https cannot be spoken at all.
func (c *client) origin(ctx context.Context) (url.URL, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.Scheme != "" {
		return *c.base, nil
	}
	u := *c.base
	u.Scheme, u.Path = "https", "/v2/"
	resp, err := c.send(ctx, http.MethodGet, &u, nil, nil)
	if err == nil {
		resp.Body.Close()
		c.base.Scheme = "https"
		return *c.base, nil
	}
	if ctx.Err() != nil {
		return url.URL{}, err
	}
	c.base.Scheme = "http"
	c.wire.setHost(hostPort(c.base))
	return *c.base, nil
}

// ping asks for nothing but to be let in.
func (c *client) ping(ctx context.Context) error {
	resp, err := c.get(ctx, "/v2/", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// get asks the registry for a path, with a token if it wants one. An answer that is not
// 2xx is a *RegistryError.
func (c *client) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	base, err := c.origin(ctx)
	if err != nil {
		return nil, c.failed(err)
	}
	u := base
	u.Path = path
	used := c.authorization()
	for tries := 0; ; tries++ {
		h := header.Clone()
		if h == nil {
			h = http.Header{}
		}
		if used != "" {
			h.Set("Authorization", used)
		}
		resp, err := c.send(ctx, http.MethodGet, &u, h, nil)
		if err != nil {
			return nil, c.failed(err)
		}
		// A 401 from where we were redirected to is not ours to answer.
		if resp.StatusCode != http.StatusUnauthorized || tries > 0 || !sameOrigin(resp.Request.URL, &base) {
			return resp, checkAnswer(resp)
		}
		refusal := checkAnswer(resp)
		if used, err = c.authorize(ctx, resp, used, refusal); err != nil {
			return nil, err
		}
	}
}

func (c *client) authorization() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header
}

// failed names the registry, and drops the URL from the message: it may hold a signature.
func (c *client) failed(err error) error {
	var plain error = err
	if u, ok := errors.AsType[*url.Error](err); ok {
		plain = u.Err
	}
	err = fmt.Errorf("registry %s: %w", c.name.Registry, plain)
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

// errIdle is the end of a transfer that stands still.
var errIdle = errors.New("no data for a minute")

// send does one request, redirects included. Neither the headers nor any later read may
// take longer than the idle time.
func (c *client) send(ctx context.Context, method string, u *url.URL, h http.Header, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.idle, func() { cancel(errIdle) })
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if h != nil {
		r.Header = h
	}
	r.Header.Set("User-Agent", "sbx")
	resp, err := c.http.Do(r)
	timer.Stop()
	if err != nil {
		if context.Cause(ctx) == errIdle {
			err = errIdle
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &idleBody{body: resp.Body, ctx: ctx, cancel: cancel, timer: timer, idle: c.idle}
	return resp, nil
}

// idleBody ends the request when one read takes too long.
type idleBody struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
}

func (b *idleBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *idleBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}

// RegistryError is an answer of a registry that is not what was asked for.
type RegistryError struct {
	Host          string
	Status        int
	Code, Message string // of its JSON, made fit for a terminal
	HTML          bool   // a web page: a login portal, a proxy, a wrong port
	RetryAfter    time.Duration
}

func (e *RegistryError) Error() string {
	status := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	switch {
	case e.HTML:
		return fmt.Sprintf("%s answers %s with a web page: not a registry", e.Host, status)
	case cmp.Or(e.Message, e.Code) != "":
		return fmt.Sprintf("%s answers %s: %s", e.Host, status, cmp.Or(e.Message, e.Code))
	}
	return fmt.Sprintf("%s answers %s", e.Host, status)
}

// Hint says what helps against the usual refusals.
func (e *RegistryError) Hint() string {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "the image is private or does not exist; sbx login " + e.Host
	case http.StatusTooManyRequests:
		return "wait, or sbx login " + e.Host + " for a higher limit"
	}
	return ""
}

// checkAnswer closes and reads an answer that is not the one hoped for.
func checkAnswer(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	html := kind == "text/html"
	if resp.StatusCode/100 == 2 && !html {
		return nil
	}
	defer resp.Body.Close()
	e := &RegistryError{Host: resp.Request.URL.Host, Status: resp.StatusCode, HTML: html, RetryAfter: retryAfter(resp.Header)}
	if e.Host == "registry-1.docker.io" {
		e.Host = "docker.io"
	}
	var said struct {
		Errors []struct{ Code, Message string }
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && json.Unmarshal(data, &said) == nil && len(said.Errors) > 0 {
		e.Code, e.Message = quoteless(said.Errors[0].Code), quoteless(said.Errors[0].Message)
	}
	return e
}

func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		now := time.Now()
		// Count from the server's clock where it tells: ours may be wrong.
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			now = date
		}
		return max(0, at.Sub(now))
	}
	return 0
}

// authorize answers a challenge. If another request has done so since `used` was read,
// its answer is taken: a token that has expired is fetched once, not by every layer.
func (c *client) authorize(ctx context.Context, resp *http.Response, used string, refusal error) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header != used {
		return c.header, nil
	}
	for _, ch := range parseChallenges(resp.Header.Values("WWW-Authenticate")) {
		switch ch.scheme {
		case "bearer":
			token, err := c.token(ctx, ch)
			if err != nil {
				return "", err
			}
			c.header = "Bearer " + token
			return c.header, nil
		case "basic":
			if c.creds.username == "" || strings.HasPrefix(used, "Basic ") {
				return "", refusal
			}
			c.header = basicAuth(c.creds)
			return c.header, nil
		}
	}
	return "", refusal
}

func basicAuth(c credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.username+":"+c.password))
}

// token asks the registry's token service, within the bounds of transport.realm, for
// leave to pull this repository: never for the scope that the challenge suggests.
func (c *client) token(ctx context.Context, ch challenge) (string, error) {
	realm, err := c.wire.realm(ch.params["realm"], c.base)
	if err != nil {
		return "", c.failed(err)
	}
	q := url.Values{}
	if s := ch.params["service"]; s != "" {
		q.Set("service", s)
	}
	if c.name.Tag != "" || c.name.Digest != "" { // login has no image in mind
		q.Set("scope", "repository:"+c.name.Path+":pull")
	}
	method, h := http.MethodGet, http.Header{}
	var body []byte
	switch {
	case c.creds.identityToken != "":
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", c.creds.identityToken)
		q.Set("client_id", "sbx")
		method, body = http.MethodPost, []byte(q.Encode())
		h.Set("Content-Type", "application/x-www-form-urlencoded")
	case c.creds.username != "":
		q.Set("account", c.creds.username)
		h.Set("Authorization", basicAuth(c.creds))
		fallthrough
	default:
		for k, v := range realm.Query() {
			if !q.Has(k) {
				q[k] = v
			}
		}
		realm.RawQuery = q.Encode()
	}
	resp, err := c.send(ctx, method, realm, h, body)
	if err != nil {
		return "", c.failed(err)
	}
	if err := checkAnswer(resp); err != nil {
		return "", fmt.Errorf("get a token for %s: %w", c.name.Registry, err)
	}
	defer resp.Body.Close()
	var t struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	data, err := readBounded(resp.Body, maxAnswer)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	token := cmp.Or(t.Token, t.AccessToken)
	if err == nil && (token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f })) {
		err = errors.New("no usable token in the answer")
	}
	if err != nil {
		return "", fmt.Errorf("get a token for %s from %s: %w", c.name.Registry, realm.Host, err)
	}
	return token, nil
}

// challenge is one of a WWW-Authenticate header.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads all challenges of all headers: scheme key="value", key=value, scheme ...
func parseChallenges(headers []string) []challenge {
	var list []challenge
	for _, h := range headers {
		for h = strings.TrimLeft(h, " ,\t"); h != ""; h = strings.TrimLeft(h, " ,\t") {
			word := h[:tokenLen(h)]
			if word == "" {
				break // not the grammar; keep what was understood
			}
			h = h[len(word):]
			value, isParam := strings.CutPrefix(strings.TrimLeft(h, " \t"), "=")
			if !isParam {
				list = append(list, challenge{strings.ToLower(word), map[string]string{}})
				continue
			}
			var v string
			v, h = paramValue(strings.TrimLeft(value, " \t"))
			if len(list) > 0 {
				list[len(list)-1].params[strings.ToLower(word)] = v
			}
		}
	}
	return list
}

func tokenLen(s string) int {
	if i := strings.IndexAny(s, " \t,=\""); i >= 0 {
		return i
	}
	return len(s)
}

func paramValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		n := strings.IndexAny(s, " \t,")
		if n < 0 {
			n = len(s)
		}
		return s[:n], s[n:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
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
