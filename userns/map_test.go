package userns

import (
	"slices"
	"testing"
)

func TestDefaultMap(t *testing.T) {
	for _, test := range []struct {
		uid  uint32
		sub  []ID
		want []ID
	}{
		{1000, nil, []ID{{0, 1000, 1}}},
		{1000, []ID{{0, 100000, 65536}}, []ID{{0, 1000, 1}, {1, 100000, 65536}}},
		{1000, []ID{{0, 100000, 10}, {0, 200000, 20}}, []ID{{0, 1000, 1}, {1, 100000, 10}, {11, 200000, 20}}},
		// The caller's own id is one of the range's.
		{100500, []ID{{0, 100000, 65536}}, []ID{{0, 100500, 1}, {1, 100000, 500}, {501, 100501, 65035}}},
		{100000, []ID{{0, 100000, 10}}, []ID{{0, 100000, 1}, {1, 100001, 9}}},
		{100009, []ID{{0, 100000, 10}}, []ID{{0, 100009, 1}, {1, 100000, 9}}},
		{100010, []ID{{0, 100000, 10}}, []ID{{0, 100010, 1}, {1, 100000, 10}}},
		{7, []ID{{0, 7, 1}, {0, 100000, 10}}, []ID{{0, 7, 1}, {1, 100000, 10}}},
	} {
		c := Caller{UID: test.uid, GID: test.uid, SubUIDs: test.sub, SubGIDs: test.sub}
		if got := c.Default(); !slices.Equal(got.UIDs, test.want) || !slices.Equal(got.GIDs, test.want) {
			t.Errorf("%d with %v: %v, want %v", test.uid, test.sub, got, test.want)
		}
	}
}
