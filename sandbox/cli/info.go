//go:build !hot

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"sbx/sandbox"
)

// info is sbx info. The keys of its JSON are podman's where podman has the same thing.
type info struct {
	Host    hostInfo    `json:"host"`
	Store   storeInfo   `json:"store"`
	Version versionInfo `json:"version"`
}

type hostInfo struct {
	Arch           string    `json:"arch"`
	OS             string    `json:"os"`
	Kernel         string    `json:"kernel"`
	CgroupVersion  string    `json:"cgroupVersion"`
	User           string    `json:"user"`
	UserNamespaces string    `json:"userNamespaces"`              // "yes", or why not,
	Fix            string    `json:"userNamespacesFix,omitempty"` // and what helps
	Ping           string    `json:"ping"`                        // the same, of ICMP sockets for private networks
	PingFix        string    `json:"pingFix,omitempty"`           //
	IDMappings     idMapInfo `json:"idMappings"`
	Security       secInfo   `json:"security"`
}

type idMapInfo struct {
	SubUIDs []idRange `json:"subuid"`
	SubGIDs []idRange `json:"subgid"`
	Problem string    `json:"problem,omitempty"`
	Fix     string    `json:"fix,omitempty"`
}

type idRange struct {
	Host uint32 `json:"host_id"`
	Size uint32 `json:"size"`
}

type secInfo struct {
	Rootless       bool   `json:"rootless"`
	SeccompEnabled bool   `json:"seccompEnabled"`
	SeccompActions string `json:"seccompActions"`
	AppArmor       bool   `json:"apparmorEnabled"`
	SELinux        bool   `json:"selinuxEnabled"`
}

type storeInfo struct {
	GraphRoot  string `json:"graphRoot"`
	Driver     string `json:"graphDriverName"`
	Images     images `json:"imageStore"`
	VolumePath string `json:"volumePath"`
	Overlay    string `json:"overlay"`                // who stacks layers, and why
	UpperTmpfs string `json:"upperOnTmpfs,omitempty"` // why the kernel does not keep the throwaway layer of a run on disk
}

type images struct {
	Number   int      `json:"number"`
	ReadOnly int      `json:"readOnly"` // of these, in stores of podman's
	Podman   []string `json:"podmanStores"`
}

func defineInfo(a *app, fs *pflag.FlagSet) action {
	format := fs.StringP("format", "f", "", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 0, ""); err != nil {
			return 0, err
		}
		in, err := a.gatherInfo()
		if err != nil {
			return 0, err
		}
		if *format != "" {
			return 0, a.printOne(*format, in)
		}
		return 0, a.print(in.text())
	}
}

func (a *app) gatherInfo() (info, error) {
	store, err := a.store()
	if err != nil {
		return info{}, err
	}
	host, err := sandbox.Probe(store.Dir(), &sandbox.Spec{Overlay: os.Getenv("SBX_OVERLAY")})
	if err != nil {
		return info{}, err
	}
	in := info{Version: buildVersion()}
	in.Host = hostInfo{
		Arch:           host.Arch,
		OS:             "linux",
		Kernel:         kernelFile("osrelease"),
		CgroupVersion:  "v1",
		User:           host.Caller.Name,
		UserNamespaces: "yes",
		Ping:           "yes",
		IDMappings: idMapInfo{
			SubUIDs: []idRange{}, SubGIDs: []idRange{},
			Problem: host.Caller.Why, Fix: host.Caller.Fix,
		},
	}
	if err := host.Refused(); err != nil {
		in.Host.UserNamespaces = "no: " + err.Error()
		var hinter interface{ Hint() string }
		if errors.As(err, &hinter) {
			in.Host.Fix = hinter.Hint()
		}
	}
	if err := tryPing(); err != nil {
		in.Host.Ping = fmt.Sprintf("no: %v: net.ipv4.ping_group_range (%s) has none of your groups", err, sysctl("net/ipv4/ping_group_range"))
		in.Host.PingFix = fmt.Sprintf("sysctl -w 'net.ipv4.ping_group_range=%d %[1]d' as root; until then, nothing that is pinged from a private network answers", os.Getgid())
	}
	ids := &in.Host.IDMappings
	for _, id := range host.Caller.SubUIDs {
		ids.SubUIDs = append(ids.SubUIDs, idRange{id.Outside, id.Size})
	}
	for _, id := range host.Caller.SubGIDs {
		ids.SubGIDs = append(ids.SubGIDs, idRange{id.Outside, id.Size})
	}
	if host.Cgroup2 {
		in.Host.CgroupVersion = "v2"
	}
	actions := kernelFile("seccomp/actions_avail")
	in.Host.Security = secInfo{
		Rootless:       host.Caller.UID != 0,
		SeccompEnabled: actions != "",
		SeccompActions: actions,
		AppArmor:       host.AppArmor,
		SELinux:        host.SELinux,
	}
	kept, err := store.Info()
	if err != nil {
		return info{}, err
	}
	in.Store = storeInfo{
		GraphRoot: kept.Root, Driver: kept.Driver, Overlay: host.OverlayBy(os.Getenv("SBX_OVERLAY")), UpperTmpfs: host.UpperTmpfs, VolumePath: volumeDir(store),
		Images: images{kept.Images, kept.ReadOnly, append([]string{}, kept.Podman...)},
	}
	return in, nil
}

func kernelFile(name string) string { return sysctl("kernel/" + name) }

func sysctl(path string) string {
	text, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// tryPing asks the kernel for a socket like that which sbx-net pings by (icmp(7)).
func tryPing() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// text is info for people.
func (in info) text() string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-18s %s\n", name, value) }
	h := in.Host
	line("version", in.Version.Version)
	line("host", fmt.Sprintf("%s/%s, Linux %s", h.OS, h.Arch, h.Kernel))
	line("user", h.User)
	line("user namespaces", h.UserNamespaces)
	if h.Fix != "" {
		line("", h.Fix)
	}
	line("ping", h.Ping)
	if h.PingFix != "" {
		line("", h.PingFix)
	}
	line("subordinate ids", ranges(h.IDMappings))
	if h.IDMappings.Problem != "" {
		line("", h.IDMappings.Problem)
		line("", h.IDMappings.Fix)
	}
	line("cgroups", h.CgroupVersion)
	line("seccomp", yesNo(h.Security.SeccompEnabled))
	line("AppArmor", yesNo(h.Security.AppArmor))
	line("SELinux", yesNo(h.Security.SELinux))
	line("store", in.Store.GraphRoot)
	line("images", fmt.Sprintf("%d, %d of them podman's", in.Store.Images.Number, in.Store.Images.ReadOnly))
	line("volumes", in.Store.VolumePath)
	line("overlay", in.Store.Overlay)
	return b.String()
}

func ranges(m idMapInfo) string {
	return fmt.Sprintf("%d users, %d groups", count(m.SubUIDs), count(m.SubGIDs))
}

func count(ids []idRange) (n uint64) {
	for _, id := range ids {
		n += uint64(id.Size)
	}
	return n
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
