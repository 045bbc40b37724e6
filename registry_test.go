package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// A faulty is the registry of one script: all share the same images, each has its
// own log. The first words of a repository's name say how it answers:
//
//	NAME              as it should
//	status/503/NAME   always with this status
//	flaky/2/NAME      the first two requests for each blob fail with 503
//	cut/1000/NAME     a blob ends after so many bytes, however often it is asked for
//	slow/1000/NAME    blobs come with so many bytes a second
//	html/x/NAME       a web page
//	close/x/NAME      the connection is closed
//	wrong/x/NAME      one byte of every blob is changed
type faulty struct {
	images http.Handler
	login  bool // every request needs the user ada, the password lovelace

	mu    sync.Mutex
	log   strings.Builder // METHOD PATH STATUS [range=...]
	asked map[string]int  // blob requests by path
}

func newImages() http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) }

func serve(images http.Handler, login bool) (*faulty, *httptest.Server) {
	f := &faulty{images: images, login: login, asked: map[string]int{}}
	return f, httptest.NewServer(f)
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path, rec := req.URL.Path, &recorder{w, http.StatusOK}
	f.answer(rec, req)
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(&f.log, "%s %s %d", req.Method, path, rec.status)
	if r := req.Header.Get("Range"); r != "" {
		fmt.Fprintf(&f.log, " range=%s", r)
	}
	f.log.WriteByte('\n')
}

func (f *faulty) answer(w http.ResponseWriter, req *http.Request) {
	if user, password, _ := req.BasicAuth(); f.login && (user != "ada" || password != "lovelace") {
		w.Header().Set("WWW-Authenticate", `Basic realm="sbx test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	kind, arg, rest := fault(req.URL.Path)
	req.URL.Path = rest
	blob := req.Method == http.MethodGet && strings.Contains(rest, "/blobs/sha256:")
	n, _ := strconv.Atoi(arg)
	switch kind {
	case "status":
		if n == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, http.StatusText(n), n)
		return
	case "html":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html><body>Please log in to the hotel's network</body></html>")
		return
	case "close":
		panic(http.ErrAbortHandler)
	case "flaky":
		if blob && f.count(rest) <= n {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
	case "cut":
		if blob {
			w = &cutter{ResponseWriter: w, left: n}
		}
	case "slow":
		if blob {
			w = &slowly{ResponseWriter: w, rate: n}
		}
	case "wrong":
		if blob {
			w = &changer{ResponseWriter: w}
		}
	}
	if blob && kind != "" {
		f.serveBlob(w, req)
		return
	}
	f.images.ServeHTTP(w, req)
}

// serveBlob knows every form of Range, which the registry that holds the images does not.
func (f *faulty) serveBlob(w http.ResponseWriter, req *http.Request) {
	whole := req.Clone(req.Context())
	whole.Header.Del("Range")
	rec := httptest.NewRecorder()
	f.images.ServeHTTP(rec, whole)
	if rec.Code != http.StatusOK {
		w.WriteHeader(rec.Code)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(rec.Body.Bytes()))
}

// fault splits /v2/slow/1000/busybox/... into what is wrong, how much, and the path without it.
func fault(path string) (kind, arg, rest string) {
	words := strings.SplitN(path, "/", 5)
	if len(words) < 5 || words[1] != "v2" {
		return "", "", path
	}
	switch words[2] {
	case "status", "flaky", "cut", "slow", "html", "close", "wrong":
		return words[2], words[3], "/v2/" + words[4]
	}
	return "", "", path
}

func (f *faulty) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[path]++
	return f.asked[path]
}

func (f *faulty) requests() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.String()
}

// cutter ends the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(*recorder).ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// slowly writes rate bytes a second.
type slowly struct {
	http.ResponseWriter
	rate int
}

func (s *slowly) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = s.ResponseWriter.Write(p[:min(len(p), max(1, s.rate/20))])
		s.ResponseWriter.(*recorder).ResponseWriter.(http.Flusher).Flush()
		written, p = written+n, p[n:]
		time.Sleep(time.Duration(n) * time.Second / time.Duration(s.rate))
	}
	return written, err
}

// changer changes the first byte.
type changer struct {
	http.ResponseWriter
	done bool
}

func (c *changer) Write(p []byte) (int, error) {
	if !c.done && len(p) > 0 {
		c.done = true
		q := append([]byte(nil), p...)
		q[len(q)-1] ^= 1
		return c.ResponseWriter.Write(q)
	}
	return c.ResponseWriter.Write(p)
}
