package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"sbx/slirp"
	"sbx/userns"
)

// A user-defined network has one sbx-net for all its members. It is started by the first, under
// the lock of the network's directory, and listens there; everybody connects under the same
// lock, and it takes it before it ends, so that nobody comes when it is leaving. It is nobody's
// child: the death of whoever started it ends nothing.

// joinNetwork connects the sandbox to a network. The log, if any, stays the caller's to close. An
// sbx-net that somebody kills at that moment has a successor.
func joinNetwork(m *Membership, log *os.File, counts func(string)) (n *network, err error) {
	for range 3 {
		n, err = tryJoin(m, log, counts)
		if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
			return n, err
		}
	}
	return nil, fmt.Errorf("sbx-net ends at once: %w", err)
}

func tryJoin(m *Membership, log *os.File, counts func(string)) (*network, error) {
	control, err := connectMember(m.Live)
	if err != nil {
		return nil, err
	}
	n := &network{control: control, ended: make(chan struct{}), last: log != nil || counts != nil, counts: counts}
	err = slirp.Send(control, slirp.Order{Config: &m.Link, Program: slirp.Program(), Net: slirp.Net(), Counts: counts != nil}, log)
	if err == nil {
		_, err = n.ready()
	}
	if err != nil {
		control.Close()
		return nil, err
	}
	return n, nil
}

// introduce lets the resolver that answers for everybody's names ask the networks whose own resolv.conf has no
// room for.
func introduce(networks []*network, plan []Membership) error {
	for i := range plan {
		if !plan[i].Link.Member.Aside {
			continue
		}
		for j := range plan {
			if !plan[j].Link.Member.Resolves {
				continue
			}
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return fmt.Errorf("socketpair: %w", err)
			}
			answers, asks := os.NewFile(uintptr(pair[0]), "answers"), os.NewFile(uintptr(pair[1]), "asks")
			defer answers.Close()
			defer asks.Close()
			if err := slirp.Send(networks[i].control, slirp.Order{Answers: true}, answers); err != nil {
				return err
			}
			if err := slirp.Send(networks[j].control, slirp.Order{Asks: true}, asks); err != nil {
				return err
			}
		}
	}
	return nil
}

func connectMember(live string) (*os.File, error) {
	dir, err := lockDir(live, 0)
	if err != nil {
		return nil, err
	}
	if dir == nil {
		return nil, errors.New("it has been removed")
	}
	defer dir.Close()
	defer unix.Flock(int(dir.Fd()), unix.LOCK_UN) // whatever else has this descriptor for a moment
	control, err := dialMembers(dir)
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
		return control, err
	}
	if err := startMembers(dir, live); err != nil {
		return nil, fmt.Errorf("start sbx-net: %w", err)
	}
	return dialMembers(dir)
}

// membersAddress leads to the socket whatever the length of the directory's name.
func membersAddress(dir *os.File) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), slirp.SocketName)}
}

func dialMembers(dir *os.File) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(fd, membersAddress(dir)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to sbx-net: %w", err)
	}
	unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "sbx-net"), nil
}

// startMembers starts the sbx-net of a network, which listens before it runs. A socket that is there is
// one that a killed one has left.
func startMembers(dir *os.File, live string) error {
	own, err := os.OpenFile(live, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0) // with a lock of its own
	if err != nil {
		return err
	}
	defer own.Close()
	if err := unix.Unlinkat(int(dir.Fd()), slirp.SocketName, 0); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: live + "/" + slirp.SocketName, Err: err}
	}
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, membersAddress(dir)); err != nil {
		return fmt.Errorf("bind %s/%s: %w", live, slirp.SocketName, err)
	}
	if err := unix.Listen(listener, unix.SOMAXCONN); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p := new(userns.Program)
	p.Do("new session", unix.SYS_SETSID)
	p.Do("no new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	p.Do("leave the working directory", unix.SYS_CHDIR, "/")
	p.Files([]int{userns.DevNull, userns.DevNull, userns.DevNull, listener, int(own.Fd())})
	if err := p.Exec([]string{"/proc/self/exe"}, []string{"sbx-net", slirp.MembersArg}, nil); err != nil {
		return err
	}
	child, err := p.Spawn(0)
	if err != nil {
		return err
	}
	defer unix.Close(child.PidFD)
	return child.Executed()
}
