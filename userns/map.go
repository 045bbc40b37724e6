package userns

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-containers/rootlesskit/v3/pkg/parent/dynidtools"
	"github.com/rootless-containers/rootlesskit/v3/pkg/parent/idtools"
	"golang.org/x/sys/unix"
)

// ID is a range of ids: Size of them, from Inside in the namespace, are those from
// Outside in its parent (a line of uid_map, user_namespaces(7)).
type ID struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Size    uint32 `json:"size"`
}

// Map says which ids a namespace has.
type Map struct {
	UIDs []ID `json:"uids"`
	GIDs []ID `json:"gids"`
}

// Size returns how many ids there are, beginning with 0, without a gap.
func Size(ids []ID) uint32 {
	var next uint32
	for {
		i := find(ids, next)
		if i < 0 {
			return next
		}
		next = ids[i].Inside + ids[i].Size
	}
}

func find(ids []ID, inside uint32) int {
	for i, id := range ids {
		if inside >= id.Inside && inside-id.Inside < id.Size {
			return i
		}
	}
	return -1
}

// Outside returns the id of the parent namespace behind inside, if it is mapped.
func Outside(ids []ID, inside uint32) (uint32, bool) {
	i := find(ids, inside)
	if i < 0 {
		return 0, false
	}
	return ids[i].Outside + (inside - ids[i].Inside), true
}

// Caller is the user who started us, and what subordinate ids are theirs.
type Caller struct {
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Name    string `json:"name"`
	SubUIDs []ID   `json:"subUIDs"` // Inside is 0: only Outside and Size are meant
	SubGIDs []ID   `json:"subGIDs"`
	// MayMap says that the kernel lets us write any map of ids we have, without a
	// helper: root, of the host or of a namespace around us.
	MayMap bool   `json:"mayMap"`
	Why    string `json:"why,omitempty"` // one line: why there are no subordinate ids, "" if there are
	Fix    string `json:"fix,omitempty"` // one line: the command that changes that
}

// FindCaller looks up the calling user. Subordinate ids come from getsubids(1) where
// nsswitch.conf names a source for them, else from /etc/subuid and /etc/subgid.
// subUID and subGID name the entries to use, "" the caller's own.
func FindCaller(subUID, subGID string) (Caller, error) {
	c := Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	c.Name = userName(int(c.UID))
	c.MayMap = mayMap(c.UID)
	c.SubUIDs, c.SubGIDs = subordinate(c.UID, c.Name)
	if subUID != "" {
		c.SubUIDs, _ = subordinate(c.UID, subUID)
		if len(c.SubUIDs) == 0 {
			return c, fmt.Errorf("subordinate user ids of %q: no entry in /etc/subuid", subUID)
		}
	}
	if subGID != "" {
		_, c.SubGIDs = subordinate(c.UID, subGID)
		if len(c.SubGIDs) == 0 {
			return c, fmt.Errorf("subordinate group ids of %q: no entry in /etc/subgid", subGID)
		}
	}
	switch {
	case c.MayMap:
	case len(c.SubUIDs) == 0 || len(c.SubGIDs) == 0:
		c.Why = "no subordinate ids for " + c.Name
		c.Fix = "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + c.Name
	default:
		if err := helpersWork(); err != nil {
			c.Why, c.Fix = err.Error(), "as root: apt install uidmap (other systems: shadow-utils, shadow-uidmap)"
		}
	}
	return c, nil
}

// userName asks the system's user database by way of os/user, which reads /etc/passwd;
// where that fails (LDAP, a number without a name), the number serves, as in subuid(5).
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	if name := os.Getenv("USER"); name != "" && uid == os.Geteuid() {
		return name
	}
	return strconv.Itoa(uid)
}

// GroupName asks the system's database for the name of the caller's group; "" is none.
func (c Caller) GroupName() string {
	g, err := user.LookupGroupId(strconv.Itoa(int(c.GID)))
	if err != nil {
		return ""
	}
	return g.Name
}

func subordinate(uid uint32, name string) (uids, gids []ID) {
	ranges := idtools.GetSubIDRanges
	if dynamic() {
		ranges = dynidtools.GetSubIDRanges
	}
	u, g, err := ranges(int(uid), name)
	if err != nil {
		return nil, nil
	}
	return toIDs(u), toIDs(g)
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

func mayMap(uid uint32) bool {
	if uid != 0 {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return data[0].Effective&need == need
}

// Default returns the map of an ordinary rootless namespace: 0 is the caller, and
// the subordinate ids follow from 1. With nothing to map but the caller, it has one id.
func (c Caller) Default() Map {
	if c.Why != "" || (c.MayMap && len(c.SubUIDs) == 0) {
		return c.own()
	}
	return Map{UIDs: stack(c.UID, c.SubUIDs), GIDs: stack(c.GID, c.SubGIDs)}
}

// own is the map without subordinate ids: root keeps the ids it has, anyone else is alone.
func (c Caller) own() Map {
	if !c.MayMap {
		return Map{UIDs: []ID{{0, c.UID, 1}}, GIDs: []ID{{0, c.GID, 1}}}
	}
	uids, err := ownIDs("/proc/self/uid_map")
	gids, err2 := ownIDs("/proc/self/gid_map")
	if errors.Join(err, err2) != nil {
		return Map{UIDs: []ID{{0, c.UID, 1}}, GIDs: []ID{{0, c.GID, 1}}}
	}
	return Map{UIDs: uids, GIDs: gids}
}

// ownIDs reads which of the ids below 65536 this process's own namespace has; a
// namespace of root's maps them to themselves.
func ownIDs(path string) ([]ID, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ids []ID
	for line := range strings.Lines(string(text)) {
		var inside, outside, size uint32
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		if inside < 1<<16 {
			ids = append(ids, ID{inside, inside, min(size, 1<<16-inside)})
		}
	}
	return ids, nil
}

// stack maps first as 0, and ranges from 1 on.
func stack(first uint32, ranges []ID) []ID {
	ids := []ID{{0, first, 1}}
	next := uint32(1)
	for _, r := range ranges {
		for _, part := range without(r, first) {
			ids = append(ids, ID{next, part.Outside, part.Size})
			next += part.Size
		}
	}
	return ids
}

// without cuts id out of a range: the kernel maps no id twice.
func without(r ID, id uint32) []ID {
	if id < r.Outside || id-r.Outside >= r.Size {
		return []ID{r}
	}
	below := id - r.Outside
	parts := []ID{{Outside: r.Outside, Size: below}, {Outside: id + 1, Size: r.Size - below - 1}}
	return slices.DeleteFunc(parts, func(part ID) bool { return part.Size == 0 })
}
