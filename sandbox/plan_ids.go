package sandbox

import (
	"cmp"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// ids lays out the user namespaces. The outer one, p.IDs, has every id that the
// caller may use, with the caller as 0: images are unpacked in it, and it mounts. What
// --userns and --uidmap ask for becomes a second one in it, p.Inner, for the command
// alone, so that no layer is ever copied to change its owners.
func (p *planner) ids() error {
	host := p.host
	p.IDs = host.Caller.Default()
	uids, gids := p.IDs.UIDs, p.IDs.GIDs
	if host.Caller.Why != "" {
		p.warn("only one user id is mapped: " + host.Caller.Why +
			"; files of other users belong to root inside, and the command cannot change to another user; to change that, " + host.Caller.Fix)
	}
	sizeU, sizeG := userns.Size(uids), userns.Size(gids)
	u := &p.spec.UserNS
	inner := func(uid, gid []userns.ID) { p.Inner = &userns.Map{UIDs: along(uids, uid), GIDs: along(gids, gid)} }
	mode := u.Mode
	if mode == "" && p.preset.Strict && sizeU > 1 && sizeG > 1 && len(u.UIDMap)+len(u.GIDMap) == 0 {
		mode = "nomap" // what runs in there is nobody of the host's
	}
	switch mode {
	case "", "host":
	case "keep-id":
		uid, gid := keptIDs(u, &host.Caller)
		n := cmp.Or(u.Size, math.MaxUint32)
		inner(keep(uid, min(n, sizeU)), keep(gid, min(n, sizeG)))
	case "nomap", "auto":
		n := sizeU
		if u.Mode == "auto" && u.Size > 0 {
			if u.Size >= sizeU || u.Size >= sizeG {
				return &Error{Text: "--userns auto: there are not that many subordinate ids", Fix: "a smaller size=, or more ids: usermod --add-subuids"}
			}
			n = u.Size + 1
		}
		if sizeU < 2 || sizeG < 2 {
			return &Error{Text: "--userns " + u.Mode + ": only the caller's own id could be mapped, and this mode leaves it out", Fix: host.Caller.Fix}
		}
		inner(without(n), without(min(n, sizeG)))
		// Their owner on the disk is the caller, whom this mode leaves out.
		if u.Mode == "" {
			break // the preset says so
		}
		p.warn("--userns " + u.Mode + ": files that belong to root in the image show as nobody's, and cannot be changed")
	default:
		return Errorf("--userns: unknown mode %q", u.Mode)
	}
	if u.Mode != "" && (u.SubUIDName != "" || u.SubGIDName != "") {
		return Errorf("--subuidname, --subgidname: they exclude --userns %s", u.Mode)
	}
	if len(u.UIDMap)+len(u.GIDMap) == 0 {
		return nil
	}
	if u.Mode != "" && u.Mode != "host" {
		return Errorf("--uidmap, --gidmap: they exclude --userns %s", u.Mode)
	}
	newUIDs, err := mapFlags("--uidmap", u.UIDMap, u.GIDMap, uids, func(f IDMapFlag) bool { return f.UIDs || !f.GIDs })
	if err != nil {
		return err
	}
	newGIDs, err := mapFlags("--gidmap", u.GIDMap, u.UIDMap, gids, func(f IDMapFlag) bool { return f.GIDs || !f.UIDs })
	if err != nil {
		return err
	}
	inner(newUIDs, newGIDs)
	if !userns.Fits(p.Inner.UIDs) || !userns.Fits(p.Inner.GIDs) {
		return Errorf("--uidmap, --gidmap: %d and %d lines of a map are more than the kernel takes", len(p.Inner.UIDs), len(p.Inner.GIDs))
	}
	return nil
}

// innerIDs gives the command a user namespace of its own where that pays: with
// CAP_SYS_ADMIN over the mounts' own namespace it could take masks off, with
// CAP_SYS_RESOURCE lift limits, with CAP_SYS_PTRACE look into what sbx has in there.
func (p *planner) innerIDs() error {
	if p.Inner == nil && p.Command.Caps&(1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_PTRACE) != 0 {
		p.Inner = &userns.Map{UIDs: same(p.IDs.UIDs), GIDs: same(p.IDs.GIDs)}
	}
	return nil
}

// same maps every id of outer to itself.
func same(outer []userns.ID) (ids []userns.ID) {
	for _, id := range outer {
		ids = append(ids, userns.ID{Inside: id.Inside, Outside: id.Inside, Size: id.Size})
	}
	return ids
}

// along cuts ids at the ends of outer's ranges: the kernel takes no line of a map that
// lies in more than one line of its parent's (map_write, kernel/user_namespace.c).
func along(outer, ids []userns.ID) (cut []userns.ID) {
	for _, id := range ids {
		for id.Size > 0 {
			n := id.Size
			for _, o := range outer {
				if id.Outside >= o.Inside && id.Outside-o.Inside < o.Size {
					n = min(n, o.Inside+o.Size-id.Outside)
				}
			}
			cut = append(cut, userns.ID{Inside: id.Inside, Outside: id.Outside, Size: n})
			id = userns.ID{Inside: id.Inside + n, Outside: id.Outside + n, Size: id.Size - n}
		}
	}
	return cut
}

// keptIDs are the ids that --userns keep-id gives the caller inside.
func keptIDs(u *UserNS, caller *userns.Caller) (uid, gid uint32) {
	uid, gid = caller.UID, caller.GID
	if u.UID != nil {
		uid = *u.UID
	}
	if u.GID != nil {
		gid = *u.GID
	}
	return uid, gid
}

// keep exchanges id and 0: id becomes the outer 0, the caller, and 0 the outer id. Every
// other number stays what it is, so that of an image's files only root's, which are the
// caller's on the disk, and id's show with another owner. An id beyond the outer ones
// has nothing to exchange; the last one serves.
func keep(id, size uint32) []userns.ID {
	if id == 0 || size <= 1 {
		return []userns.ID{{Inside: id, Outside: 0, Size: max(1, size)}}
	}
	other := min(id, size-1)
	ids := []userns.ID{{Inside: 0, Outside: other, Size: 1}}
	if other > 1 {
		ids = append(ids, userns.ID{Inside: 1, Outside: 1, Size: other - 1})
	}
	ids = append(ids, userns.ID{Inside: id, Outside: 0, Size: 1})
	if rest := size - 1 - other; rest > 0 {
		ids = append(ids, userns.ID{Inside: id + 1, Outside: id + 1, Size: rest})
	}
	return ids
}

// without maps all of the first n outer ids but 0, the caller: the last one stands in.
func without(n uint32) []userns.ID {
	ids := []userns.ID{{Inside: 0, Outside: n - 1, Size: 1}}
	if n > 2 {
		ids = append(ids, userns.ID{Inside: 1, Outside: 1, Size: n - 2})
	}
	return ids
}

// mapFlags makes a map over outer of the flags of one kind. As with podman, those of the
// other kind stand for both, unless they say that they do not.
func mapFlags(flag string, flags, others []IDMapFlag, outer []userns.ID, of func(IDMapFlag) bool) ([]userns.ID, error) {
	if len(flags) == 0 {
		flags = others
	}
	flags = slices.DeleteFunc(slices.Clone(flags), func(f IDMapFlag) bool { return !of(f) })
	if len(flags) == 0 {
		return same(outer), nil
	}
	var ids []userns.ID
	extend := false
	for _, f := range flags {
		from := f.From
		if f.Host {
			i := slices.IndexFunc(outer, func(id userns.ID) bool { return f.From >= id.Outside && f.From-id.Outside < id.Size })
			if i < 0 {
				return nil, Errorf("%s: id %d of the host is neither the caller's nor one of their subordinate ids", flag, f.From)
			}
			from = outer[i].Inside + f.From - outer[i].Outside
		}
		size := max(f.Size, 1)
		for n := from; n-from < size; n++ {
			if _, ok := userns.Outside(outer, n); !ok {
				return nil, Errorf("%s: id %d is not among the %d that can be mapped here", flag, n, userns.Size(outer))
			}
		}
		ids = append(ids, userns.ID{Inside: f.Container, Outside: from, Size: size})
		extend = extend || f.Extend
	}
	if extend {
		ids = fill(ids, userns.Size(outer))
	}
	if err := overlapping(flag, ids); err != nil {
		return nil, err
	}
	return ids, nil
}

// fill maps what ids leave free, inside and outside, to each other, in order.
func fill(ids []userns.ID, size uint32) []userns.ID {
	free := func(end func(userns.ID) uint32) (runs []userns.ID) {
		used := slices.Clone(ids)
		slices.SortFunc(used, func(a, b userns.ID) int { return int(int64(end(a)) - int64(end(b))) })
		var next uint32
		for _, id := range used {
			if start := min(end(id), size); start > next {
				runs = append(runs, userns.ID{Inside: next, Size: start - next})
			}
			next = max(next, end(id)+id.Size)
		}
		if next < size {
			runs = append(runs, userns.ID{Inside: next, Size: size - next})
		}
		return runs
	}
	inside := free(func(id userns.ID) uint32 { return id.Inside })
	outside := free(func(id userns.ID) uint32 { return id.Outside })
	for len(inside) > 0 && len(outside) > 0 {
		n := min(inside[0].Size, outside[0].Size)
		ids = append(ids, userns.ID{Inside: inside[0].Inside, Outside: outside[0].Inside, Size: n})
		for _, runs := range []*[]userns.ID{&inside, &outside} {
			r := &(*runs)[0]
			r.Inside, r.Size = r.Inside+n, r.Size-n
			if r.Size == 0 {
				*runs = (*runs)[1:]
			}
		}
	}
	return ids
}

func overlapping(flag string, ids []userns.ID) error {
	for i, a := range ids {
		for _, b := range ids[:i] {
			if a.Inside < b.Inside+b.Size && b.Inside < a.Inside+a.Size {
				return Errorf("%s: id %d is mapped twice", flag, max(a.Inside, b.Inside))
			}
			if a.Outside < b.Outside+b.Size && b.Outside < a.Outside+a.Size {
				return Errorf("%s: two ids are mapped to %d", flag, max(a.Outside, b.Outside))
			}
		}
	}
	return nil
}
