package userns

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

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
	Why    string `json:"why,omitempty"` // one line: why only the caller's own id can be mapped, "" if more can
	Fix    string `json:"fix,omitempty"` // one line: what changes that
}

// FindCaller looks up the calling user. Subordinate ids come from getsubids(1) where
// nsswitch.conf names a source for them, else from /etc/subuid and /etc/subgid.
// subUID and subGID name the entries to use, "" the caller's own.
func FindCaller(subUID, subGID string) (Caller, error) {
	c := Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	var unnamed error
	c.Name, unnamed = userName(c.UID)
	c.MayMap = mayMap(c.UID)
	var err, err2 error
	c.SubUIDs, c.SubGIDs, err = subordinate(c.UID, cmp.Or(subUID, c.Name))
	if subGID != subUID {
		_, c.SubGIDs, err2 = subordinate(c.UID, cmp.Or(subGID, c.Name))
	}
	switch missing := errors.Join(err, err2); {
	case missing != nil && subUID+subGID != "":
		return c, missing
	case c.MayMap:
		return c, nil
	case missing != nil, unnamed != nil:
		return c.alone(cmp.Or(unnamed, missing)), nil
	}
	return c.alone(helpersWork()), nil
}

// alone is the caller with no more than one id, if there is a reason.
func (c Caller) alone(reason error) Caller {
	if refused, ok := errors.AsType[*RefusedError](reason); ok {
		c.Why, c.Fix = refused.Error(), refused.Fix
	}
	return c
}

// userName asks /etc/passwd, and then every source that the host has for users (LDAP,
// systemd-homed), as newuidmap will; not os/user, which believes the caller's $USER.
// Without a name, the number serves.
func userName(uid uint32) (string, error) {
	number := strconv.FormatUint(uint64(uid), 10)
	passwd, _ := os.ReadFile("/etc/passwd")
	if name := nameIn(string(passwd), number); name != "" {
		return name, nil
	}
	if getent, err := FindProgram("getent", ""); err == nil {
		line, _ := exec.Command(getent, "passwd", number).Output()
		if name := nameIn(string(line), number); name != "" {
			return name, nil
		}
	}
	return number, &RefusedError{Cause: "user " + number + " has no name on this host, and newuidmap serves nobody without", Fix: "as root: useradd --uid " + number + " NAME"}
}

// nameIn finds the name of a number in lines of passwd(5).
func nameIn(passwd, number string) string {
	for line := range strings.Lines(passwd) {
		if fields := strings.SplitN(line, ":", 4); len(fields) == 4 && fields[2] == number {
			return fields[0]
		}
	}
	return ""
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

// GroupName asks the system's database for the name of the caller's group; "" is none.
func (c Caller) GroupName() string {
	g, err := user.LookupGroupId(strconv.Itoa(int(c.GID)))
	if err != nil {
		return ""
	}
	return g.Name
}
