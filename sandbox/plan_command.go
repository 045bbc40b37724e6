package sandbox

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// defaultPath is the PATH of an image that sets none, as with podman and docker.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// planCommand joins the image's words with the user's.
func planCommand(p *Plan, spec *Spec, host *Host) error {
	c := &p.Command
	args := spec.Args
	entrypoint := spec.Image.Entrypoint
	if spec.Entrypoint != nil {
		entrypoint = *spec.Entrypoint
	} else if len(args) == 0 {
		args = spec.Image.Cmd
	}
	if spec.Entrypoint == nil && len(spec.Args) > 0 {
		args = spec.Args
	}
	c.Args = slices.Concat(entrypoint, args)
	if len(c.Args) == 0 {
		return &Error{Text: "no command was given, and the image names none", Fix: "write it behind the image: sbx run IMAGE COMMAND"}
	}
	if c.Args[0] == "" {
		return &NotFoundError{Name: ""}
	}
	c.SecretEnv = spec.SecretEnv
	c.Env = slices.DeleteFunc(planEnv(p, spec, host), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.ContainsFunc(spec.SecretEnv, func(secret string) bool { return strings.HasPrefix(secret, name+"=") })
	})
	c.Workdir = cmp.Or(spec.Workdir, spec.Image.WorkingDir, "/")
	if !path.IsAbs(c.Workdir) {
		if spec.Workdir != "" {
			return Errorf("--workdir %q: it must be absolute", c.Workdir)
		}
		c.Workdir = "/" + c.Workdir // as docker and podman read a relative WORKDIR
	}
	c.Workdir = path.Clean(c.Workdir)

	planUser(c, spec, host)
	if slices.Contains(spec.GroupAdd, "keep-groups") {
		if len(spec.GroupAdd) > 1 {
			return Errorf("--group-add keep-groups: it excludes other groups")
		}
		c.KeepGroups = true
	} else {
		c.Groups = spec.GroupAdd
	}
	umask, err := strconv.ParseUint(cmp.Or(spec.Umask, "0022"), 8, 32)
	if err != nil || umask > 0o777 {
		return Errorf("--umask %q: not an octal number up to 777", spec.Umask)
	}
	c.Umask = uint32(umask)
	if n := spec.OOMScoreAdj; n != nil {
		if *n < -1000 || *n > 1000 {
			return Errorf("--oom-score-adj %d: it must lie between -1000 and 1000", *n)
		}
		c.OOMScoreAdj = n
	}
	c.Init = spec.Init
	c.Terminal = spec.Terminal
	c.KeepFDs = slices.Sorted(slices.Values(spec.PreserveFDs))
	return nil
}

// planUser says who the command runs as, and who else has a line in passwd.
func planUser(c *Command, spec *Spec, host *Host) {
	c.User = cmp.Or(spec.User, spec.Image.User, "0")
	if line := hostUser(spec); line != nil {
		_, group, _ := strings.Cut(spec.User, ":")
		c.User = line[2] + ":" + cmp.Or(group, line[3])
		isHome := func(entry string) bool { return strings.HasPrefix(entry, "HOME=") }
		if !slices.ContainsFunc(slices.Concat(c.Env, c.SecretEnv), isHome) {
			c.Env = append(c.Env, "HOME="+line[5])
		}
	}
	if spec.UserNS.Mode != "keep-id" {
		return
	}
	uid, gid := keptIDs(&spec.UserNS, &host.Caller)
	if spec.User == "" && spec.Image.User == "" {
		c.User = fmt.Sprintf("%d:%d", uid, gid)
	}
	// The name may come of $USER, which may hold anything. Root has a name already.
	if name := host.Caller.Name; uid != 0 && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r == ':' || r < ' ' }) {
		kept := fmt.Sprintf("%s:*:%d:%d:container user:%s:/bin/sh", name, uid, gid, c.Workdir)
		spec.HostUsers = slices.Concat(spec.HostUsers, []string{kept})
	}
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

// planEnv stacks the environment: the built-in one, the image's, the user's. HOME
// comes last, in the sandbox, if nobody has set it: it is the user's, of passwd.
func planEnv(p *Plan, spec *Spec, host *Host) []string {
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
			env.set("HOSTNAME", cmp.Or(spec.Hostname, host.shortID()))
		}
		for _, entry := range spec.Image.Env {
			// An image's entry without a value names nothing of ours: podman filled it in
			// from the host (CVE-2026-57231).
			if name, value, ok := strings.Cut(entry, "="); ok && name != "" && !strings.Contains(entry, "\x00") {
				env.set(name, value)
			}
		}
		for _, name := range spec.UnsetEnv {
			env.unset(name)
		}
	}
	for _, entry := range spec.Env {
		name, value, _ := strings.Cut(entry, "=")
		env.set(name, value)
	}
	return env.list()
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
