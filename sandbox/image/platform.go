package image

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ParsePlatform reads --platform: OS/ARCH[/VARIANT], or one of the two alone.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	for _, part := range parts {
		if !isLabel(part) && !isPathPart(strings.ToLower(part)) || len(parts) > 3 {
			return Platform{}, withHint(fmt.Errorf("platform %s: not OS/ARCH[/VARIANT]", quoteShort(s)), "for example linux/arm64 or linux/arm/v7")
		}
	}
	switch {
	case len(parts) == 3:
		return Platform{parts[0], parts[1], parts[2]}.normalized(), nil
	case len(parts) == 2:
		return Platform{OS: parts[0], Arch: parts[1]}.normalized(), nil
	case strings.ToLower(s) == "linux" || strings.ToLower(s) == "windows":
		return Platform{OS: s}.normalized(), nil
	}
	return Platform{Arch: s}.normalized(), nil
}

// String is the platform as people write it.
func (p Platform) String() string {
	s := p.OS + "/" + p.Arch
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// normalized gives each architecture the name that Go and image indexes have for it.
func (p Platform) normalized() Platform {
	p.OS, p.Arch, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Arch), strings.ToLower(p.Variant)
	switch p.Arch {
	case "x86_64", "x86-64":
		p.Arch = "amd64"
	case "i386", "i486", "i586", "i686", "x86":
		p.Arch = "386"
	case "aarch64":
		p.Arch = "arm64"
	case "armhf", "armv7", "armv7l":
		p.Arch, p.Variant = "arm", "v7"
	case "armel", "armv6", "armv6l":
		p.Arch, p.Variant = "arm", "v6"
	}
	switch {
	case p.Arch == "arm64" && (p.Variant == "8" || p.Variant == "v8"), p.Arch == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Arch == "arm" && len(p.Variant) == 1:
		p.Variant = "v" + p.Variant
	}
	return p
}

// complete fills in the host's. A foreign architecture has no variant of the host's.
func (p Platform) complete() Platform {
	p = p.normalized()
	if p.OS == "" {
		p.OS = "linux"
	}
	if p.Arch == "" {
		p.Arch = runtime.GOARCH
		if p.Variant == "" && p.Arch == "arm" {
			p.Variant = hostARM()
		}
	}
	if p.Arch == "arm" && p.Variant == "" {
		p.Variant = "v7"
	}
	return p
}

// Foreign tells that an image is for another platform than this host's; "" if it is not. Some
// hosts can run it all the same.
func (img *Image) Foreign() string {
	has, host := Platform{img.Config.OS, img.Config.Architecture, img.Config.Variant}.normalized(), Platform{}.complete()
	if has.Arch == "" || has.OS == host.OS && has.Arch == host.Arch {
		return ""
	}
	return fmt.Sprintf("the image is for %s, this host is %s", quoteless(has.String()), host)
}

// hostARM is the variant of this machine, which may run a binary of an older one.
func hostARM() string {
	var u unix.Utsname
	if unix.Uname(&u) == nil && strings.HasPrefix(unix.ByteSliceToString(u.Machine[:]), "armv6") {
		return "v6"
	}
	return "v7"
}
