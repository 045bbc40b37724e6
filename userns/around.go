package userns

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Around is where a stage is to come into being if that is not where its caller is: in a net
// namespace of others, in a user namespace around its own.
//
//	caller ── gate            enters User and Net, or makes a user namespace
//	   └───── the stage       its sibling: the gate's clone(2) says CLONE_PARENT
//
// The gate is a process of a few system calls, since no thread of Go's runtime can enter a
// user namespace. It maps the ids of the stage, too: only a process in the namespace around
// may (user_namespaces(7)). Then it ends, and nobody is left in between.
type Around struct {
	New  bool     // make a user namespace,
	User *os.File // or enter this one, or neither;
	Net  *os.File // then enter this net namespace, or none
	Map  Map      // what ids the user namespace has, of the caller's, if there is one
}

// between: the stage's user namespace is not made in the caller's.
func (o *Around) between() bool { return o != nil && (o.New || o.User != nil) }

// gate starts the gate, and the program in its own user namespace and those of flags. It does
// meanwhile what the caller has to do anyway.
func (s *Stage) gate(p *Program, flags uintptr, meanwhile func()) (_ *Child, err error) {
	o := s.Around
	var pipes [6]*os.File // to the gate, from the gate, to the stage
	for i := 0; i < len(pipes); i += 2 {
		if pipes[i], pipes[i+1], err = os.Pipe(); err != nil {
			return nil, fmt.Errorf("pipe: %w", err)
		}
		defer pipes[i].Close()
		defer pipes[i+1].Close()
	}
	downR, downW, upR, upW, goR, goW := pipes[0], pipes[1], pipes[2], pipes[3], pipes[4], pipes[5]
	errs, report, err := p.reportPipe()
	if err != nil {
		return nil, err
	}
	defer func() {
		unix.Close(report)
		if err != nil {
			unix.Close(errs)
		}
	}()

	// Once it has executed something, with nothing mapped, what the process has in /proc is
	// root's, and closed to the gate.
	wait := new(Program)
	wait.follow(goW)
	wait.Await("wait for the ids", int(goR.Fd()))
	p.calls, p.keep = append(wait.calls, p.calls...), append(wait.keep, p.keep...)

	g := new(Program)
	gateFlags := uintptr(0)
	g.follow(downW)
	if o.User != nil {
		g.Do("enter the user namespace", unix.SYS_SETNS, int(o.User.Fd()), unix.CLONE_NEWUSER)
	}
	if o.New {
		gateFlags = unix.CLONE_NEWUSER
		g.Await("wait for the ids", int(downR.Fd()))
	}
	if o.Net != nil {
		g.Do("enter the net namespace", unix.SYS_SETNS, int(o.Net.Fd()), unix.CLONE_NEWNET)
	}
	stack := make([]byte, childStack)
	pid := g.spawn(p, flags, stack, report)
	g.Do("report", unix.SYS_WRITE, int(upW.Fd()), "x", 1)
	dir := make([]byte, len("/proc/2147483647\x00")) // filled in when the process is there
	if o.between() {
		g.Await("wait for the name of the process", int(downR.Fd()))
		g.mapIDs(dir, s.Map.In(o.Map))
	}
	gate, err := g.Spawn(gateFlags)
	if err != nil {
		return nil, err
	}
	defer unix.Close(gate.PidFD)
	upW.Close() // so that the end of the gate is one of file
	if o.New {
		mapping := o.Map.begin(gate.Pid, s.Caller)
		meanwhile()
		if err := mapping.end(); err != nil {
			unix.PidfdSendSignal(gate.PidFD, unix.SIGKILL, nil, 0)
			return nil, errors.Join(fmt.Errorf("map ids: %w", err), gate.passed())
		}
		downW.Write([]byte{1})
	}
	var child *Child
	if n, _ := upR.Read(make([]byte, 1)); n == 1 {
		// It is this process's child, and waits to be waited for: the id is no other's.
		child = &Child{Pid: int(*pid), errs: errs, program: p, stack: stack}
		copy(dir, "/proc/"+strconv.Itoa(child.Pid))
		downW.Write([]byte{1})
		child.PidFD, err = unix.PidfdOpen(child.Pid, 0)
	}
	if err = errors.Join(err, gate.passed()); err == nil {
		_, err = goW.Write([]byte{1})
	}
	if err == nil {
		return child, nil
	}
	if child != nil {
		unix.Kill(child.Pid, unix.SIGKILL)
		child.Wait()
		unix.Close(child.PidFD)
	}
	return nil, err
}

// passed waits for the end of a gate, and tells what was refused to it. The stage has the other
// end of the report, too, so that there is one is known by the status only.
func (c *Child) passed() error {
	status, err := c.Wait()
	switch {
	case err != nil:
	case status.Signaled():
		err = fmt.Errorf("enter the namespaces: %v", status.Signal())
	case status != 0:
		return c.Executed()
	}
	unix.Close(c.errs)
	return err
}

// follow makes the process end with the parent: by signal, or where that was not asked for
// yet, by the end of the pipe, of which it has the other end, too.
func (p *Program) follow(w *os.File) {
	p.Do("close", unix.SYS_CLOSE, int(w.Fd()))
	p.Do("die with the parent", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
}

// mapIDs writes the maps of the process whose directory of /proc is dir.
func (p *Program) mapIDs(dir []byte, m Map) {
	at := p.Do("find the process", unix.SYS_OPENAT, unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for _, kind := range []struct {
		file string
		ids  []ID
	}{{"gid_map", m.GIDs}, {"uid_map", m.UIDs}} {
		f := p.Do("open "+kind.file, unix.SYS_OPENAT, at, kind.file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		text := Text(kind.ids)
		p.Do("write "+kind.file, unix.SYS_WRITE, f, text, len(text))
	}
}

// MapOf reads which ids a user namespace has, of those of the caller's, which it is a child of.
func MapOf(user *os.File) (Map, error) {
	var m Map
	var read [2]*Result
	texts := [2][]byte{make([]byte, os.Getpagesize()), make([]byte, os.Getpagesize())} // a map is less than a page
	p := new(Program)
	p.Do("enter the user namespace", unix.SYS_SETNS, int(user.Fd()), unix.CLONE_NEWUSER)
	for i, name := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		f := p.Do("open "+name, unix.SYS_OPENAT, unix.AT_FDCWD, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		read[i] = p.Do("read "+name, unix.SYS_READ, f, texts[i], len(texts[i]))
	}
	child, err := p.Spawn(0)
	if err != nil {
		return m, err
	}
	defer unix.Close(child.PidFD)
	err = child.Executed()
	if _, waitErr := child.Wait(); err == nil {
		err = waitErr
	}
	if err != nil {
		return m, err
	}
	var err2 error
	m.UIDs, err = parseMap(string(texts[0][:*read[0]]))
	m.GIDs, err2 = parseMap(string(texts[1][:*read[1]]))
	return m, errors.Join(err, err2)
}
