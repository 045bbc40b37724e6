package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/slirp"
	"sbx/userns"
)

// finish does what needs the command's process to be there, and lets it go on.
func (b *builder) finish(c *command) error {
	defer c.ready.Close()
	defer c.proceed.Close()
	if n, _ := c.ready.Read(make([]byte, 1)); n == 0 {
		return b.explain(c.Executed())
	}
	for _, part := range []struct {
		what string
		do   func() error
	}{
		{"mount /proc", b.bindProc},
		{"enter the inner user namespace", func() error { return b.mapInner(c) }},
		{"set hostname", b.setHostname},
		{"bring up the loopback interface", b.loopbackUp},
		{"connect the network", func() error { return b.connectNetwork(c) }},
		{"", b.allowPing},
		{"", b.allowJoin},
		{"", b.setSysctls},
		{"build root", b.lateSteps},
		{"change root", b.pivot},
	} {
		if err := part.do(); err != nil {
			return within(part.what, err)
		}
	}
	if _, err := c.proceed.Write([]byte("x")); err != nil {
		return b.explain(c.Executed())
	}
	return b.explain(c.Executed())
}

// bindProc puts the /proc around us where there is no new one.
func (b *builder) bindProc() error {
	if b.freshProc {
		return nil
	}
	if b.src.proc == nil {
		return errors.New("there is none around the sandbox")
	}
	target, err := b.tree.kernelDirectory("/proc")
	if err != nil {
		return err
	}
	defer target.Close()
	if err := setAttributes(b.src.proc, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, unix.MS_PRIVATE, true); err != nil {
		return err
	}
	return attach(b.src.proc, target)
}

// mapInner writes the id maps of the inner user namespace, and joins the namespaces that
// it owns with this thread: they are set up from here.
func (b *builder) mapInner(c *command) error {
	if b.p.Inner == nil {
		return nil
	}
	pid, err := b.pidIn(c)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		file string
		ids  []userns.ID
	}{{"uid_map", b.p.Inner.UIDs}, {"gid_map", b.p.Inner.GIDs}} {
		f, err := b.tree.openFlags("/proc/"+pid+"/"+m.file, unix.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(userns.Text(m.ids))
		f.Close()
		if err != nil {
			return err
		}
	}
	if join := b.innerNamespaces(); join != 0 { // with the cgroup namespace: its file system is mounted from here
		if err := unix.Setns(c.PidFD, join); err != nil {
			return &fs.PathError{Op: "setns", Path: "the command's namespaces", Err: err}
		}
	}
	return nil
}

// pidIn returns the command's process id in the /proc of the tree: it is the first of a
// new one's; the one around knows it as it knows this process's descriptors.
func (b *builder) pidIn(c *command) (string, error) {
	if b.freshProc {
		return "1", nil
	}
	info, err := b.tree.read("/proc/self/fdinfo/" + strconv.Itoa(c.PidFD))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(info), "\nPid:")
	line, _, _ := strings.Cut(rest, "\n")
	pid := strings.TrimSpace(line)
	if n, err := strconv.Atoi(pid); err != nil || n <= 0 {
		return "", errors.New("the /proc around the sandbox does not know the command")
	}
	return pid, nil
}

// setHostname leaves the name as it is where a container's filter, as podman's, keeps
// sethostname for itself: everything else may still work in there.
func (b *builder) setHostname() error {
	if !b.p.has("uts") {
		return nil
	}
	err := unix.Sethostname([]byte(b.p.Hostname))
	if err == unix.EPERM {
		b.warnings = append(b.warnings, "the host name stays that of the container around, whose filter refuses to set one; --uts host asks for none")
		return nil
	}
	return err
}

// loopbackUp brings up lo: it is all the network that a sandbox without one has.
func (b *builder) loopbackUp() error {
	if !b.p.has("net") {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// connectNetwork makes a link for each network, and sends their other ends to the parent, in order.
func (b *builder) connectNetwork(c *command) error {
	if b.p.Driver != nil {
		return b.awaitDriver(c)
	}
	for _, link := range b.p.links() {
		if err := b.connectLink(link); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) connectLink(c *slirp.Config) error {
	link, refusal, err := slirp.Connect(*c)
	if err != nil {
		return err
	}
	defer link.Close()
	how := "the network's link is a veth pair and a packet socket"
	if refusal != "" {
		how = "the network's link is a tap: " + refusal
	}
	fds := []int{int(link.Fd())}
	if len(c.Ports) > 0 {
		theirs, err := b.openPorts(c)
		if err != nil {
			return err
		}
		defer theirs.Close()
		fds = append(fds, int(theirs.Fd()))
	}
	return send(b.up, report{Linked: true, Note: how}, fds...)
}

// openPorts prepares the sandbox for clients of its published ports, and returns what sbx-net asks
// for sockets on.
func (b *builder) openPorts(c *slirp.Config) (*os.File, error) {
	b.returns = true
	err := slirp.KeepReturns(*c)
	for _, name := range slirp.ReturnSysctls(*c) {
		if err == nil {
			err = b.writeSysctl(name, "1")
		}
	}
	if err != nil {
		b.returns = false
		b.warnings = append(b.warnings, "TCP clients of published ports seem to have the sandbox's own address: "+err.Error())
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	b.requests = os.NewFile(uintptr(pair[0]), "requests for sockets")
	return os.NewFile(uintptr(pair[1]), "requests for sockets"), nil
}

// allowPing lets the sandbox's groups open ICMP sockets, as podman does: in a new net
// namespace nobody may (icmp(7)). Without IPv4, or where /proc/sys is read-only, ping wants
// CAP_NET_RAW.
func (b *builder) allowPing() error {
	if !b.p.has("net") {
		return nil
	}
	f, err := b.tree.openFlags("/proc/sys/net/ipv4/ping_group_range", unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, 0, lastGroup(b.p.IDs.GIDs))
	return err
}

// allowJoin opens the ports of a sandbox with a name to everybody in its network: who joins has
// no capability over it. And it tells the parent of the network.
func (b *builder) allowJoin() error {
	if b.p.Name == "" || !b.p.has("net") {
		return nil
	}
	// As above: where /proc/sys is read-only, ports below 1024 want CAP_NET_BIND_SERVICE.
	if f, err := b.tree.openFlags("/proc/sys/net/ipv4/ip_unprivileged_port_start", unix.O_WRONLY|unix.O_TRUNC, 0); err == nil {
		_, err = f.WriteString("0")
		f.Close()
		if err != nil {
			return err
		}
	}
	net, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer net.Close()
	return send(b.up, report{Net: true}, int(net.Fd()))
}

// lastGroup is the id that stands for the highest one outside, where the kernel compares
// them; 0 if 0 itself does.
func lastGroup(ids []userns.ID) (last uint32) {
	highest, _ := userns.Outside(ids, 0)
	for _, id := range ids {
		if end := id.Outside + id.Size - 1; end > highest {
			last, highest = id.Inside+id.Size-1, end
		}
	}
	return last
}

// setSysctls writes /proc/sys, where it is this thread's namespaces that count.
func (b *builder) setSysctls() error {
	for _, kv := range b.p.Sysctls {
		if err := b.writeSysctl(kv.Key, kv.Value); err != nil {
			return fmt.Errorf("--sysctl %s=%s: %w", kv.Key, kv.Value, err)
		}
	}
	return nil
}

func (b *builder) writeSysctl(name, value string) error {
	f, err := b.tree.openFlags("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// isThere: the command that was given by its path is a file of the finished root.
func (b *builder) isThere(name string) bool {
	if !path.IsAbs(name) {
		return false
	}
	f, err := b.tree.open(name)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// explain turns the refusal of a system call in the command's process into what a person
// and a shell expect.
func (b *builder) explain(err error) error {
	call, ok := errors.AsType[*userns.CallError](err)
	if !ok {
		return err
	}
	name := b.p.Command.Args[0]
	switch {
	case call.Name == "exec" && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)):
		return &NotFoundError{Name: name, There: b.isThere(name)}
	case call.Name == "exec" && errors.Is(err, unix.E2BIG):
		return fmt.Errorf("exec %q: %w", name, call.Err)
	case call.Name == "exec", strings.HasPrefix(call.Name, "working directory"):
		what := call.Err
		if call.Name != "exec" {
			what = fmt.Errorf("%s: %w", call.Name, call.Err)
		}
		return &NotExecutableError{Name: name, Err: what}
	}
	return err
}
