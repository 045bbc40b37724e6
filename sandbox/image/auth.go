//go:build !hot

package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	credhelper "github.com/docker/docker-credential-helpers/client"
	helpers "github.com/docker/docker-credential-helpers/credentials"
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

// authFiles among the credential helpers of registries.conf are the files of authPaths.
const authFiles = "containers-auth.json"

// credentialsFor finds what is known for a repository; without any it is empty. Of the helpers,
// those of registries.conf, the first that knows something counts. warn is told of those and
// of files that cannot be asked: an image that everyone may have needs none.
func (a Access) credentialsFor(ctx context.Context, n Name, helpers []string, warn func(error)) (credentials, error) {
	if a.Creds != "" {
		user, password, _ := strings.Cut(a.Creds, ":")
		return credentials{username: user, password: password}, nil
	}
	if askedAuthFile(a.AuthFile) != "" {
		helpers = []string{authFiles}
	}
	for _, helper := range helpers {
		var c credentials
		var err error
		if helper == authFiles {
			c, err = a.inFiles(ctx, n, warn)
		} else {
			c, err = helperGet(ctx, helper, n.Registry)
		}
		switch {
		case err != nil && (helper == authFiles || ctx.Err() != nil):
			return credentials{}, err
		case err != nil:
			warn(fmt.Errorf("credentials for %s: credential-helpers of registries.conf: %w", n.Registry, err))
		case !c.empty():
			return c, nil
		}
	}
	return credentials{}, nil
}

// inFiles finds what the files know.
func (a Access) inFiles(ctx context.Context, n Name, warn func(error)) (credentials, error) {
	for _, file := range authPaths(a.AuthFile) {
		c, err := lookupFile(ctx, file, n)
		if err != nil && askedAuthFile(a.AuthFile) == "" && ctx.Err() == nil {
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				warn(fmt.Errorf("credentials for %s: %s: %w", n.Registry, file, err))
			}
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
	helper := f.helperFor(n.Registry)
	written, err := f.find(n)
	// The store is for all that have no helper of their own: what is written down counts more.
	if helper == "" || helper == f.CredsStore && (err != nil || !written.empty()) {
		return written, err
	}
	return helperGet(ctx, helper, n.Registry)
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

// helperFor is the credential helper that the file names for a registry, "" for none.
func (f authFile) helperFor(registry string) string {
	for host, helper := range f.CredHelpers {
		if authHost(host) == registry {
			return helper
		}
	}
	return f.CredsStore
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

// helperGet asks a credential helper; what it does not know is empty.
func helperGet(ctx context.Context, helper, registry string) (credentials, error) {
	run, err := helperProgram(ctx, helper)
	if err != nil {
		return credentials{}, err
	}
	for _, server := range helperKeys(registry) {
		s, err := credhelper.Get(run, server)
		if helpers.IsErrCredentialsNotFound(err) {
			continue
		}
		switch {
		case err != nil:
			return credentials{}, fmt.Errorf("docker-credential-%s: %w", helper, err)
		case s.Username == "<token>":
			return credentials{identityToken: s.Secret}, nil
		case s.Secret != "":
			return credentials{username: s.Username, password: s.Secret}, nil
		}
	}
	return credentials{}, nil
}

func helperStore(ctx context.Context, helper, server, username, password string) error {
	run, err := helperProgram(ctx, helper)
	if err != nil {
		return err
	}
	return credhelper.Store(run, &helpers.Credentials{ServerURL: server, Username: username, Secret: password})
}

func helperErase(ctx context.Context, helper, server string) error {
	run, err := helperProgram(ctx, helper)
	if err != nil {
		return err
	}
	if err := credhelper.Erase(run, server); err != nil && !strings.Contains(err.Error(), "credentials not found") { // the protocol has no other sign
		return err
	}
	return nil
}

// helperKeys are the names under which podman and docker keep a registry.
func helperKeys(registry string) []string {
	if registry == "docker.io" {
		return []string{"docker.io", "https://index.docker.io/v1/"}
	}
	return []string{registry}
}

// helperProgram is docker-credential-HELPER of the caller's PATH, which runs as the caller.
func helperProgram(ctx context.Context, helper string) (credhelper.ProgramFunc, error) {
	if helper == "" || strings.ContainsAny(helper, "/\x00") {
		return nil, fmt.Errorf("credential helper: bad name %s", quoteShort(helper))
	}
	path, err := exec.LookPath("docker-credential-" + helper)
	if err != nil {
		return nil, err
	}
	return func(args ...string) credhelper.Program {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Stderr = os.Stderr
		return credentialHelper{cmd}
	}, nil
}

type credentialHelper struct{ *exec.Cmd }

func (c credentialHelper) Input(in io.Reader) { c.Stdin = in }
