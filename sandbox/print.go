//go:build !hot

package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sbx/sandbox/policy"
	"sbx/slirp"
	"sbx/userns"
)

// A Plan is printed as JSON, which `sbx help run` describes, or for a person.

// MarshalJSON writes the names: the values are nobody's business.
func (s SecretEnv) MarshalJSON() ([]byte, error) { return json.Marshal(s.names()) }

// MarshalJSON writes the capabilities' names.
func (c CapSet) MarshalJSON() ([]byte, error) { return json.Marshal(policy.NamesOf(uint64(c))) }

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText writes permission bits as chmod(1) takes them.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalText writes a duration as --timeout takes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the name of a signal; those for real time have numbers.
func (s Signal) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Signal) String() string {
	if name := unix.SignalName(unix.Signal(s)); name != "" {
		return name
	}
	return strconv.Itoa(int(s))
}

// page is a text of lines that begin with a name. Nothing that an image says can end a
// line, or move the cursor.
type page struct{ strings.Builder }

func (t *page) row(name, value string) { fmt.Fprintf(t, "%-19s%s\n", name, OneLine(value)) }

// rows writes values side by side, and goes on below where they are too many.
func (t *page) rows(name string, values []string) {
	const width = 90
	line := ""
	for _, v := range values {
		if line != "" && len(line)+1+len(v) > width {
			t.row(name, line)
			name, line = "", ""
		}
		line = strings.TrimPrefix(line+" "+v, " ")
	}
	t.row(name, line)
}

// quoted writes each value on a line of its own.
func (t *page) quoted(name string, values []string) {
	for _, v := range values {
		t.row(name, strconv.Quote(v))
		name = ""
	}
}

func writeLink(t *page, c *slirp.Config) {
	for _, f := range []slirp.Family{c.IPv4, c.IPv6} {
		if f.Address.IsValid() {
			t.row("", fmt.Sprintf("%s, gateway %s, resolver %s", f.Address, f.Gateway, f.Resolver))
		}
		if f.Outbound != "" {
			t.row("", "out from "+word(f.Outbound))
		}
	}
	if c.MAC != "" {
		t.row("", "hardware address "+c.MAC)
	}
	t.row("", fmt.Sprintf("by veth, or where a host refuses that, by a tap; with an MTU of %d", c.MTU))
	if c.HostLoopback {
		t.row("", "the gateway is the host's loopback")
	}
	for _, a := range c.Resolvers {
		t.row("", "names are asked of "+a.String())
	}
	for _, port := range c.Ports {
		t.row("", "published: "+port.String())
	}
	writeRules(t, c)
}

// writeRules says in words what may leave the sandbox.
func writeRules(t *page, c *slirp.Config) {
	policy := &c.Policy
	for _, r := range policy.Deny {
		t.row("", "out to "+r.Words()+": never")
	}
	for _, r := range policy.Allow {
		t.row("", "out to "+r.Words())
	}
	if len(policy.Allow) > 0 {
		t.row("", "out to nothing else")
	}
	if c.Log != "" {
		t.row("", "each flow is a line of "+word(c.Log))
	}
}

// WriteText writes the plan for a person to read: what `sbx run --dry-run` prints.
func (p *Plan) WriteText(w io.Writer) error {
	t := new(page)
	t.row("sandbox", p.ID[:min(12, len(p.ID))])
	if p.Name != "" {
		t.row("name", p.Name)
	}
	t.row("image", word(p.Image))
	t.row("preset", p.Preset)
	t.row("caller", strings.TrimSpace(fmt.Sprintf("%d:%d %s", p.Caller.UID, p.Caller.GID, p.Caller.Name)))
	t.rows("namespaces", p.Namespaces)
	network := p.Network
	if len(p.Networks) > 0 {
		var names []string
		for i := range p.Networks {
			names = append(names, p.Networks[i].Link.Member.Network)
		}
		network = strings.Join(names, ", ")
	}
	t.row("network", network)
	if p.Link != nil {
		writeLink(t, p.Link)
	}
	for i := range p.Networks {
		t.row("", p.Networks[i].title())
		writeLink(t, &p.Networks[i].Link)
	}
	if p.Driver != nil {
		t.rows("", append([]string{p.Driver.Path}, p.Driver.Args...))
		for _, port := range p.Driver.Ports {
			t.row("", "published: "+port.String())
		}
	}
	if p.Join != nil {
		t.row("", fmt.Sprintf("net namespace %d, by %s", p.Join.Inode, word(p.Join.Path)))
	}
	if p.Around != nil {
		t.row("user ids, around", mapText(p.Around.UIDs))
		t.row("group ids, around", mapText(p.Around.GIDs))
	}
	t.row("user ids", mapText(p.IDs.UIDs))
	t.row("group ids", mapText(p.IDs.GIDs))
	if p.Inner != nil {
		t.row("user ids, inner", mapText(p.Inner.UIDs))
		t.row("group ids, inner", mapText(p.Inner.GIDs))
	}
	t.row("nested sandboxes", fmt.Sprint(p.Nested))
	if p.Hostname != "" {
		t.row("hostname", word(p.Hostname))
	}
	for _, kv := range p.Sysctls {
		t.row("sysctl", kv.Key+"="+strconv.Quote(kv.Value))
	}
	p.Command.write(t)
	p.Parent.write(t)
	for _, kv := range p.Labels {
		t.row("label", strconv.Quote(kv.Key+"="+kv.Value))
	}
	for _, note := range p.Notes {
		t.row("note", note)
	}
	for _, warning := range p.Warnings {
		t.row("warning", warning)
	}
	if p.RunDir != "" {
		t.row("RUN", p.RunDir)
	}
	fmt.Fprintf(t, "\nsteps, in order, and who asks for each:\n")
	width := 0
	for i := range p.Steps {
		width = max(width, len(p.Steps[i].Why))
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		line := fmt.Sprintf("  %-8s %-*s  %-20s  %s", s.Op, width, s.Why, word(s.Dst), s.detail(p.RunDir))
		fmt.Fprintln(t, strings.TrimRight(OneLine(line), " "))
	}
	_, err := io.WriteString(w, t.String())
	return err
}

func (c *Command) write(t *page) {
	t.row("command", fmt.Sprintf("%q", c.Args))
	if c.Init {
		t.row("init", "sbx's own, before the command")
	}
	t.row("workdir", word(c.Workdir))
	t.row("user", word(c.User))
	switch {
	case c.KeepGroups:
		t.row("groups", "the caller's")
	case len(c.Groups) > 0:
		t.rows("groups", c.Groups)
	}
	t.row("umask", c.Umask.String())
	t.quoted("environment", c.Env)
	if c.HomeFromPasswd {
		t.row("", "HOME: the user's, of /etc/passwd in the root, or /")
	}
	if len(c.SecretEnv) > 0 {
		t.rows("secret environment", c.SecretEnv.names())
	}
	if c.Terminal {
		t.row("terminal", "one of its own")
	}
	if len(c.KeepFDs) > 0 {
		t.row("descriptors", strings.Trim(fmt.Sprint(c.KeepFDs), "[]"))
	}
	t.rows("capabilities", orNone(policy.NamesOf(uint64(c.Caps))))
	if c.Ambient != 0 {
		t.rows("ambient", policy.NamesOf(uint64(c.Ambient)))
	}
	if c.NoRoot {
		t.row("no root", "exec gives root no capabilities")
	}
	t.row("no_new_privs", fmt.Sprint(c.NoNewPrivs))
	var lengths []string
	for _, f := range c.Filters {
		lengths = append(lengths, strconv.Itoa(f.Len()))
	}
	t.row("seccomp", fmt.Sprintf("%s, %s instructions", c.Seccomp, strings.Join(lengths, " and ")))
	if c.Label != "" {
		t.row("selinux", c.Label)
	}
	if c.AppArmor != "" {
		t.row("apparmor", c.AppArmor)
	}
	for _, l := range c.Limits {
		t.row("limit", fmt.Sprintf("%-11s%-25s by %s  %s", l.Name, fmt.Sprintf("%s:%s", l.Soft, l.Hard), l.By, l.Why))
	}
	if n := c.OOMScoreAdj; n != nil {
		t.row("oom score", fmt.Sprintf("%+d", *n))
	}
}

func (p *Parent) write(t *page) {
	stdin, signals := "/dev/null", "end the sandbox"
	if p.Interactive {
		stdin = "the caller's"
	}
	if p.SigProxy {
		signals = "are passed on"
	}
	t.row("stdin", stdin)
	for _, stream := range p.Detached {
		t.row(stream, "/dev/null")
	}
	t.row("signals", signals)
	if p.Timeout > 0 {
		then := "then SIGKILL"
		if p.StopSignal != 0 {
			then = fmt.Sprintf("then %s, and SIGKILL after another %s", p.StopSignal, p.StopTimeout)
		}
		t.row("timeout", fmt.Sprintf("%s, %s", p.Timeout, then))
	}
	if p.CIDFile != "" {
		t.row("id in", word(p.CIDFile))
	}
	if p.PIDFile != "" {
		t.row("process id in", word(p.PIDFile))
	}
}

// detail says how, in the words of mount(8) where it has any. runDir is written RUN.
func (s *Step) detail(runDir string) string {
	var words []string
	say := func(on bool, format string, args ...any) {
		if on {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	short := func(path string) string {
		if rest, ok := strings.CutPrefix(path, runDir+"/"); ok && runDir != "" {
			path = "RUN/" + rest
		}
		return word(path)
	}
	say(s.Src != "", "from %s", short(s.Src))
	switch n := len(s.Layers); {
	case n == 1 && s.Why == "image":
		say(true, "1 layer")
	case n == 1:
		say(true, "of %s", short(s.Layers[0]))
	case n > 1:
		say(true, "%d layers", n)
	}
	say(s.Upper != "", "changes in %s", short(s.Upper))
	say(s.Keep, "and kept")
	say(s.FUSE != "", "over FUSE: %s", s.FUSE)
	say(s.ReadOnly && s.Shallow, "ro=norecursive")
	say(s.ReadOnly && !s.Shallow, "ro")
	say(s.NonRecursive, "bind-nonrecursive")
	say(s.NoSuid, "nosuid")
	say(s.NoDev, "nodev")
	say(s.NoExec, "noexec")
	say(s.Propagation != "", "%s", s.Propagation)
	say(s.Mode != 0, "mode=%o", uint32(s.Mode))
	if s.UID != nil {
		say(true, "uid=%d", *s.UID)
	}
	if s.GID != nil {
		say(true, "gid=%d", *s.GID)
	}
	say(s.Size != 0, "size=%s", sizeText(s.Size))
	say(s.Inodes != 0, "nr_inodes=%d", s.Inodes)
	say(s.Max != 0, "max=%d", s.Max)
	say(s.CopyUp, "copyup")
	say(s.Chown, "chown")
	say(s.Secret != nil, "secret, %d bytes", len(s.Secret))
	if s.Op == opPasswd {
		say(s.Text != "", "%q", s.Text)
		for _, line := range s.Options {
			say(true, "%q", line)
		}
	} else {
		words = append(words, s.Options...)
	}
	say(s.Optional, "if there")
	return strings.Join(words, " ")
}

// word quotes what would not look like one.
func word(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || r == '"' || hidden(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// sizeText writes a size as --tmpfs takes it.
func sizeText(n int64) string {
	for i, unit := range []string{"", "k", "m", "g"} {
		if n%1024 != 0 || i == 3 {
			return fmt.Sprint(n) + unit
		}
		n /= 1024
	}
	return ""
}

func orNone(words []string) []string {
	if len(words) == 0 {
		return []string{"none"}
	}
	return words
}

func mapText(ids []userns.ID) string {
	var parts []string
	for _, id := range ids {
		parts = append(parts, fmt.Sprintf("%d=%d+%d", id.Inside, id.Outside, id.Size))
	}
	return strings.Join(parts, " ")
}
