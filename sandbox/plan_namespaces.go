package sandbox

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// namespaces makes every namespace private that nobody asked to share.
func (p *planner) namespaces() error {
	spec := p.spec
	p.Network = cmp.Or(spec.Network, p.preset.Network)
	if len(spec.Networks) > 0 {
		p.Network = userDefined
	}
	net := p.Network
	if joins(net) {
		net = "host" // it is no new one
	}
	p.Namespaces = []string{"user", "mnt"}
	for _, ns := range []struct {
		name, flag, mode string
		modes            []string
	}{
		{"pid", "--pid", spec.PID, []string{"", "private", "host"}},
		{"ipc", "--ipc", spec.IPC, []string{"", "private", "shareable", "none", "host"}},
		{"uts", "--uts", spec.UTS, []string{"", "private", "host"}},
		{"net", "--network", net, []string{"none", "private", "host", "slirp4netns", "pasta", userDefined}},
		{"cgroup", "--cgroupns", spec.CgroupNS, []string{"", "private", "host"}},
	} {
		if !slices.Contains(ns.modes, ns.mode) {
			return Errorf("%s: unknown mode %q", ns.flag, ns.mode)
		}
		if ns.mode != "host" {
			p.Namespaces = append(p.Namespaces, ns.name)
		}
	}
	if !p.has("pid") {
		p.warn("--pid host: the command sees the processes of the host, and can signal the caller's")
	}
	if p.has("uts") {
		p.Hostname = cmp.Or(spec.Hostname, p.host.shortID())
	} else if spec.Hostname != "" {
		return Errorf("--hostname: the host's name cannot be changed with --uts host")
	}
	return nil
}

// sysctls lets through what belongs to a namespace of the sandbox's own.
func (p *planner) sysctls() error {
	for _, kv := range p.spec.Sysctls {
		name := strings.ReplaceAll(kv.Key, "/", ".")
		var ns string
		switch {
		case strings.HasPrefix(name, "net."):
			ns = "net"
		case strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem", strings.HasPrefix(name, "fs.mqueue."):
			ns = "ipc"
		case name == "kernel.hostname", name == "kernel.domainname":
			return &Error{Text: "--sysctl " + kv.Key + ": it is not set this way", Fix: "--hostname NAME"}
		default:
			return Errorf("--sysctl %s: it is not part of a namespace, so it belongs to the whole host", kv.Key)
		}
		if !p.has(ns) {
			whose := "the host"
			if ns == "net" && joins(p.Network) {
				whose = "others"
			}
			return Errorf("--sysctl %s: the sandbox shares the %s namespace of %s", kv.Key, ns, whose)
		}
		if path.Clean("/"+strings.ReplaceAll(name, ".", "/")) != "/"+strings.ReplaceAll(name, ".", "/") {
			return Errorf("--sysctl %s: not a name", kv.Key)
		}
		p.Sysctls = append(p.Sysctls, KeyValue{name, kv.Value})
	}
	return nil
}
