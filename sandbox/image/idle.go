//go:build !hot

package image

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// errIdle is the end of a transfer that stands still.
var errIdle = errors.New("no data for a minute")

// whileAlive does one request. Neither the headers nor any later read may take longer than idle.
func whileAlive(r *http.Request, idle time.Duration, do func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(idle, func() { cancel(errIdle) })
	resp, err := do(r.WithContext(ctx))
	timer.Stop()
	if err != nil {
		if context.Cause(ctx) == errIdle {
			err = errIdle
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &idleBody{body: resp.Body, ctx: ctx, cancel: cancel, timer: timer, idle: idle}
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
