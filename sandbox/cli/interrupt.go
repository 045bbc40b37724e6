//go:build !hot

package cli

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// interrupted ends what was under way; the exit status tells the shell why.
type interrupted struct{ signal unix.Signal }

func (e *interrupted) Error() string   { return "interrupted by " + unix.SignalName(e.signal) }
func (e *interrupted) ExitStatus() int { return 128 + int(e.signal) }

// interruptible gives a context that ends when sbx is asked to end: who began
// something then undoes what is half done. Asked a second time, sbx ends at once.
func interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(s) { // as nohup(1) has it
			signal.Notify(signals, s)
		}
	}
	go func() {
		for s := range signals {
			reason := &interrupted{s.(unix.Signal)}
			if ctx.Err() != nil {
				os.Exit(reason.ExitStatus())
			}
			cancel(reason)
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals); cancel(nil) }
}
