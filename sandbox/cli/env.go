package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// A caller looks up the environment that sbx itself was started with. It is
// asked by flags only, never by anything that an image says.
type caller struct {
	lookup  func(string) (string, bool)
	environ func() []string
}

// maxTextFile bounds what is read of a file that a flag names.
const maxTextFile = 4 << 20

// parseEnv reads one -e or one line of --env-file: NAME=value; NAME, copied from
// the caller if it is set there; NAME*, all that begin so.
func parseEnv(s string, c caller) ([]string, error) {
	name, _, assigned := strings.Cut(s, "=")
	switch {
	case s == "": // -e "$UNSET"
		return nil, nil
	case name == "":
		return nil, fmt.Errorf("%s: no name", quoteArg(s))
	case strings.IndexByte(s, 0) >= 0:
		return nil, fmt.Errorf("%s: %w", quoteArg(name), errControl)
	case assigned:
		return []string{s}, nil
	}
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		var found []string
		for _, kv := range c.environ() {
			if n, _, ok := strings.Cut(kv, "="); ok && n != "" && strings.HasPrefix(n, prefix) {
				found = append(found, kv)
			}
		}
		return found, nil
	}
	if value, ok := c.lookup(name); ok {
		return []string{name + "=" + value}, nil
	}
	return nil, nil
}

// parseEnvFile reads the lines of an --env-file. Values are taken as they stand,
// quotes and all, as docker and podman do.
func parseEnvFile(data []byte, c caller) ([]string, error) {
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxTextFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(strings.TrimPrefix(lines.Text(), "\ufeff"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if name, _, _ := strings.Cut(line, "="); strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("line %d: %s: a name cannot contain blanks", n, quoteArg(name))
		}
		kv, err := parseEnv(line, c)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		env = append(env, kv...)
	}
	return env, lines.Err()
}

// readText reads a file that a flag names, or refuses it if it is larger than max.
func readText(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name, max)
}

func readAll(r io.Reader, name string, max int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("%s: larger than %d bytes", quoteArg(name), max)
	}
	return data, err
}

func (a *runArgs) addEnv(s string) error {
	kv, err := parseEnv(s, a.caller)
	a.env = append(a.env, kv...)
	return err
}

func (a *runArgs) addEnvFile(name string) error {
	data, err := readText(name, maxTextFile)
	if err != nil {
		return err
	}
	kv, err := parseEnvFile(data, a.caller)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.envFile = append(a.envFile, kv...)
	return nil
}

func (a *runArgs) unsetEnv(s string) error {
	if s == "" || strings.ContainsAny(s, "=\x00") {
		return fmt.Errorf("%s: not a name", quoteArg(s))
	}
	a.spec.UnsetEnv = append(a.spec.UnsetEnv, s)
	return nil
}

// finishEnv puts the sources of the environment in order, lowest precedence first.
func (a *runArgs) finishEnv() {
	var env []string
	env = append(env, a.proxies()...)
	if a.envHost {
		for _, kv := range a.caller.environ() {
			if i := strings.IndexByte(kv, '='); i > 0 {
				env = append(env, kv)
			}
		}
	}
	env = append(env, a.envFile...)
	env = append(env, a.env...)
	a.spec.Env, a.spec.SecretEnv = env, a.secretEnv
}
