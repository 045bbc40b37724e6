// Package registrytest is a registry for tests that can be told to misbehave.
//
// It holds whatever it was given, valid or not, and serves it as the distribution API
// does. Rules say what goes wrong, by path and number of times; a log says who asked for
// what, with which headers.
package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Registry is a server on loopback. Close it.
type Registry struct {
	*httptest.Server

	mu        sync.Mutex
	blobs     map[string][]byte
	manifests map[string]manifest // by repository and tag or digest
	rules     []*Rule
	log       []*Request
	auth      *auth
	done      chan struct{}
}

type manifest struct {
	mediaType string
	body      []byte
}

// Rule is one way to misbehave. The first rule that fits a request is applied.
type Rule struct {
	Path  string // part of the URL's path
	Times int    // how often it applies; 0 is always

	Status      int               // instead of 200, with an empty body unless Body is set
	Header      map[string]string // over the usual ones; an empty value removes one
	Body        []byte            // instead of the content
	Delay       time.Duration     // before the headers
	Redirect    string            // 307 to this URL
	HTML        bool              // 200 and a web page
	Cut         bool              // close the connection after At bytes of the body
	Corrupt     bool              // flip one bit of the byte At
	Hang        bool              // stand still after At bytes of the body
	At          int64
	IgnoreRange bool // send everything, as 200
	WrongRange  bool // send everything from 0 on, as 206 for another range
}

// Request is one that was made.
type Request struct {
	Method, Path string
	Query        string
	Header       http.Header
	Body         string
	Status       int
	Sent         int64 // bytes of the body
}

type auth struct {
	user, password string
	ttl            time.Duration
	basic          bool
	realm          string
	tokens         map[string]time.Time
}

// New starts a registry that speaks http.
func New() *Registry {
	r := newRegistry()
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	return r
}

// NewTLS starts one that speaks https, with a certificate of CertPEM.
func NewTLS() *Registry {
	r := newRegistry()
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.Server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	r.Server.StartTLS()
	return r
}

func newRegistry() *Registry {
	return &Registry{blobs: map[string][]byte{}, manifests: map[string]manifest{}, done: make(chan struct{})}
}

// Close ends the server and all that hangs.
func (r *Registry) Close() {
	close(r.done)
	r.Server.CloseClientConnections()
	r.Server.Close()
}

// Host is HOST:PORT, as names begin.
func (r *Registry) Host() string {
	_, host, _ := strings.Cut(r.URL, "://")
	return host
}

// CertPEM is the authority of a TLS registry, for a certs.d directory.
func (r *Registry) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
}

// Add adds rules, after those that are there.
func (r *Registry) Add(rules ...Rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range rules {
		r.rules = append(r.rules, &rule)
	}
}

// Reset forgets rules and log; the content stays.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules, r.log = nil, nil
}

// RequireToken wants a bearer token that lasts for ttl, from /token. With a user name it
// is given for the password only. realm is where the challenge sends; "" is here.
func (r *Registry) RequireToken(user, password string, ttl time.Duration, realm string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if realm == "" {
		realm = r.URL + "/token"
	}
	r.auth = &auth{user: user, password: password, ttl: ttl, realm: realm, tokens: map[string]time.Time{}}
}

// RequireBasic wants a user name and password with every request.
func (r *Registry) RequireBasic(user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = &auth{user: user, password: password, basic: true}
}

// Requests are all that were made, in the order in which they began.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Request, len(r.log))
	for i, q := range r.log {
		all[i] = *q
	}
	return all
}

// Count is the number of requests whose path holds part.
func (r *Registry) Count(part string) int {
	n := 0
	for _, q := range r.Requests() {
		if strings.Contains(q.Path, part) {
			n++
		}
	}
	return n
}

// Sent is the number of body bytes sent for paths that hold part.
func (r *Registry) Sent(part string) int64 {
	n := int64(0)
	for _, q := range r.Requests() {
		if strings.Contains(q.Path, part) {
			n += q.Sent
		}
	}
	return n
}

// PutBlob keeps a blob.
func (r *Registry) PutBlob(body []byte) digest.Digest {
	d := digest.FromBytes(body)
	r.PutBlobAs(d.String(), body)
	return d
}

// PutBlobAs keeps a blob under any digest.
func (r *Registry) PutBlobAs(d string, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[d] = body
}

// PutManifest keeps a manifest under a tag (or "") and its digest.
func (r *Registry) PutManifest(repo, tag, mediaType string, body []byte) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(body)
	r.manifests[repo+"@"+d.String()] = manifest{mediaType, body}
	if tag != "" {
		r.manifests[repo+"@"+tag] = manifest{mediaType, body}
	}
	return d
}

// PutImage keeps an image and all its blobs.
func (r *Registry) PutImage(repo, tag string, img *Image) digest.Digest {
	r.PutBlob(img.Config)
	for _, layer := range img.Layers {
		r.PutBlob(layer)
	}
	return r.PutManifest(repo, tag, img.MediaType, img.Manifest)
}

func (r *Registry) serve(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	out := &recorder{ResponseWriter: w, status: 200}
	entry := &Request{q.Method, q.URL.Path, q.URL.RawQuery, q.Header.Clone(), string(body), 0, 0}
	r.mu.Lock()
	r.log = append(r.log, entry) // before the client can have its answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		entry.Status, entry.Sent = out.status, out.sent
		r.mu.Unlock()
	}()
	rule := r.rule(q.URL.Path)
	select {
	case <-time.After(rule.Delay):
	case <-q.Context().Done():
		return
	}
	switch {
	case rule.Redirect != "":
		http.Redirect(out, q, rule.Redirect, http.StatusTemporaryRedirect)
	case rule.HTML:
		out.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(out, "<html><body>Please log in to the network</body></html>")
	case rule.Status != 0:
		rule.headers(out.Header())
		out.WriteHeader(rule.Status)
		out.Write(rule.Body)
	case q.URL.Path == "/token":
		r.token(out, q, string(body))
	case !r.admits(out, q):
	default:
		r.content(out, q, rule)
	}
}

func (r *Registry) rule(path string) Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range r.rules {
		if !strings.Contains(path, rule.Path) || rule.Times < 0 {
			continue
		}
		if rule.Times == 1 {
			rule.Times = -1 // used up
		} else if rule.Times > 1 {
			rule.Times--
		}
		return *rule
	}
	return Rule{}
}

func (rule Rule) headers(h http.Header) {
	for k, v := range rule.Header {
		h.Del(k)
		if v != "" {
			h.Set(k, v)
		}
	}
}

func (r *Registry) admits(w http.ResponseWriter, q *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.auth
	if a == nil {
		return true
	}
	kind, value, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	if a.basic {
		if kind == "Basic" && a.right(value) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	} else {
		if until, ok := a.tokens[value]; kind == "Bearer" && ok && time.Now().Before(until) {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="test",scope="repository:evil:push"`, a.realm))
	}
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	return false
}

func (a *auth) right(basic string) bool {
	return basic == base64.StdEncoding.EncodeToString([]byte(a.user+":"+a.password))
}

func (r *Registry) token(w http.ResponseWriter, q *http.Request, body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.auth; a != nil {
		refresh := strings.Contains(body, "refresh_token="+a.password) && a.password != ""
		if a.user != "" && !refresh && !a.right(strings.TrimPrefix(q.Header.Get("Authorization"), "Basic ")) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		token := fmt.Sprintf("token%d", len(a.tokens))
		a.tokens[token] = time.Now().Add(a.ttl)
		json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(a.ttl.Seconds())})
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"token": "anonymous"})
}

// content serves /v2/, /v2/REPO/manifests/REF and /v2/REPO/blobs/DIGEST.
func (r *Registry) content(w http.ResponseWriter, q *http.Request, rule Rule) {
	path := strings.TrimPrefix(q.URL.Path, "/v2/")
	if path == "" {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
		return
	}
	if repo, ref, ok := strings.Cut(path, "/manifests/"); ok {
		r.mu.Lock()
		m, ok := r.manifests[repo+"@"+ref]
		r.mu.Unlock()
		if !ok {
			notFound(w, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(m.body).String())
		w.Header().Set("Content-Type", m.mediaType)
		rule.send(w, q, m.body, r.done)
		return
	}
	_, d, _ := strings.Cut(path, "/blobs/")
	r.mu.Lock()
	body, ok := r.blobs[d]
	r.mu.Unlock()
	if !ok {
		notFound(w, "BLOB_UNKNOWN", "blob unknown")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	rule.send(w, q, body, r.done)
}

func notFound(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

// send writes the content, or the part of it that was asked for, with all that goes wrong.
func (rule Rule) send(w http.ResponseWriter, q *http.Request, body []byte, done chan struct{}) {
	if rule.Body != nil {
		body = rule.Body
	}
	if rule.Corrupt {
		body = slices.Clone(body)
		body[min(rule.At, int64(len(body)-1))] ^= 1
	}
	status, from := http.StatusOK, int64(0)
	if spec, ok := strings.CutPrefix(q.Header.Get("Range"), "bytes="); ok && !rule.IgnoreRange {
		start, err := strconv.ParseInt(strings.TrimSuffix(spec, "-"), 10, 64)
		if err != nil || start >= int64(len(body)) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		status, from = http.StatusPartialContent, start
		if rule.WrongRange {
			from = 0
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
	}
	body = body[from:]
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	rule.headers(w.Header())
	w.WriteHeader(status)
	if q.Method == http.MethodHead {
		return
	}
	if !rule.Cut && !rule.Hang {
		w.Write(body)
		return
	}
	w.Write(body[:min(rule.At, int64(len(body)))])
	w.(http.Flusher).Flush()
	if rule.Hang {
		select {
		case <-q.Context().Done():
		case <-done:
		}
	}
	panic(http.ErrAbortHandler) // close the connection
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	sent   int64
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.ResponseWriter.Write(p)
	r.sent += int64(n)
	return n, err
}

func (r *recorder) Flush() { r.ResponseWriter.(http.Flusher).Flush() }
