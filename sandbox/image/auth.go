//go:build !hot

package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// credentials of one registry. An identity token stands in for a password where a
// helper or `docker login` got one.
type credentials struct {
	username, password string
	identityToken      string
}

func (c credentials) empty() bool { return c == credentials{} }

// authFile is an auth.json or docker's config.json. Keys it does not name survive a rewrite.
type authFile struct {
	Auths       map[string]authEntry `json:"auths"`
	CredHelpers map[string]string    `json:"credHelpers"`
	CredsStore  string               `json:"credsStore"`
}

type authEntry struct {
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	Username      string `json:"username,omitempty"` // ~/.dockercfg and hand-written files
	Password      string `json:"password,omitempty"`
}

// authPaths are the files to read, in order. One that was asked for is the only one.
func authPaths(asked string) []string {
	if asked = askedAuthFile(asked); asked != "" {
		return []string{asked}
	}
	home := os.Getenv("HOME")
	docker := os.Getenv("DOCKER_CONFIG")
	if docker == "" {
		docker = filepath.Join(home, ".docker")
	}
	return []string{
		runtimeAuthFile(),
		configHome("containers", "auth.json"),
		filepath.Join(docker, "config.json"),
		filepath.Join(home, ".dockercfg"),
	}
}

func askedAuthFile(flag string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv("REGISTRY_AUTH_FILE")
}

func runtimeAuthFile() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "containers", "auth.json")
	}
	return filepath.Join("/run/containers", strconv.Itoa(os.Getuid()), "auth.json")
}

// credentialsFor finds what is known for a repository; without any it is empty.
func (a Access) credentialsFor(ctx context.Context, n Name) (credentials, error) {
	if a.Creds != "" {
		user, password, _ := strings.Cut(a.Creds, ":")
		return credentials{username: user, password: password}, nil
	}
	for _, file := range authPaths(a.AuthFile) {
		c, err := lookupFile(ctx, file, n)
		// Of the usual places, one that is not there or is not for us says nothing.
		if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) && askedAuthFile(a.AuthFile) == "" {
			continue
		}
		if err != nil {
			return credentials{}, fmt.Errorf("credentials for %s: %w", n.Registry, err)
		}
		if !c.empty() {
			return c, nil
		}
	}
	return credentials{}, nil
}

func lookupFile(ctx context.Context, file string, n Name) (credentials, error) {
	f, err := readAuthFile(file)
	if err != nil {
		return credentials{}, err
	}
	if helper := f.helperFor(n.Registry); helper != "" {
		return helperGet(ctx, helper, n.Registry)
	}
	if c, err := f.find(n); err != nil || !c.empty() {
		return c, err
	}
	if f.CredsStore != "" {
		return helperGet(ctx, f.CredsStore, n.Registry)
	}
	return credentials{}, nil
}

func readAuthFile(file string) (authFile, error) {
	data, err := readConfig(file)
	if err != nil {
		return authFile{}, err
	}
	var f authFile
	target := any(&f)
	if filepath.Base(file) == ".dockercfg" {
		target = &f.Auths // the old format is that table alone
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(data, target); err != nil {
		return authFile{}, fmt.Errorf("read %s: %w", file, err)
	}
	return f, nil
}

func (f authFile) helperFor(registry string) string {
	for host, helper := range f.CredHelpers {
		if authHost(host) == registry {
			return helper
		}
	}
	return ""
}

// find takes the entry with the longest key: host/namespace/repo before host/namespace before host.
func (f authFile) find(n Name) (credentials, error) {
	for key := n.repository(); ; {
		if e, ok := f.Auths[key]; ok {
			return e.credentials(key)
		}
		slash := strings.LastIndexByte(key, '/')
		if slash < 0 {
			break
		}
		key = key[:slash]
	}
	for key, e := range f.Auths { // docker's spellings of a host: https://index.docker.io/v1/
		if authHost(key) == n.Registry {
			return e.credentials(key)
		}
	}
	return credentials{}, nil
}

// authHost is the host that a key of docker's files means, or the key itself.
func authHost(key string) string {
	host, found := strings.CutPrefix(key, "https://")
	if !found {
		host, found = strings.CutPrefix(key, "http://")
	}
	if found {
		host, _, _ = strings.Cut(host, "/")
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

func (e authEntry) credentials(key string) (credentials, error) {
	c := credentials{username: e.Username, password: e.Password, identityToken: e.IdentityToken}
	if e.Auth == "" {
		return c, nil
	}
	pair, err := base64.StdEncoding.DecodeString(e.Auth)
	user, password, ok := strings.Cut(string(pair), ":")
	if err != nil || !ok {
		return credentials{}, fmt.Errorf("entry %s: auth is not base64 of user:password", quoteShort(key))
	}
	c.username, c.password = user, strings.TrimRight(password, "\x00")
	return c, nil
}

// helperSecret is what docker-credential-* reads and writes.
type helperSecret struct {
	ServerURL string `json:",omitempty"`
	Username  string
	Secret    string
}

// errNoSecret says that a helper answered, and has nothing.
var errNoSecret = errors.New("credentials not found")

func helperGet(ctx context.Context, helper, registry string) (credentials, error) {
	for _, server := range helperKeys(registry) {
		out, err := runHelper(ctx, helper, "get", []byte(server))
		if errors.Is(err, errNoSecret) {
			continue
		}
		if err != nil {
			return credentials{}, err
		}
		var s helperSecret
		if err := json.Unmarshal(out, &s); err != nil {
			return credentials{}, fmt.Errorf("docker-credential-%s get: %w", helper, err)
		}
		if s.Username == "<token>" {
			return credentials{identityToken: s.Secret}, nil
		}
		if s.Secret != "" {
			return credentials{username: s.Username, password: s.Secret}, nil
		}
	}
	return credentials{}, nil
}

// helperKeys are the names under which podman and docker keep a registry.
func helperKeys(registry string) []string {
	if registry == "docker.io" {
		return []string{"docker.io", "https://index.docker.io/v1/"}
	}
	return []string{registry}
}

// runHelper runs one docker-credential-* of the caller's PATH, as the caller.
func runHelper(ctx context.Context, helper, verb string, stdin []byte) ([]byte, error) {
	if helper == "" || strings.ContainsAny(helper, "/\x00") {
		return nil, fmt.Errorf("credential helper: bad name %s", quoteShort(helper))
	}
	program := "docker-credential-" + helper
	cmd := exec.CommandContext(ctx, program, verb)
	cmd.Stdin = bytes.NewReader(stdin)
	var out limitedBuffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	err := cmd.Run()
	switch said := strings.TrimSpace(out.String()); {
	case err == nil:
		return out.Bytes(), nil
	case strings.Contains(said, "credentials not found"): // the protocol has no other sign
		return nil, errNoSecret
	case said != "":
		return nil, fmt.Errorf("%s %s: %w: %s", program, verb, err, quoteless(said))
	}
	return nil, fmt.Errorf("%s %s: %w", program, verb, err)
}

// limitedBuffer takes no more than a helper has reason to say.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxConfig {
		return 0, errors.New("more than 1 MiB of output")
	}
	return b.Buffer.Write(p)
}
