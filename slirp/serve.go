//go:build !hot

package slirp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Serve is the life of sbx-net: a Stack, for as long as the other end of the control socket is
// there; or with MembersArg a Switch, for as long as it has members. It does not return.
func Serve() {
	if len(os.Args) > 1 && os.Args[1] == MembersArg {
		serveMembersOrDie()
	}
	unix.CloseOnExec(ControlFD)
	unix.SetNonblock(ControlFD, true)
	control := os.NewFile(ControlFD, "control socket")
	if err := serve(control); err != nil {
		fmt.Fprintln(os.Stderr, "sbx: network:", err)
		os.Exit(125)
	}
	os.Exit(0)
}

// memoryLimit is what one sandbox's network may take before garbage, and stacks that were deep once, are looked for
// all the time. With all the flows that there may be, and all that they may have waiting, it takes about as much.
const memoryLimit = 160 << 20

func serve(control *os.File) error {
	debug.SetMemoryLimit(memoryLimit)
	if err := confine(-1); err != nil {
		return Send(control, Reply{Failure: "confine sbx-net: " + err.Error()}, nil)
	}
	var first Order
	log, err := Receive(control, &first)
	if err != nil || first.Config == nil {
		return quiet(err)
	}
	s, err := New(*first.Config)
	if err != nil {
		return Send(control, Reply{Failure: err.Error()}, nil)
	}
	defer func() {
		time.AfterFunc(LastLines+time.Second, func() { os.Exit(0) }) // with a log, nobody kills this process
		s.Close()
		if first.Counts {
			s.Counters().tell(control)
		}
	}()
	s.WarnTo(func(text string) { Send(control, Reply{Warning: text}, nil) })
	if log != nil {
		s.LogTo(log)
	}
	chosen, err := s.Publish()
	if err != nil {
		return Send(control, failed(err), nil)
	}
	if err := Send(control, Reply{Ports: chosen}, nil); err != nil {
		return quiet(err)
	}
	for {
		var next Order
		f, err := Receive(control, &next)
		if err != nil || f == nil {
			return quiet(err)
		}
		if next.Sockets {
			s.Accept(f)
		} else if err := s.Serve(f); err != nil {
			return Send(control, failed(err), nil)
		}
	}
}

func failed(err error) Reply {
	r := Reply{Failure: err.Error()}
	if hint, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		r.Fix = hint.Hint()
	}
	return r
}

// quiet: that sbx has ended is nothing to speak of.
func quiet(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}
