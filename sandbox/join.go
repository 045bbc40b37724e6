package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"

	"sbx/userns"
)

// Joining a network: the sandbox has the net namespace of another sandbox (container:NAME), or
// one that a path leads to (ns:PATH), in the place of one of its own.
//
// A net namespace belongs to a user namespace, and only who has CAP_SYS_ADMIN there may enter
// it (setns(2)). So the sandbox's own user namespace is made inside the outermost one that is
// between the caller's and the net namespace:
//
//	the caller's ─┬─ of an unnamed sandbox, with limit 0 to what is in it
//	              └─ of a named one, around it ─┬─ the sandbox's: its limit is 0. Owns the net namespace
//	                                            └─ that of who joins: its limit is 0, too
//
// No process stays in the one between (userns.Around), so that nobody has capabilities over both.
// The two below it are as strange to each other as those of two sandboxes that have nothing
// in common: had the second been made inside of the first, whose root has the id of the
// caller and is thereby the owner of what is made there, that would have had every
// capability over the second; a pidfd of one of its processes is to be had from any socket
// that both are at (SO_PEERPIDFD, unix(7)). It is also why the limit can stay as it is.
// The price is that who joins has no capability over the network: CAP_NET_RAW and CAP_NET_ADMIN
// mean nothing there, and ports below 1024 are open to all in a network of a named sandbox.

// Joined is the net namespace that the user names, as it was found.
type Joined struct {
	Path  string // leads to it, as long as
	Inode uint64 // is its number
	Own   bool   // it is the one that sbx is in: there is nothing to join

	// Around are the ids of the user namespace in which the sandbox's is to be made, of the
	// caller's; nil where it is the caller's.
	Around *userns.Map

	Resolv, Hosts *string // what the other sandbox's files say; nil is nothing that sbx wrote
}

// joins: the mode of --network names a net namespace of others.
func joins(mode string) bool { return container(mode) || strings.HasPrefix(mode, "ns:") }

func container(mode string) bool { return strings.HasPrefix(mode, "container:") }

// findJoined finds the net namespace of the mode.
func findJoined(runs, mode string) (*Joined, error) {
	j, err := lookForJoined(runs, mode)
	if err != nil {
		err = fmt.Errorf("--network %s: %w", mode, err)
	}
	return j, err
}

func lookForJoined(runs, mode string) (*Joined, error) {
	name, other := strings.CutPrefix(mode, "container:")
	if !other {
		return joinedAt(strings.TrimPrefix(mode, "ns:"))
	}
	r, err := findRunning(runs, name)
	if err != nil {
		return nil, err
	}
	defer r.dir.Close()
	a, err := r.about()
	if err != nil {
		return nil, err
	}
	j, err := joinedAt(fmt.Sprintf("/proc/%d/fd/%d", a.Pid, a.Net))
	told, _ := errors.AsType[*Error](err)
	switch {
	case !r.alive(): // so that what was found may be anybody's
		return nil, r.gone()
	case told != nil && told.Fix != "":
		return nil, err
	case err != nil || j.Inode != a.Inode:
		return nil, &Error{Text: "its process cannot be seen from here", Fix: "run sbx where that sandbox was started: in the same pid namespace"}
	}
	j.Resolv, j.Hosts = a.Resolv, a.Hosts
	return j, nil
}

func joinedAt(path string) (*Joined, error) {
	net, user, err := openJoined(path)
	if err != nil {
		return nil, err
	}
	defer net.Close()
	defer user.Close() // nil, too
	j := &Joined{Path: path}
	if j.Inode, err = inode(net); err != nil {
		return nil, err
	}
	if j.Own, err = isAt(net, "/proc/self/ns/net"); err != nil || j.Own {
		return j, err
	}
	if user == nil {
		if !mayJoin() {
			return nil, &Error{Text: "it belongs to the user namespace that sbx is in, whose root alone may join it", Fix: "make one that is yours: unshare --map-root-user --map-auto --net"}
		}
		return j, nil
	}
	ids, err := userns.MapOf(user)
	if err != nil {
		return nil, fmt.Errorf("its user namespace: %w", err)
	}
	j.Around = &ids
	return j, nil
}

// openJoined opens the net namespace at path, and the user namespace that is to be entered
// before it, nil if none is.
func openJoined(path string) (net, user *os.File, err error) {
	found, err := ns.GetNS(path)
	if err != nil {
		return nil, nil, notNamespace(path, err)
	}
	defer found.Close()
	fd, err := unix.FcntlInt(found.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	net = os.NewFile(uintptr(fd), path)
	defer func() {
		if err != nil {
			net.Close()
		}
	}()
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return nil, nil, errors.Join(Errorf("%s is not a net namespace", path), err)
	}
	if own, err := isAt(net, "/proc/self/ns/net"); err != nil || own {
		return net, nil, err
	}
	user, err = outermost(net)
	return net, user, err
}

// notNamespace says in our words what the library found.
func notNamespace(path string, err error) error {
	if _, ok := errors.AsType[ns.NSPathNotNSErr](err); ok {
		return Errorf("%s is not a namespace", path)
	}
	// It does not keep the kernel's answer.
	if _, err := os.Stat(path); err != nil {
		return err
	}
	return err
}

// outermost returns the user namespace that is a child of this process's, and that the net
// namespace belongs to, or one below it; nil where it belongs to this process's own.
func outermost(net *os.File) (*os.File, error) {
	var user *os.File // nil, or found already
	get, at := uint(unix.NS_GET_USERNS), net
	for {
		fd, err := unix.IoctlRetInt(int(at.Fd()), get)
		if err != nil {
			user.Close()
			if errors.Is(err, unix.EPERM) { // ioctl_ns(2)
				err = &Error{Text: "it belongs to a user namespace that is neither yours nor inside of yours", Fix: "make one that is: unshare --map-root-user --map-auto --net"}
			}
			return nil, err
		}
		unix.CloseOnExec(fd)
		around := os.NewFile(uintptr(fd), "user namespace")
		own, err := isAt(around, "/proc/self/ns/user")
		if err != nil || own {
			around.Close()
			return user, err
		}
		user.Close()
		get, at, user = unix.NS_GET_PARENT, around, around
	}
}

func inode(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return st.Ino, nil
}

// isAt: the namespace is the one at path.
func isAt(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b), err
}

// mayJoin: this process may enter what belongs to its own user namespace.
func mayJoin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// around is what the plan's user namespace lies in, and the net namespace that the sandbox joins; nil for neither. done
// closes what it holds.
func (p *Plan) around() (o *userns.Around, done func(), err error) {
	done = func() {}
	if p.Join == nil {
		if p.Around != nil {
			o = &userns.Around{New: true, Map: *p.Around}
		}
		return o, done, nil
	}
	net, user, err := openJoined(p.Join.Path)
	if err == nil {
		done = func() { net.Close(); user.Close() }
		var n uint64
		if n, err = inode(net); err == nil && (n != p.Join.Inode || (user != nil) != (p.Around != nil)) {
			err = errors.New("it has ended meanwhile")
		}
	}
	if err != nil {
		done()
		return nil, func() {}, fmt.Errorf("--network %s: %w", p.Network, err)
	}
	o = &userns.Around{User: user, Net: net}
	if p.Around != nil {
		o.Map = *p.Around
	}
	return o, done, nil
}

// joinRefused says of what was refused on the way into a network of others how it comes.
func (p *Plan) joinRefused(err error) error {
	call, ok := errors.AsType[*userns.CallError](err)
	if !ok || p.Join == nil {
		return err
	}
	e := &Error{Text: "--network " + p.Network, Err: call}
	if errors.Is(err, unix.ENOSPC) {
		e.Err = fmt.Errorf("%w: the user namespace around that network allows none inside of it (user.max_user_namespaces)", call)
		e.Fix = "a sandbox whose network others join is started with --name"
	}
	return e
}
