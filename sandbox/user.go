package sandbox

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"sbx/userns"
)

// identity is who the command runs as.
type identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
	Name     string   // "" if passwd has none
	Home     string

	passwd, group []byte // the image's files
}

// passwdEntry is a line of passwd(5); fields that are unused are left out.
type passwdEntry struct {
	name, home string
	uid, gid   uint32
}

// whoIs finds the user that text names in the files of the tree, and checks that the
// namespace has the ids: "name" or "uid", and ":group" or ":gid" after it. Nothing before
// the colon is root, nothing after it the user's own group.
func whoIs(t tree, text string, extra []string, ids userns.Map) (*identity, error) {
	passwd, err := t.read("/etc/passwd")
	numeric := isNumber(text)
	if err != nil && !numeric {
		return nil, fmt.Errorf("find user %q: %w", text, err)
	}
	group, err := t.read("/etc/group")
	if err != nil && !numeric {
		return nil, fmt.Errorf("find group of %q: %w", text, err)
	}
	who := &identity{Home: "/", passwd: passwd, group: group}
	user, groupText, hasGroup := strings.Cut(text, ":")
	entry, err := findUser(passwd, cmp.Or(user, "0"))
	if err != nil {
		return nil, err
	}
	who.UID, who.GID, who.Name = entry.uid, entry.gid, entry.name
	if entry.home != "" {
		who.Home = entry.home
	}
	if hasGroup && groupText != "" {
		if who.GID, err = findGroup(group, groupText, "--user "+user+":1000"); err != nil {
			return nil, err
		}
	} else if who.Name != "" {
		who.Groups = groupsOf(group, who.Name, who.GID)
	}
	for _, name := range extra {
		gid, err := findGroup(group, name, "--group-add 1000")
		if err != nil {
			return nil, err
		}
		who.Groups = append(who.Groups, gid)
	}
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	return who, who.check(ids)
}

func (who *identity) check(ids userns.Map) error {
	if _, ok := userns.Outside(ids.UIDs, who.UID); !ok {
		return unmapped("user", "uid", who.UID, ids.UIDs)
	}
	if _, ok := userns.Outside(ids.GIDs, who.GID); !ok {
		return unmapped("group", "gid", who.GID, ids.GIDs)
	}
	for _, gid := range who.Groups {
		if _, ok := userns.Outside(ids.GIDs, gid); !ok {
			return unmapped("group", "gid", gid, ids.GIDs).withoutKeepID()
		}
	}
	return nil
}

// unmapped says that there is no id in the sandbox; flag is what the flags call its kind.
func unmapped(kind, flag string, id uint32, known []userns.ID) *Error {
	below := userns.Size(known)
	if slices.ContainsFunc(known, func(m userns.ID) bool { return m.Inside >= below }) {
		return &Error{
			Text: fmt.Sprintf("%s %d does not exist in the sandbox: the map that --%smap or --userns gives lacks id %d", kind, id, flag, id),
			Fix:  fmt.Sprintf("map it as well, --%smap %d:..., or be another: --user %d", flag, id, known[0].Inside),
		}
	}
	more := "more subordinate ids (as root: usermod --add-sub" + flag + "s FIRST-LAST NAME)"
	if below == 1 {
		more = "more ids, as the warning says"
	}
	return &Error{
		Text: fmt.Sprintf("%s %d does not exist in the sandbox: ids below %d are mapped", kind, id, below),
		Fix:  fmt.Sprintf("%s, or --userns keep-id:%s=%d", more, flag, id),
	}
}

// withoutKeepID is the error without keep-id:uid= and gid=, which are for the user alone.
func (e *Error) withoutKeepID() *Error {
	e.Fix, _, _ = strings.Cut(e.Fix, ", or ")
	return e
}

// isNumber reports whether no file need be read for text, which is as for whoIs.
func isNumber(text string) bool {
	for part := range strings.SplitSeq(text, ":") {
		if _, err := parseID(part); err != nil && part != "" {
			return false
		}
	}
	return true
}

// parseID reads a user or group id; 2^32-1 means "no change" to the kernel (setresuid(2)).
func parseID(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, fmt.Errorf("%q is not an id", text)
	}
	return uint32(n), nil
}

// findUser prefers a name to a number, as chown(1) does. A number needs no entry.
func findUser(passwd []byte, text string) (passwdEntry, error) {
	id, notNumber := parseID(text)
	var byID *passwdEntry
	for fields := range lines(passwd, 7) {
		uid, err := parseID(fields[2])
		gid, err2 := parseID(fields[3])
		if err != nil || err2 != nil {
			continue
		}
		e := passwdEntry{name: fields[0], home: fields[5], uid: uid, gid: gid}
		if fields[0] == text {
			return e, nil
		}
		if notNumber == nil && uid == id && byID == nil {
			byID = &e
		}
	}
	switch {
	case byID != nil:
		return *byID, nil
	case notNumber == nil:
		return passwdEntry{uid: id}, nil
	}
	return passwdEntry{}, &Error{Text: fmt.Sprintf("find user %q: /etc/passwd of the image has no such user", text), Fix: "use a number: --user 1000; if you gave no --user, the name is the image's own USER"}
}

// findGroup prefers a name to a number, too. number is what to write instead of a name.
func findGroup(group []byte, text, number string) (uint32, error) {
	for fields := range lines(group, 3) {
		if fields[0] == text {
			if gid, err := parseID(fields[2]); err == nil {
				return gid, nil
			}
		}
	}
	if gid, err := parseID(text); err == nil {
		return gid, nil
	}
	return 0, &Error{Text: fmt.Sprintf("find group %q: /etc/group of the image has no such group", text), Fix: "use a number: " + number}
}

// groupsOf lists the groups that name is a member of, beside its own (initgroups(3)).
func groupsOf(group []byte, name string, own uint32) []uint32 {
	var gids []uint32
	for fields := range lines(group, 4) {
		gid, err := parseID(fields[2])
		if err != nil || gid == own || !strings.Contains(","+fields[3]+",", ","+name+",") {
			continue
		}
		gids = append(gids, gid)
		if len(gids) == 65536 { // NGROUPS_MAX
			break
		}
	}
	return gids
}

// lines yields the first n fields of each line with at least as many, and what follows them
// as one more.
func lines(text []byte, n int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range bytes.Lines(text) {
			fields := strings.SplitN(strings.TrimRight(string(line), "\r\n"), ":", n+1)
			if len(fields) >= n && !yield(fields) {
				return
			}
		}
	}
}

// withUser returns the image's passwd with lines for users that it does not know, so
// that sudo, ssh and git find a name: those of the host, and the command's own, whose home
// then is what that line says. It is nil if nothing is to be added.
func (who *identity) withUser(template string, hostUsers []string, workdir string) []byte {
	text := slices.Clone(who.passwd)
	uid, gid := strconv.Itoa(int(who.UID)), strconv.Itoa(int(who.GID))
	missing := who.Name == "" && (who.UID != 0 || len(who.passwd) == 0)
	name := uid
	if who.UID == 0 {
		name = "root"
	}
	for _, line := range hostUsers {
		fields := strings.Split(line, ":")
		if e, err := findUser(text, fields[0]); err == nil && e.name == fields[0] || len(fields) != 7 {
			continue
		}
		if own := missing && fields[2] == uid; own && template != "" {
			name = fields[0] // the line is the template's
			continue
		} else if own {
			missing = false
		}
		text = appendLine(text, line)
	}
	if missing {
		line := fmt.Sprintf("%s:*:%s:%s:container user:%s:/bin/sh", name, uid, gid, workdir)
		if template != "" {
			line = strings.NewReplacer("$USERNAME", name, "$UID", uid, "$GID", gid,
				"$NAME", "container user", "$HOME", workdir).Replace(template)
		}
		text = appendLine(text, line)
	}
	if len(text) == len(who.passwd) {
		return nil
	}
	if e, err := findUser(text, uid); err == nil && who.Name == "" && e.home != "" {
		who.Home = e.home
	}
	return text
}

// withGroup returns the image's group with a line for the command's group, one of
// hostGroups if that is there, or nil if the image has one.
func (who *identity) withGroup(hostGroups []string) []byte {
	for fields := range lines(who.group, 3) {
		if gid, err := parseID(fields[2]); err == nil && gid == who.GID {
			return nil
		}
	}
	gid := strconv.Itoa(int(who.GID))
	name := gid
	if who.GID == 0 {
		name = "root"
	}
	line := name + ":x:" + gid + ":"
	for _, host := range hostGroups {
		if fields := strings.Split(host, ":"); len(fields) == 4 && fields[2] == gid {
			line = host
		}
	}
	return appendLine(slices.Clone(who.group), line)
}

func appendLine(text []byte, line string) []byte {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return append(append(text, line...), '\n')
}
