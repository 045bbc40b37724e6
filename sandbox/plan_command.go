package sandbox

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// defaultPath is the PATH of an image that sets none, as with podman and docker.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command joins the image's words with the user's.
func (p *planner) command() error {
	spec, c := p.spec, &p.Command
	if c.Args = spec.args(); len(c.Args) == 0 {
		return &Error{Text: "no command was given, and the image names none", Fix: "write it behind the image: sbx run IMAGE COMMAND"}
	}
	if c.Args[0] == "" {
		return &NotFoundError{Name: ""}
	}
	c.Workdir = path.Join("/", cmp.Or(spec.Workdir, spec.Image.WorkingDir)) // as docker and podman read a relative WORKDIR
	c.User = p.user()
	p.env()
	if slices.Contains(spec.GroupAdd, "keep-groups") {
		if len(spec.GroupAdd) > 1 {
			return Errorf("--group-add keep-groups: it excludes other groups")
		}
		c.KeepGroups = true
	} else {
		c.Groups = spec.GroupAdd
	}
	c.Umask = 0o022
	if spec.Umask != nil {
		c.Umask = Mode(*spec.Umask)
	}
	c.OOMScoreAdj = spec.OOMScoreAdj
	c.Init = spec.Init
	c.Terminal = spec.Terminal
	c.KeepFDs = slices.Sorted(slices.Values(spec.PreserveFDs))
	return nil
}

// args are the entrypoint and its arguments. One that the user gives does without the
// image's arguments.
func (s *Spec) args() []string {
	switch {
	case s.Entrypoint != nil:
		return slices.Concat(*s.Entrypoint, s.Args)
	case len(s.Args) > 0:
		return slices.Concat(s.Image.Entrypoint, s.Args)
	}
	return slices.Concat(s.Image.Entrypoint, s.Image.Cmd)
}

// user says who the command runs as.
func (p *planner) user() string {
	spec := p.spec
	if line := hostUser(spec); line != nil {
		_, group, _ := strings.Cut(spec.User, ":")
		return line[2] + ":" + cmp.Or(group, line[3])
	}
	if spec.UserNS.Mode == "keep-id" && spec.User == "" && spec.Image.User == "" {
		uid, gid := keptIDs(&spec.UserNS, &p.host.Caller)
		return fmt.Sprintf("%d:%d", uid, gid)
	}
	return cmp.Or(spec.User, spec.Image.User, "0")
}

// users are lines for passwd: those of --hostuser, and with keep-id the caller's.
func (p *planner) users() []string {
	spec, name := p.spec, p.callerName()
	uid, gid := keptIDs(&spec.UserNS, &p.host.Caller)
	if spec.UserNS.Mode != "keep-id" || uid == 0 || name == "" { // root has a name already
		return spec.HostUsers
	}
	return slices.Concat(spec.HostUsers, []string{fmt.Sprintf("%s:*:%d:%d:container user:%s:/bin/sh", name, uid, gid, p.Command.Workdir)})
}

// groups are lines for group: with keep-id the caller's.
func (p *planner) groups() []string {
	if p.host.GroupName == "" {
		return nil
	}
	_, gid := keptIDs(&p.spec.UserNS, &p.host.Caller)
	return []string{fmt.Sprintf("%s:x:%d:%s", p.host.GroupName, gid, p.callerName())}
}

// callerName is the caller's, if it fits in a line. It may come of $USER, which may hold anything.
func (p *planner) callerName() string {
	name := p.host.Caller.Name
	if strings.ContainsFunc(name, func(r rune) bool { return r == ':' || r < ' ' }) {
		return ""
	}
	return name
}

// hostUser returns the fields of the --hostuser that --user names, if it does.
func hostUser(spec *Spec) []string {
	name, _, _ := strings.Cut(spec.User, ":")
	for _, line := range spec.HostUsers {
		if fields := strings.Split(line, ":"); len(fields) == 7 && fields[0] == name {
			return fields
		}
	}
	return nil
}

// env stacks the environment: the built-in one, the image's, the user's. HOME, if nobody
// has set it, is the user's.
func (p *planner) env() {
	spec, c := p.spec, &p.Command
	env := newEnv()
	if !spec.UnsetEnvAll {
		env.set("PATH", defaultPath)
		env.set("container", "sbx")
		if spec.SdnotifySocket != "" {
			env.set("NOTIFY_SOCKET", notifySocket)
		}
		if spec.Terminal {
			env.set("TERM", "xterm")
		}
		if spec.UTS != "host" {
			env.set("HOSTNAME", cmp.Or(spec.Hostname, p.host.shortID()))
		}
		for _, entry := range spec.Image.Env {
			// An image's entry without a value names nothing of ours: podman filled it in
			// from the host (CVE-2026-57231).
			name, value, ok := strings.Cut(entry, "=")
			if !ok || name == "" || strings.Contains(entry, "\x00") {
				p.warn(fmt.Sprintf("image configuration: Env: %.60q is dropped: not NAME=value", entry))
				continue
			}
			env.set(name, value)
		}
		for _, name := range spec.UnsetEnv {
			env.unset(name)
		}
	}
	for _, entry := range spec.Env {
		name, value, _ := strings.Cut(entry, "=")
		env.set(name, value)
	}
	c.SecretEnv = spec.SecretEnv
	for _, name := range c.SecretEnv.names() {
		env.unset(name)
	}
	if env.values["HOME"] == "" { // as some images set it
		env.unset("HOME")
	}
	switch line := hostUser(spec); {
	case env.has("HOME"), slices.Contains(c.SecretEnv.names(), "HOME"):
	case line != nil:
		env.set("HOME", line[5])
	default:
		c.HomeFromPasswd = true
	}
	c.Env = env.list()
}

// names are those of the variables.
func (s SecretEnv) names() []string {
	names := []string{}
	for _, entry := range s {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	return names
}

// env is an environment that remembers the order in which names came.
type env struct {
	names  []string
	values map[string]string
}

func newEnv() *env { return &env{values: map[string]string{}} }

func (e *env) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *env) has(name string) bool {
	_, ok := e.values[name]
	return ok
}

func (e *env) unset(name string) {
	delete(e.values, name)
	e.names = slices.DeleteFunc(e.names, func(n string) bool { return n == name })
}

func (e *env) list() []string {
	list := make([]string, 0, len(e.names))
	for _, name := range e.names {
		list = append(list, name+"="+e.values[name])
	}
	return list
}
