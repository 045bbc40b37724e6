package sandbox

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// Host is what a plan needs to know of this machine and of this one run. NewPlan
// reads nothing else, so that a Host written down in a test gives the same plan.
type Host struct {
	ID     string // of this run: 64 hex digits, random
	Caller userns.Caller
	Groups []uint32 // the caller's supplementary groups

	GroupName string // what the caller's group is called; only keep-id asks

	RunDir     string // <data>/runs/<ID>: where a throwaway layer lies
	UpperTmpfs string // why RunDir cannot hold the upper directory of the kernel's overlay; "" if it can
	UpperFUSE  bool   // it can hold that of one over FUSE
	NoFUSE     string // why nothing can be served over FUSE; asked only where it may be

	Networks   []netip.Prefix // of the host's interfaces; not asked where the sandbox has no network of its own
	Interfaces []string       // their names; asked only where one of them is
	Sandboxes  []netip.Prefix // the subnets of the caller's networks
	Program    string         // the path of the one that --network names
	NoProgram  string         // why it cannot be had
	Joined     *Joined        // what container: or ns: of the network leads to
	Resolv     string         // the text of /etc/resolv.conf
	Zoneinfo   string         // the directory of the host's time zones
	Cgroup2    bool           // /sys/fs/cgroup is cgroup v2
	Arch       string         // GOARCH
	Kernel     [2]int         // major, minor: rules of seccomp profiles ask for it

	Limits            map[string]Rlimit // this process's own, by name
	AppArmor, SELinux bool
}

// Probe looks at this machine. data is sbx's data directory.
func Probe(data string, spec *Spec) (Host, error) {
	caller, err := userns.FindCaller(spec.UserNS.SubUIDName, spec.UserNS.SubGIDName)
	if err != nil {
		return Host{}, err
	}
	id := make([]byte, 32)
	if _, err := unix.Getrandom(id, 0); err != nil {
		return Host{}, fmt.Errorf("getrandom: %w", err)
	}
	h := Host{
		ID:       hex.EncodeToString(id),
		Caller:   caller,
		Zoneinfo: "/usr/share/zoneinfo",
		Arch:     runtime.GOARCH, // uname(2) says what setarch(8) has told it
		Kernel:   kernelVersion(),
	}
	if spec.UserNS.Mode == "keep-id" {
		h.GroupName = caller.GroupName()
	}
	h.RunDir = filepath.Join(data, "runs", h.ID)
	if h.Groups, err = groups(); err != nil {
		return Host{}, err
	}
	if h.UpperTmpfs, h.UpperFUSE, err = upperRefused(data); err != nil {
		return Host{}, err
	}
	if h.UpperTmpfs != "" || spec.Overlay != "" {
		if err := fuseRefused(); err != nil {
			h.NoFUSE = err.Error()
		}
	}
	if joins(spec.Network) {
		if h.Joined, err = findJoined(filepath.Dir(h.RunDir), spec.Network); err != nil {
			return Host{}, err
		}
	} else if spec.Network != "none" && spec.Network != "host" {
		if h.Networks, err = Networks(); err != nil {
			return Host{}, err
		}
		h.Sandboxes = subnets(filepath.Join(data, "networks"))
		if h.Interfaces, err = interfaces(spec.NetworkOptions.Outbound[:]); err != nil {
			return Host{}, err
		}
	}
	if isProgram(spec.Network) {
		h.Program, err = userns.FindProgram(spec.Network, "")
		if err != nil {
			h.NoProgram = err.Error()
		}
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err == nil {
		h.Resolv = string(resolv)
	}
	var fs unix.Statfs_t
	h.Cgroup2 = unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	h.Limits = hostLimits()
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	h.AppArmor = strings.HasPrefix(string(enabled), "Y")
	h.SELinux = unix.Access("/sys/fs/selinux/enforce", unix.F_OK) == nil
	return h, nil
}

// OverlayBy tells who stacks the layers of a run here, where the caller wants that of wanted. The kernel's own word
// comes when it is asked to mount: it may then still be FUSE.
func (h Host) OverlayBy(wanted string) string {
	switch {
	case wanted == "fuse" && h.NoFUSE != "":
		return "none: SBX_OVERLAY=fuse: " + h.NoFUSE
	case wanted == "fuse":
		return "sbx, over FUSE: SBX_OVERLAY=fuse"
	case h.UpperTmpfs == "":
		return "kernel"
	case h.UpperFUSE && h.NoFUSE == "" && wanted == "":
		return "sbx, over FUSE: the kernel takes no upper directory in the store: " + h.UpperTmpfs
	}
	return "kernel; changes of a run are held in memory: " + h.UpperTmpfs
}

// Refused says why this machine lets the caller make no user namespace, and so no sandbox.
func (h Host) Refused() error { return userns.Try(h.Caller) }

// Networks are the addresses of the host's interfaces, each with its network.
func Networks() (list []netip.Prefix, err error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this host: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p)
		}
	}
	return list, nil
}

// subnets are those of the networks that package network keeps in dir. It is too large for a run that
// is on none of them, and so is a decoder that makes values of all of a definition.
func subnets(dir string) (list []netip.Prefix) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name(), "network.json"))
		if err != nil {
			continue // it is being made, or removed
		}
		d := json.NewDecoder(f)
		for before := json.Token(nil); err == nil; {
			var token json.Token
			token, err = d.Token()
			if text, ok := token.(string); ok && before == "subnet" {
				if p, err := netip.ParsePrefix(text); err == nil {
					list = append(list, p)
				}
			}
			before = token
		}
		f.Close()
	}
	return list
}

// interfaces are the names of the host's, if names has something that is no address.
func interfaces(names []string) (list []string, err error) {
	if !slices.ContainsFunc(names, func(name string) bool { return name != "" && !isAddress(name) }) {
		return nil, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("interfaces of this host: %w", err)
	}
	for _, i := range all {
		list = append(list, i.Name)
	}
	return list, nil
}

func groups() ([]uint32, error) {
	gids, err := os.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("getgroups: %w", err)
	}
	var groups []uint32
	for _, gid := range gids {
		groups = append(groups, uint32(gid))
	}
	return groups, nil
}

func kernelVersion() (kernel [2]int) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &kernel[0], &kernel[1])
	}
	return kernel
}

// upperRefused tells why the kernel will not take an upper directory of overlayfs on
// the file system of dir: it needs xattrs, tmpfiles and d_type (overlayfs.rst). One over FUSE needs only
// what any file system for programs has.
func upperRefused(dir string) (why string, fuse bool, err error) {
	var fs unix.Statfs_t
	for {
		err := unix.Statfs(dir, &fs)
		if err == nil {
			break
		}
		if err != unix.ENOENT || dir == "/" {
			return "", false, &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		dir = filepath.Dir(dir)
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		return "it is mounted read-only", false, nil
	}
	switch fs.Type {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "it lies on overlayfs", true, nil
	case unix.NFS_SUPER_MAGIC:
		return "it lies on NFS", true, nil
	case unix.FUSE_SUPER_MAGIC:
		return "it lies on FUSE", false, nil // which may be sbx's own: that lets nobody make whiteouts
	case unix.ECRYPTFS_SUPER_MAGIC:
		return "it lies on ecryptfs", true, nil
	}
	return "", true, nil
}

// limitNames maps the names of ulimit, podman and setrlimit(2) to its numbers.
func limitNames() map[string]int {
	return map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}
}

func hostLimits() map[string]Rlimit {
	limits := map[string]Rlimit{}
	for name, number := range limitNames() {
		var l unix.Rlimit
		if unix.Prlimit(0, number, nil, &l) == nil {
			limits[name] = Rlimit{name, limit(l.Cur), limit(l.Max)}
		}
	}
	return limits
}

// limit is a value of setrlimit(2), with -1 for infinity.
func limit(v uint64) int64 {
	if v == unix.RLIM_INFINITY || v > 1<<62 {
		return -1
	}
	return int64(v)
}

// shortID is how a run is called where 64 digits are too many.
func (h Host) shortID() string { return h.ID[:min(12, len(h.ID))] }
