package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// programDirs are the only places where newuidmap, newgidmap and their like are looked for:
// what runs with the caller's trust is never found by a PATH that somebody else may have set.
func programDirs() []string {
	return []string{"/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin"}
}

// FindProgram returns the path of a program of the host's. The error is a RefusedError, with fix
// for where it is not installed.
func FindProgram(name, fix string) (string, error) {
	for _, dir := range programDirs() {
		path := filepath.Join(dir, name)
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if st.Uid != 0 && os.Getuid() != 0 {
			return "", &RefusedError{Cause: path + " does not belong to root", Fix: "in a user namespace, only its root can map more ids"}
		}
		return path, nil
	}
	return "", &RefusedError{Cause: name + " is not installed", Fix: fix}
}

const installUidmap = "as root: apt install uidmap (other systems: shadow-utils, shadow-uidmap)"

// helpersWork asks whatever would keep newuidmap and newgidmap from getting their rights
// (execve(2)): they would fail with EPERM and not say why.
func helpersWork() error {
	if n, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); n == 1 {
		return &RefusedError{Cause: "no_new_privs is set, under which newuidmap gets no rights", Fix: "start sbx without it: NoNewPrivileges= of systemd, setpriv --no-new-privs, allowPrivilegeEscalation of a container"}
	}
	for _, helper := range []struct {
		name string
		cap  uintptr
		word string
	}{{"newuidmap", unix.CAP_SETUID, "CAP_SETUID"}, {"newgidmap", unix.CAP_SETGID, "CAP_SETGID"}} {
		path, err := FindProgram(helper.name, installUidmap)
		if err != nil {
			return err
		}
		if n, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, helper.cap, 0, 0, 0); err == nil && n == 0 {
			return &RefusedError{Cause: helper.word + " was taken from this process for good, and " + path + " cannot have it", Fix: "start the container around sbx with --cap-add " + helper.word}
		}
		var fs unix.Statfs_t
		if unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
			return &RefusedError{Cause: path + " lies on a file system that is mounted nosuid", Fix: "as root: mount -o remount,bind,suid $(findmnt -no TARGET -T " + path + ")"}
		}
		if err := privileged(path); err != nil {
			return err
		}
	}
	return nil
}

// privileged looks whether the file gives its process rights: a copy made without them, as
// when an image is built, maps nothing.
func privileged(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_ISUID != 0 {
		return nil
	}
	if n, _ := unix.Getxattr(path, "security.capability", nil); n > 0 {
		return nil
	}
	return &RefusedError{Cause: path + " is neither setuid nor has file capabilities", Fix: "as root: chmod u+s " + path}
}

// mapping is the writing of the maps, while it goes on.
type mapping struct {
	helpers []*helper
	err     error
}

// begin begins to give the namespace of process pid its ids. Helpers run side by side, and
// beside the caller: each takes a millisecond.
func (m Map) begin(pid int, c Caller) mapping {
	var running mapping
	for _, kind := range []struct {
		name string
		ids  []ID
		own  uint32
	}{{"gid", m.GIDs, c.GID}, {"uid", m.UIDs, c.UID}} {
		alone := len(kind.ids) == 1 && kind.ids[0].Size == 1 && kind.ids[0].Outside == kind.own
		if c.MayMap || alone {
			running.err = errors.Join(running.err, writeIDs(pid, kind.name, kind.ids, !c.MayMap))
			continue
		}
		h, err := startHelper("new"+kind.name+"map", pid, kind.ids)
		if err != nil {
			running.err = errors.Join(running.err, err)
			continue
		}
		running.helpers = append(running.helpers, h)
	}
	return running
}

// end waits until both are written.
func (m mapping) end() error {
	err := m.err
	for _, h := range m.helpers {
		err = errors.Join(err, h.wait())
	}
	return err
}

// writeIDs writes a map without a helper. An ordinary user must give up setgroups(2) for
// the map of groups (user_namespaces(7), Linux 3.19).
func writeIDs(pid int, kind string, ids []ID, denySetgroups bool) error {
	file := func(name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
	if kind == "gid" && denySetgroups {
		if err := os.WriteFile(file("setgroups"), []byte("deny"), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(file(kind+"_map"), []byte(Text(ids)), 0)
}

// helper is a running newuidmap or newgidmap.
type helper struct {
	path  string
	child *Child
	says  *os.File
}

func startHelper(name string, pid int, ids []ID) (*helper, error) {
	path, err := FindProgram(name, installUidmap)
	if err != nil {
		return nil, err
	}
	args := []string{name, strconv.Itoa(pid)}
	for _, id := range ids {
		for _, n := range []uint32{id.Inside, id.Outside, id.Size} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	says, stderr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	p := new(Program)
	p.Files([]int{DevNull, DevNull, int(stderr.Fd())})
	if err := p.Exec([]string{path}, args, nil); err != nil {
		says.Close()
		return nil, err
	}
	child, err := p.Spawn(0)
	if err != nil {
		says.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &helper{path, child, says}, nil
}

func (h *helper) wait() error {
	defer h.says.Close()
	defer unix.Close(h.child.PidFD)
	err := h.child.Executed()
	status, waitErr := h.child.Wait()
	switch {
	case err != nil || waitErr != nil:
		return fmt.Errorf("%s: %w", h.path, errors.Join(err, waitErr))
	case status.ExitStatus() == 0:
		return nil
	}
	text := make([]byte, 512)
	n, _ := h.says.Read(text)
	return &RefusedError{Cause: fmt.Sprintf("%s: %s", h.path, strings.TrimSpace(string(text[:n]))), Fix: "it grants what getsubids(1) lists for the caller, and for groups with -g"}
}
