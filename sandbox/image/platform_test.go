package image

import "testing"

func TestParsePlatform(t *testing.T) {
	for s, want := range map[string]Platform{
		"linux/amd64":    {OS: "linux", Arch: "amd64"},
		"Linux/x86_64":   {OS: "linux", Arch: "amd64"},
		"linux/amd64/v1": {OS: "linux", Arch: "amd64"},
		"linux/arm/v7":   {OS: "linux", Arch: "arm", Variant: "v7"},
		"linux/arm/6":    {OS: "linux", Arch: "arm", Variant: "v6"},
		"armhf":          {Arch: "arm", Variant: "v7"},
		"aarch64":        {Arch: "arm64"},
		"linux/arm64/v8": {OS: "linux", Arch: "arm64"},
		"linux":          {OS: "linux"},
		"linux/i686":     {OS: "linux", Arch: "386"},
	} {
		if got, err := ParsePlatform(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "/", "linux/", "/amd64", "linux//v7", "a/b/c/d", "linux/am d64", "linux/\n"} {
		if got, err := ParsePlatform(s); err == nil {
			t.Errorf("%q: accepted as %+v", s, got)
		}
	}
}
