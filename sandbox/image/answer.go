//go:build !hot

package image

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	registry "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

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
	html := isHTML(resp)
	if resp.StatusCode/100 == 2 && !html {
		return nil
	}
	defer resp.Body.Close()
	e := &RegistryError{Host: saidHost(resp.Request), Status: resp.StatusCode, HTML: html, RetryAfter: retryAfter(resp.Header)}
	var said struct {
		Errors []struct{ Code, Message string }
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && json.Unmarshal(data, &said) == nil && len(said.Errors) > 0 {
		e.Code, e.Message = quoteless(said.Errors[0].Code), quoteless(said.Errors[0].Message)
	}
	return e
}

// answerOf is what the library made of an answer that it read itself.
func answerOf(refused *registry.Error) *RegistryError {
	e := &RegistryError{Host: saidHost(refused.Request), Status: refused.StatusCode}
	if len(refused.Errors) > 0 {
		e.Code, e.Message = quoteless(string(refused.Errors[0].Code)), quoteless(refused.Errors[0].Message)
	}
	return e
}

func isHTML(resp *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return kind == "text/html"
}

// saidHost is the host as a person knows it.
func saidHost(r *http.Request) string {
	if host := r.URL.Host; host != "index.docker.io" && host != "registry-1.docker.io" {
		return host
	}
	return "docker.io"
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
