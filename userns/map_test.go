package userns

import (
	"reflect"
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

func TestIn(t *testing.T) {
	caller := []ID{{0, 1000, 1}, {1, 100000, 65536}}
	for _, test := range []struct{ outer, in, within []ID }{
		{caller, []ID{{0, 0, 1}, {1, 1, 65536}}, caller},
		{[]ID{{0, 1000, 1}}, []ID{{0, 0, 1}}, []ID{{0, 1000, 1}}},
		{[]ID{{5, 1000, 1}, {10, 100000, 10}, {30, 100010, 10}}, []ID{{0, 5, 1}, {1, 10, 10}, {11, 30, 10}}, []ID{{0, 1000, 1}, {1, 100000, 10}, {11, 100010, 10}}},
		{[]ID{{0, 1000, 1}, {1, 100010, 10}}, []ID{{0, 0, 1}, {11, 1, 10}}, []ID{{0, 1000, 1}}}, // with a gap
		{[]ID{{0, 1001, 1}}, nil, nil},
		{[]ID{{0, 0, 4294967295}}, []ID{{0, 1000, 1}, {1, 100000, 65536}}, caller},
	} {
		m, outer := Map{caller, caller}, Map{test.outer, test.outer}
		if got := m.In(outer); !slices.Equal(got.UIDs, test.in) || !slices.Equal(got.GIDs, test.in) {
			t.Errorf("in %v: %v, want %v", test.outer, got, test.in)
		}
		if got := m.Within(outer); !slices.Equal(got.UIDs, test.within) || !slices.Equal(got.GIDs, test.within) {
			t.Errorf("within %v: %v, want %v", test.outer, got, test.within)
		}
	}
}

func TestStack(t *testing.T) {
	many := func(n, apart uint32) (ids []ID) {
		for i := range n {
			ids = append(ids, ID{Outside: 1000 + i*apart, Size: 2})
		}
		return ids
	}
	for _, test := range []struct {
		name   string
		first  uint32
		ranges []ID
		want   []ID
	}{
		{"one", 7, []ID{{0, 100, 10}}, []ID{{0, 7, 1}, {1, 100, 10}}},
		{"two", 7, []ID{{0, 100, 10}, {0, 50, 10}}, []ID{{0, 7, 1}, {1, 100, 10}, {11, 50, 10}}},
		{"twice", 7, []ID{{0, 100, 10}, {0, 100, 10}}, []ID{{0, 7, 1}, {1, 100, 10}}},
		{"overlapping above", 7, []ID{{0, 100, 10}, {0, 105, 10}}, []ID{{0, 7, 1}, {1, 100, 10}, {11, 110, 5}}},
		{"overlapping below", 7, []ID{{0, 105, 10}, {0, 100, 10}}, []ID{{0, 7, 1}, {1, 105, 10}, {11, 100, 5}}},
		{"around another", 7, []ID{{0, 104, 2}, {0, 100, 10}}, []ID{{0, 7, 1}, {1, 104, 2}, {3, 100, 4}, {7, 106, 4}}},
		{"in another", 7, []ID{{0, 100, 10}, {0, 104, 2}}, []ID{{0, 7, 1}, {1, 100, 10}}},
		{"the caller's own in it", 104, []ID{{0, 100, 10}}, []ID{{0, 104, 1}, {1, 100, 4}, {5, 105, 5}}},
		{"the caller's own at its end", 100, []ID{{0, 100, 10}}, []ID{{0, 100, 1}, {1, 101, 9}}},
		{"up to the last id", 7, []ID{{0, 1<<32 - 11, 10}}, []ID{{0, 7, 1}, {1, 1<<32 - 11, 10}}},
	} {
		if got := stack(test.first, test.ranges); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, not %v", test.name, got, test.want)
		}
	}
	for _, apart := range []uint32{3, 3_000_000} {
		if got := stack(7, many(1000, apart)); !Fits(got) || len(got) < 100 {
			t.Errorf("%d lines of 1000 are mapped", len(got))
		}
	}
}

func TestWithin(t *testing.T) {
	container := []ID{{0, 0, 1}, {1, 1, 65536}}
	for _, test := range []struct {
		r    ID
		want []ID
	}{
		{ID{0, 100000, 65536}, nil},
		{ID{0, 60000, 65536}, []ID{{0, 60000, 5537}}},
		{ID{0, 0, 10}, []ID{{0, 0, 1}, {0, 1, 9}}},
		{ID{0, 10, 10}, []ID{{0, 10, 10}}},
	} {
		if got := within(test.r, container); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v: %v, not %v", test.r, got, test.want)
		}
	}
}

func TestNameIn(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\n# x\nshort:x:5\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\nada2:x:1000:1::/:\n"
	for number, want := range map[string]string{"0": "root", "1000": "ada", "5": "", "10": ""} {
		if got := nameIn(passwd, number); got != want {
			t.Errorf("%s: %q, not %q", number, got, want)
		}
	}
}
