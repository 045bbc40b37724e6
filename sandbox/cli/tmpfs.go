package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/sandbox"
)

// parseTmpfs reads one --tmpfs: DST[:OPTION,...].
func parseTmpfs(s string) (m sandbox.Mount, err error) {
	m.Type = "tmpfs"
	dst, opts, hasOpts := strings.Cut(s, ":")
	if m.Dst, err = insidePath(dst); err != nil || !hasOpts || opts == "" {
		return m, cmp.Or(err, checkMount(&m))
	}
	said := saidOnce{}
	for opt := range strings.SplitSeq(opts, ",") {
		key, value, hasValue := strings.Cut(opt, "=")
		yes := true
		switch {
		case hasValue:
			err = tmpfsNumber(&m, key, value)
		case opt == "ro":
			m.ReadOnly = true
		case opt == "rw":
			m.ReadOnly = false
		case opt == "U":
			m.Chown = true
		case opt == "tmpcopyup":
			m.TmpCopyUp = &yes
		case opt == "notmpcopyup":
			yes = false
			m.TmpCopyUp = &yes
		case mountFlag(&m, opt):
		default:
			err = fmt.Errorf("%s: unknown option", quoteArg(opt))
		}
		if err = cmp.Or(err, said.add(opt)); err != nil {
			return m, err
		}
	}
	return m, checkMount(&m)
}

// parseMemory reads a size, or, as the kernel does for tmpfs, N% of this machine's memory.
func parseMemory(s string) (int64, error) {
	percent, ok := strings.CutSuffix(s, "%")
	if !ok {
		return parseSize(s)
	}
	n, err := strconv.ParseUint(percent, 10, 8)
	if err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%s: not between 1%% and 100%% of the memory", quoteArg(s))
	}
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err != nil {
		return 0, fmt.Errorf("%s: sysinfo: %w", quoteArg(s), err)
	}
	const page = 4096 // as tmpfs counts
	return int64(uint64(machine.Totalram) * uint64(machine.Unit) / 100 * n &^ (page - 1)), nil
}

// tmpfsNumber applies size=, mode=, uid=, gid= and nr_inodes=.
func tmpfsNumber(m *sandbox.Mount, key, value string) (err error) {
	var id uint32
	switch key {
	case "size":
		m.Size, err = parseMemory(value)
	case "nr_inodes":
		m.Inodes, err = parseSize(value)
	case "mode":
		m.Mode, err = parseMode(value)
	case "uid":
		id, err = parseID(value)
		m.UID = &id
	case "gid":
		id, err = parseID(value)
		m.GID = &id
	default:
		err = fmt.Errorf("%s: unknown option", quoteArg(key))
	}
	return err
}
