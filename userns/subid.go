package userns

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/rootless-containers/rootlesskit/v3/pkg/parent/dynidtools"
	"github.com/rootless-containers/rootlesskit/v3/pkg/parent/idtools"
	"golang.org/x/sys/unix"
)

// The files of subuid(5) and subgid(5).
const subUIDFile, subGIDFile = "/etc/subuid", "/etc/subgid"

// subordinate returns the ranges that belong to uid or name, as far as this process's own
// namespace has them. The error is a RefusedError.
func subordinate(uid uint32, name string) (uids, gids []ID, err error) {
	var u, g []idtools.SubIDRange
	dynamic := dynamic()
	if dynamic {
		u, g, err = askGetsubids(int(uid), name)
	} else {
		u, g, err = idtools.GetSubIDRanges(int(uid), name)
	}
	if err == nil {
		uids, gids = toIDs(u), toIDs(g)
		if uids, err = ofOurs(uids, "/proc/self/uid_map"); err == nil {
			gids, err = ofOurs(gids, "/proc/self/gid_map")
		}
	}
	_, explained := errors.AsType[*RefusedError](err)
	switch {
	case explained:
		return nil, nil, err
	case err != nil && dynamic:
		return nil, nil, &RefusedError{Cause: err.Error(), Fix: "`getsubids " + name + "` must list ranges: see subid in /etc/nsswitch.conf"}
	case err != nil:
		return nil, nil, explainFiles(name, err)
	}
	return uids, gids, nil
}

// askGetsubids runs getsubids(1), which the library would look for where the caller's
// GETSUBIDS and PATH lead.
func askGetsubids(uid int, name string) (u, g []idtools.SubIDRange, err error) {
	const variable = "GETSUBIDS"
	path, err := FindProgram("getsubids", installUidmap)
	if err != nil {
		return nil, nil, err
	}
	callers, set := os.LookupEnv(variable)
	os.Setenv(variable, path)
	u, g, err = dynidtools.GetSubIDRanges(uid, name)
	if set {
		os.Setenv(variable, callers)
	} else {
		os.Unsetenv(variable)
	}
	return u, g, err
}

func toIDs(ranges []idtools.SubIDRange) []ID {
	var ids []ID
	for _, r := range ranges {
		if r.Start > 0 && r.Length > 0 && uint64(r.Start)+uint64(r.Length) < 1<<32 {
			ids = append(ids, ID{Outside: uint32(r.Start), Size: uint32(r.Length)})
		}
	}
	return ids
}

// ofOurs returns what of ids this process's own namespace has: in a container, /etc/subuid
// may speak of many more. own is its map.
func ofOurs(ids []ID, own string) ([]ID, error) {
	const initial = 0xeffffffd // PROC_USER_INIT_INO, linux/proc_ns.h: the host's has all
	var ns unix.Stat_t
	if unix.Stat("/proc/self/ns/user", &ns) == nil && ns.Ino != initial {
		have, err := ownIDs(own)
		if err != nil {
			return nil, err
		}
		all := ids
		ids = nil
		for _, r := range all {
			ids = append(ids, within(r, have)...)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("none of the subordinate ids is one of this namespace: see %s", own)
	}
	return ids, nil
}

// dynamic reports whether nsswitch.conf has a line for subordinate ids: libsubid then
// asks that source and not the files (nsswitch.conf(5), getsubids(1)).
func dynamic() bool {
	conf, err := os.ReadFile("/etc/nsswitch.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(conf)) {
		if source, ok := strings.CutPrefix(line, "subid:"); ok {
			return strings.TrimSpace(source) != "files"
		}
	}
	return false
}

// explainFiles tells what must change in the files: a line that nothing can read, anybody's,
// or one more, with ids that are nobody's yet.
func explainFiles(name string, err error) error {
	next := uint64(100000)
	for _, file := range []string{subUIDFile, subGIDFile} {
		text, _ := os.ReadFile(file)
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			fields := strings.Split(line, ":")
			if len(fields) != 3 {
				fields = append(fields, "", "", "")
			}
			first, err := strconv.ParseUint(fields[1], 10, 32)
			count, err2 := strconv.ParseUint(fields[2], 10, 32)
			if errors.Join(err, err2) != nil {
				return &RefusedError{Cause: fmt.Sprintf("line %d of %s cannot be read: %q", number, file, line), Fix: "as root: make it NAME:FIRST:COUNT, or remove it"}
			}
			next = max(next, first+count)
		}
	}
	return &RefusedError{
		Cause: err.Error(),
		Fix:   fmt.Sprintf("as root: usermod --add-subuids %d-%d --add-subgids %[1]d-%[2]d %s", next, next+65535, name),
	}
}
