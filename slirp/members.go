//go:build !hot

package slirp

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	joinTime  = 10 * time.Second // for a member to say who it is
	leaveTime = 2 * time.Second  // for one that has ended to be gone
)

// hall is an sbx-net that serves a network: every member has a connection to it, by which it
// sends its Config and its link, as to an sbx-net of its own. The end of the connection is the
// end of the member. The process ends with its last member, and is nobody's child to die with.
type hall struct {
	listener int
	live     int
	program  string
	net      string
	sw       *Switch
	files    *descriptors

	mu    sync.Mutex
	count int
	left  chan struct{} // somebody has left
}

func serveMembers() error {
	for _, fd := range []int{ControlFD, LiveFD} {
		unix.CloseOnExec(fd)
	}
	h := &hall{listener: ControlFD, live: LiveFD, program: Program(), net: Net(), sw: NewSwitch(), files: newDescriptors(), left: make(chan struct{}, 1)}
	if err := confine(LiveFD); err != nil {
		return err // whoever waits for an answer sees the end of this process
	}
	return h.serve()
}

// serve accepts members until there is none any more. Whoever comes holds the lock of the
// directory until it is connected, so nobody comes to a closed door.
func (h *hall) serve() error {
	unix.SetNonblock(h.listener, true)
	listener := os.NewFile(uintptr(h.listener), "socket of the network")
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	go h.accept(raw.Read)
	for {
		if h.members() == 0 {
			if over, err := h.closeDoor(); over || err != nil {
				return err
			}
		}
		<-h.left
	}
}

func (h *hall) accept(read func(func(uintptr) bool) error) {
	for {
		var conn int
		var failed error
		err := read(func(fd uintptr) bool {
			h.mu.Lock() // so that closeDoor sees it waiting, or counted
			defer h.mu.Unlock()
			conn, _, failed = unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if failed == nil {
				h.count++
				debug.SetMemoryLimit(int64(h.count) * memoryLimit)
			}
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil:
			return
		case failed == unix.EMFILE, failed == unix.ENFILE, failed == unix.ENOMEM, failed == unix.ENOBUFS:
			time.Sleep(100 * time.Millisecond)
		case failed == nil:
			go func() {
				defer h.leave()
				h.member(os.NewFile(uintptr(conn), "member"))
			}()
		}
	}
}

func (h *hall) members() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

func (h *hall) leave() {
	h.mu.Lock()
	h.count--
	debug.SetMemoryLimit(int64(max(1, h.count)) * memoryLimit)
	h.mu.Unlock()
	select {
	case h.left <- struct{}{}:
	default:
	}
}

// closeDoor removes the socket, unless somebody is coming.
func (h *hall) closeDoor() (over bool, err error) {
	for {
		if err = unix.Flock(h.live, unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return true, err
	}
	defer unix.Flock(h.live, unix.LOCK_UN)
	h.mu.Lock()
	defer h.mu.Unlock()
	waiting := []unix.PollFd{{Fd: int32(h.listener), Events: unix.POLLIN}}
	if n, err := unix.Poll(waiting, 0); err != nil && err != unix.EINTR {
		return true, err
	} else if n != 0 || err != nil || h.count > 0 {
		select { // look again
		case h.left <- struct{}{}:
		default:
		}
		return false, nil
	}
	return true, unix.Unlinkat(h.live, SocketName, 0)
}

// member serves one, until its connection ends.
func (h *hall) member(control *os.File) {
	defer control.Close()
	if !sameUser(control) {
		return
	}
	control.SetReadDeadline(time.Now().Add(joinTime))
	var first Order
	log, err := Receive(control, &first)
	if err != nil {
		return
	}
	defer log.Close() // nil, too
	if first.Config == nil || first.Config.Member == nil {
		return
	}
	control.SetReadDeadline(time.Time{})
	switch {
	case first.Program != h.program:
		Send(control, Reply{Failure: "another version of sbx serves it", Fix: "end the sandboxes on network " + first.Config.Member.Network + " first"}, nil)
		return
	case first.Net != h.net:
		Send(control, Reply{Failure: "the sandboxes on it are in another net namespace, by whose network all of it goes", Fix: "start this one where they were started, or on a network that nobody is on"}, nil)
		return
	}
	s, err := newStack(*first.Config, h.files.part())
	if err != nil {
		Send(control, Reply{Failure: err.Error()}, nil)
		return
	}
	defer s.destroy()
	p, err := h.join(*first.Config)
	if err != nil {
		Send(control, Reply{Failure: err.Error()}, nil)
		return
	}
	defer func() { // before the rest, of which the log takes its time
		s.published.close()
		p.leave()
		if first.Counts {
			c := s.Counters()
			c.Foreign = p.dropped.Load()
			c.tell(control)
		}
	}()
	s.peers, s.floor = h.sw, &h.sw.floor
	if err := s.attach(newGateway(p)); err != nil {
		Send(control, Reply{Failure: err.Error()}, nil)
		return
	}
	p.warn = func(text string) { Send(control, Reply{Warning: text}, nil) }
	s.WarnTo(p.warn)
	if log != nil {
		s.LogTo(log)
	}
	chosen, err := h.publish(s, p)
	if err != nil {
		Send(control, failed(err), nil)
		return
	}
	if Send(control, Reply{Ports: chosen}, nil) != nil {
		return
	}
	if err := serveLinks(control, p, s); err != nil {
		Send(control, Reply{Failure: err.Error()}, nil)
	}
}

// serveLinks waits for the member's link, and for what sockets in there are asked for on, and then
// for its end, or that of the link.
func serveLinks(control *os.File, p *port, s *Stack) error {
	failed := make(chan error, 1)
	for {
		var next Order
		f, err := Receive(control, &next)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return <-failed
		}
		if err != nil || f == nil {
			return quiet(err)
		}
		switch {
		case next.Sockets:
			s.Accept(f)
			continue
		case next.Asks:
			s.AskAside(f)
			continue
		case next.Answers:
			go s.AnswerAside(f)
			continue
		}
		if err := p.connect(f, s.fit); err != nil {
			return fmt.Errorf("link: %w", err)
		}
		go func() {
			if err := p.serve(); p.link.Load() != nil { // else the member has left
				failed <- fmt.Errorf("link: %w", err)
				control.SetReadDeadline(time.Unix(1, 0))
			}
		}()
	}
}

// join waits for who had the address before, and has ended.
func (h *hall) join(c Config) (*port, error) {
	for end := time.Now().Add(leaveTime); ; {
		p, err := h.sw.join(c)
		if !errors.Is(err, errTaken) || time.Now().After(end) {
			return p, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// publish does the same for who had the port.
func (h *hall) publish(s *Stack, p *port) ([]uint16, error) {
	for end := time.Now().Add(leaveTime); ; {
		chosen, err := s.Publish()
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(end) || !h.sw.published(p) {
			return chosen, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// connect takes over the member's end of the link, after fit has seen it.
func (p *port) connect(link *os.File, fit func(fd int) error) error {
	raw, err := link.SyscallConn()
	if err == nil {
		var refused error
		err = raw.Control(func(fd uintptr) {
			refused = errors.Join(unix.SetNonblock(int(fd), true), fit(int(fd))) // nobody waits for one member
		})
		err = errors.Join(err, refused)
	}
	if err != nil {
		link.Close()
		return err
	}
	if !p.link.CompareAndSwap(nil, &linkFile{link, raw}) {
		link.Close()
		return errors.New("a member has one link")
	}
	return nil
}

// sameUser: the socket's directory is closed to others; this is the second door.
func sameUser(control *os.File) bool {
	raw, err := control.SyscallConn()
	if err != nil {
		return false
	}
	same := false
	raw.Control(func(fd uintptr) {
		who, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		same = err == nil && int(who.Uid) == os.Getuid()
	})
	return same
}

// serveMembersOrDie is for Serve.
func serveMembersOrDie() {
	if err := serveMembers(); err != nil {
		fmt.Fprintln(os.Stderr, "sbx: network:", err)
		os.Exit(125)
	}
	os.Exit(0)
}
