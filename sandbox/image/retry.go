//go:build !hot

package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	defaultRetries = 3
	maxRetryAfter  = 2 * time.Minute
)

// retry says how often to try again, and how patiently.
type retry struct {
	max   int
	delay time.Duration                  // between two tries; 0 is 0.5 s, 1 s, 2 s, ... each with jitter
	say   func(line string, args ...any) // tells of a wait that a person notices; may be nil
}

// do calls f until it succeeds, fails for good, or max tries after the first have failed
// without any progress in between; f says whether it made some.
func (r retry) do(ctx context.Context, f func() (progress bool, err error)) error {
	for failures := 0; ; {
		progress, err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if progress {
			failures = 0
		}
		failures++
		if !temporary(err) {
			return err
		}
		if failures > r.max {
			if failures > 1 {
				return fmt.Errorf("after %d tries: %w", failures, err)
			}
			return err
		}
		wait, gaveUp := r.wait(failures, err)
		if gaveUp != nil {
			return gaveUp
		}
		if r.say != nil && wait >= time.Second {
			r.say("Waiting %s: %v (try %d of %d)", wait.Round(time.Second), err, failures, r.max+1)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

func (r retry) wait(failures int, cause error) (time.Duration, error) {
	wait := r.delay
	if wait == 0 {
		wait = 500 * time.Millisecond << min(failures-1, 6)
		wait += rand.N(wait / 2)
	}
	if answer, ok := errors.AsType[*RegistryError](cause); ok && answer.RetryAfter > wait {
		if answer.RetryAfter > maxRetryAfter {
			return 0, withHint(cause, fmt.Sprintf("it asks to be left alone for %s", answer.RetryAfter.Round(time.Second)))
		}
		wait = answer.RetryAfter
	}
	return wait, nil
}

// temporary tells what may succeed when tried again: a server that is busy or breaks
// off. A refused connection, an unknown host, a bad certificate stay what they are.
func temporary(err error) bool {
	if answer, ok := errors.AsType[*RegistryError](err); ok {
		switch answer.Status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		}
		return answer.Status >= 500 && answer.Status != http.StatusNotImplemented
	}
	if _, ok := errors.AsType[*forbiddenTarget](err); ok {
		return false
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary || dns.IsTimeout
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, errIdle), errors.Is(err, errShort):
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
