//go:build !hot

package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	credhelper "github.com/docker/docker-credential-helpers/client"
	"golang.org/x/sys/unix"
)

// LoginOptions is sbx login. Asking for what is missing is the caller's part.
type LoginOptions struct {
	Registry           string // HOST[:PORT][/NAMESPACE...]
	Username, Password string
	Access             Access
}

// Login checks the credentials against the registry and keeps them: with a credential
// helper where registries.conf or the file names one, else in the file.
func Login(ctx context.Context, opts LoginOptions) error {
	key, n, err := loginKey(opts.Registry)
	if err != nil {
		return err
	}
	if opts.Username == "" || opts.Password == "" {
		return fmt.Errorf("login to %s: user name and password must not be empty", key)
	}
	regs, err := LoadRegistries()
	if err != nil {
		return err
	}
	if err := verifyLogin(ctx, regs, n, opts); err != nil {
		return fmt.Errorf("login to %s: %w", key, err)
	}
	if err := keep(ctx, opts, regs.helpers, key, n); err != nil {
		return fmt.Errorf("login to %s: %w", key, err)
	}
	return nil
}

// loginKey is the key of the auth file, and the name to find settings by.
func loginKey(registry string) (string, Name, error) {
	key := authHost(strings.TrimSuffix(registry, "/"))
	host, path, _ := strings.Cut(key, "/")
	err := checkHost(host)
	if err == nil && path != "" {
		err = checkPath(path)
	}
	if err != nil {
		return "", Name{}, fmt.Errorf("registry %s: %w", quoteShort(registry), err)
	}
	return key, Name{Registry: host, Path: path}, nil
}

func verifyLogin(ctx context.Context, regs *Registries, n Name, opts LoginOptions) error {
	e := endpoint{name: n}
	if t := regs.table(n); t != nil {
		if t.Blocked {
			return fmt.Errorf("registry %s is blocked", t.Prefix)
		}
		e.insecure = t.Insecure
	}
	c, err := newClient(e, opts.Access, credentials{username: opts.Username, password: opts.Password})
	if err != nil {
		return err
	}
	defer c.close()
	err = c.ping(ctx)
	if answer, ok := errors.AsType[*RegistryError](err); ok && answer.Status == http.StatusUnauthorized {
		return withHint(err, "check the user name and the password; some registries want a token in its place")
	}
	return err
}

// keep writes what was verified.
func keep(ctx context.Context, opts LoginOptions, helpers []string, key string, n Name) error {
	if askedAuthFile(opts.Access.AuthFile) == "" && len(helpers) > 0 && helpers[0] != authFiles {
		return helperStore(ctx, helpers[0], key, opts.Username, opts.Password)
	}
	file := writableAuthFile(opts.Access.AuthFile)
	f, err := readAuthFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if helper := f.helperFor(n.Registry); helper != "" {
		return helperStore(ctx, helper, key, opts.Username, opts.Password)
	}
	auth := base64.StdEncoding.EncodeToString([]byte(opts.Username + ":" + opts.Password))
	return editAuths(file, func(auths map[string]json.RawMessage) error {
		entry, err := json.Marshal(authEntry{Auth: auth})
		auths[key] = entry
		return err
	})
}

// writableAuthFile is the file that login writes.
func writableAuthFile(flag string) string {
	if asked := askedAuthFile(flag); asked != "" {
		return asked
	}
	file := runtimeAuthFile()
	if os.Getenv("XDG_RUNTIME_DIR") == "" && unix.Access(filepath.Dir(file), unix.W_OK) != nil {
		// No session, as in cron or a container: the file that outlives reboots is the only one left.
		return configHome("containers", "auth.json")
	}
	return file
}

// LoggedIn is the user name that is kept for a registry: login --get-login.
func LoggedIn(ctx context.Context, registry string, access Access) (string, error) {
	key, n, err := loginKey(registry)
	if err != nil {
		return "", err
	}
	regs, err := LoadRegistries()
	if err != nil {
		return "", err
	}
	c, err := access.credentialsFor(ctx, n, regs.helpers, func(error) {})
	switch {
	case err != nil:
		return "", err
	case c.username == "" && c.identityToken != "":
		return "<token>", nil
	case c.username == "":
		return "", fmt.Errorf("not logged in to %s", key)
	}
	return c.username, nil
}

// Logout forgets the credentials of a registry, or of all where registry is "".
func Logout(ctx context.Context, registry string, access Access) error {
	file := writableAuthFile(access.AuthFile)
	f, err := readAuthFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	regs, err := LoadRegistries()
	if err != nil {
		return err
	}
	helpers := regs.helpers
	if askedAuthFile(access.AuthFile) != "" {
		helpers = nil
	}
	if registry == "" {
		return errors.Join(forgetAll(ctx, helpers), logoutAll(ctx, file, f))
	}
	key, n, err := loginKey(registry)
	if err != nil {
		return err
	}
	helper := f.helperFor(n.Registry)
	if helper != "" {
		if err := helperErase(ctx, helper, key); err != nil {
			return fmt.Errorf("logout from %s: %w", key, err)
		}
	}
	forgotten, err := forget(ctx, helpers, key)
	if err != nil {
		return fmt.Errorf("logout from %s: %w", key, err)
	}
	found := helper != "" || forgotten
	err = editAuths(file, func(auths map[string]json.RawMessage) error {
		for k := range auths {
			if k == key || authHost(k) == key {
				delete(auths, k)
				found = true
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("logout from %s: %w", key, err)
	}
	if found {
		return nil
	}
	if c, err := access.credentialsFor(ctx, n, helpers, func(error) {}); err == nil && !c.empty() {
		return fmt.Errorf("logout from %s: the credentials are not in %s but in a file of another tool", key, file)
	}
	return fmt.Errorf("not logged in to %s", key)
}

// forget erases what credential helpers of registries.conf know of a registry, if they do.
func forget(ctx context.Context, helpers []string, key string) (found bool, err error) {
	for _, helper := range helpers {
		if helper == authFiles {
			continue
		}
		known, err := helperGet(ctx, helper, key)
		if err == nil && !known.empty() {
			found, err = true, helperErase(ctx, helper, key)
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// forgetAll erases all that they know.
func forgetAll(ctx context.Context, helpers []string) error {
	for _, helper := range helpers {
		if helper == authFiles {
			continue
		}
		run, err := helperProgram(ctx, helper)
		if err != nil {
			return err
		}
		known, err := credhelper.List(run)
		if err != nil {
			return fmt.Errorf("docker-credential-%s: %w", helper, err)
		}
		for server := range known {
			if err := helperErase(ctx, helper, server); err != nil {
				return err
			}
		}
	}
	return nil
}

func logoutAll(ctx context.Context, file string, f authFile) error {
	for host, helper := range f.CredHelpers {
		if err := helperErase(ctx, helper, host); err != nil {
			return fmt.Errorf("logout from %s: %w", host, err)
		}
	}
	return editAuths(file, func(auths map[string]json.RawMessage) error {
		for key := range auths {
			if f.CredsStore != "" {
				if err := helperErase(ctx, f.CredsStore, key); err != nil {
					return err
				}
			}
			delete(auths, key)
		}
		return nil
	})
}

// editAuths rewrites the "auths" of a file and keeps everything else in it. The directory
// is locked meanwhile, so that of two logins at once neither is lost.
func editAuths(file string, edit func(map[string]json.RawMessage) error) error {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return &fs.PathError{Op: "flock", Path: dir, Err: err}
	}
	all := map[string]json.RawMessage{}
	auths := map[string]json.RawMessage{}
	data, err := readConfig(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(data) > 0:
		if err := json.Unmarshal(data, &all); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
	}
	if raw := all["auths"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &auths); err != nil {
			return fmt.Errorf("read %s: auths: %w", file, err)
		}
	}
	if auths == nil { // "auths": null
		auths = map[string]json.RawMessage{}
	}
	before := len(auths)
	if err := edit(auths); err != nil {
		return err
	}
	if before == 0 && len(auths) == 0 {
		return nil
	}
	if all["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	out, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(file, append(out, '\n'))
}

// replaceFile writes a file of mode 0600 whole or not at all.
func replaceFile(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".auth.json-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
