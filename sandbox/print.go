package sandbox

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sbx/sandbox/policy"
	"sbx/userns"
)

// WriteText writes the plan for a person to read: what `sbx run --dry-run` prints.
func (p *Plan) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	row("sandbox", p.ID[:min(12, len(p.ID))])
	row("image", p.Image)
	row("namespaces", strings.Join(p.Namespaces, " "))
	row("user ids", mapText(p.IDs.UIDs))
	row("group ids", mapText(p.IDs.GIDs))
	if p.Inner != nil {
		row("user ids, inner", mapText(p.Inner.UIDs))
		row("group ids, inner", mapText(p.Inner.GIDs))
	}
	if p.Hostname != "" {
		row("hostname", p.Hostname)
	}
	c := &p.Command
	row("command", fmt.Sprintf("%q", c.Args))
	row("workdir", c.Workdir)
	row("user", c.User)
	row("environment", strings.Join(c.Env, " "))
	for _, secret := range c.SecretEnv {
		name, _, _ := strings.Cut(secret, "=")
		row("secret environment", name)
	}
	row("capabilities", strings.Join(policy.NamesOf(c.Caps), " "))
	row("seccomp", fmt.Sprintf("%s, %d instructions", c.Seccomp, len(c.Filter)/8))
	row("no_new_privs", fmt.Sprint(c.NoNewPrivs))
	row("nested sandboxes", fmt.Sprint(p.Nested))
	for _, l := range c.Rlimits {
		row("limit", fmt.Sprintf("%s %s:%s", l.Name, policy.Limit(l.Soft), policy.Limit(l.Hard)))
	}
	for _, kv := range p.Sysctls {
		row("sysctl", kv.Key+"="+kv.Value)
	}
	for _, kv := range p.Labels {
		row("label", kv.Key+"="+kv.Value)
	}
	for _, note := range p.Notes {
		row("note", note)
	}
	for _, warning := range p.Warnings {
		row("warning", warning)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nsteps, in order:")
	for _, s := range p.Steps {
		row("  "+s.Op, s.Dst, s.detail(), s.Why)
	}
	return t.Flush()
}

func (s *Step) detail() string {
	var words []string
	if s.Src != "" {
		words = append(words, "from "+s.Src)
	}
	if n := len(s.Layers); n > 0 {
		words = append(words, fmt.Sprintf("%d layers", n))
	}
	if s.Upper != "" {
		words = append(words, "changes in "+s.Upper)
	}
	for _, f := range []struct {
		on   bool
		word string
	}{
		{s.ReadOnly, "ro"}, {s.NoSuid, "nosuid"}, {s.NoDev, "nodev"}, {s.NoExec, "noexec"},
		{s.CopyUp, "copyup"}, {s.Chown, "chown"}, {s.Optional, "optional"},
	} {
		if f.on {
			words = append(words, f.word)
		}
	}
	if s.Propagation != "" {
		words = append(words, s.Propagation)
	}
	if s.Mode != 0 {
		words = append(words, fmt.Sprintf("mode=%o", s.Mode))
	}
	if s.Size != 0 {
		words = append(words, fmt.Sprintf("size=%d", s.Size))
	}
	return strings.Join(append(words, s.Options...), " ")
}

func mapText(ids []userns.ID) string {
	var parts []string
	for _, id := range ids {
		parts = append(parts, fmt.Sprintf("%d=%d+%d", id.Inside, id.Outside, id.Size))
	}
	return strings.Join(parts, " ")
}
