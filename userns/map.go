package userns

import (
	"errors"
	"fmt"
	"os"
	"strings"
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
	return Map{UIDs: low(uids), GIDs: low(gids)}
}

// low are the ids below 65536, which images use.
func low(ids []ID) (below []ID) {
	for _, id := range ids {
		if id.Inside < 1<<16 {
			below = append(below, ID{id.Inside, id.Outside, min(id.Size, 1<<16-id.Inside)})
		}
	}
	return below
}

// ownIDs reads which ids this process's own namespace has, as a map to themselves.
func ownIDs(path string) ([]ID, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ids, err := parseMap(string(text))
	for i := range ids {
		ids[i].Outside = ids[i].Inside
	}
	return ids, err
}

// parseMap reads the text of uid_map or gid_map.
func parseMap(text string) (ids []ID, err error) {
	for line := range strings.Lines(text) {
		var id ID
		if _, err := fmt.Sscan(line, &id.Inside, &id.Outside, &id.Size); err != nil {
			return nil, fmt.Errorf("id map: %q: %w", line, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// In is the map over another namespace: outside are its ids now, in the place of the ids that
// both have from the namespace around. What the other one does not have is left out.
func (m Map) In(outer Map) Map {
	return Map{UIDs: in(m.UIDs, outer.UIDs), GIDs: in(m.GIDs, outer.GIDs)}
}

// Within is the part of the map that the other namespace has, too, up to the first id that is
// missing there.
func (m Map) Within(outer Map) Map {
	part := func(ids, over []ID) (part []ID) {
		size := Size(over)
		for _, id := range over {
			if id.Inside < size {
				id.Outside, _ = Outside(ids, id.Inside)
				part = append(part, id)
			}
		}
		return part
	}
	over := m.In(outer)
	return Map{UIDs: part(m.UIDs, over.UIDs), GIDs: part(m.GIDs, over.GIDs)}
}

func in(ids, outer []ID) (over []ID) {
	for _, id := range ids {
		for _, o := range outer {
			first, end := max(id.Outside, o.Outside), min(id.end(), o.end())
			if first < end {
				over = append(over, ID{Inside: id.Inside + first - id.Outside, Outside: o.Inside + first - o.Outside, Size: end - first})
			}
		}
	}
	return over
}

// Text is the map as it is written to uid_map or gid_map.
func Text(ids []ID) string {
	var text strings.Builder
	for _, id := range ids {
		fmt.Fprintln(&text, id.Inside, id.Outside, id.Size)
	}
	return text.String()
}

// Fits reports whether the kernel takes that many lines (user_namespaces(7)): at most 340,
// and less than a page of text.
func Fits(ids []ID) bool { return fits(ids, 0) }

// fits leaves room for some lines more.
func fits(ids []ID, more int) bool {
	const line = len("4294967295 4294967295 4294967295\n")
	return len(ids)+more <= 340 && len(Text(ids))+more*line < os.Getpagesize()
}

// stack maps first as 0, and the ranges from 1 up, as many as fit. The kernel takes no id
// twice, and the caller's own may lie in a range.
func stack(first uint32, ranges []ID) []ID {
	ids := []ID{{0, first, 1}}
	next := uint32(1)
	for _, r := range ranges {
		for _, free := range without(r, ids) {
			with := append(ids, ID{next, free.Outside, free.Size})
			if !fits(with, 4) { // --userns in this namespace cuts some lines in two: see planIDs
				return ids
			}
			ids = with
			next += free.Size
		}
	}
	return ids
}

// without returns what of r lies outside of used, as far as the outer ids go.
func without(r ID, used []ID) []ID {
	rest := []ID{r}
	for _, u := range used {
		var left []ID
		for _, r := range rest {
			if before := min(r.end(), max(u.Outside, r.Outside)); before > r.Outside {
				left = append(left, ID{Outside: r.Outside, Size: before - r.Outside})
			}
			if after := max(r.Outside, min(u.end(), r.end())); after < r.end() {
				left = append(left, ID{Outside: after, Size: r.end() - after})
			}
		}
		rest = left
	}
	return rest
}

// within returns what of r lies in have, the ids of the namespace that r is of.
func within(r ID, have []ID) (common []ID) {
	for _, h := range have {
		first, end := max(r.Outside, h.Inside), min(r.end(), h.Inside+h.Size)
		if first < end {
			common = append(common, ID{Outside: first, Size: end - first})
		}
	}
	return common
}

// end is the first outer id behind the range; there are none as high as 2^32-1.
func (id ID) end() uint32 { return id.Outside + id.Size }
