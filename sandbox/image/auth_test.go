//go:build !hot

package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sbx/sandbox/image/registrytest"
)

func pair(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// helper writes a docker-credential-NAME that keeps its secrets in files, and puts it into PATH.
func helper(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
read -r input
case $1 in
get) key=$(echo "$input" | tr '/:' '__')
	cat %[1]s/"$key" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
store) key=$(echo "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr '/:' '__'); echo "$input" >%[1]s/"$key" ;;
erase) key=$(echo "$input" | tr '/:' '__'); rm %[1]s/"$key" ;;
*) exit 2 ;;
esac
`, dir)
	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "docker-credential-"+name), script)
	if err := os.Chmod(filepath.Join(bin, "docker-credential-"+name), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return dir
}

func TestCredentials(t *testing.T) {
	alone(t, "")
	secrets := helper(t, "test")
	writeFile(t, filepath.Join(secrets, "helped.example"), `{"ServerURL":"helped.example","Username":"hedy","Secret":"h"}`)
	writeFile(t, filepath.Join(secrets, "token.example"), `{"Username":"<token>","Secret":"refresh"}`)
	writeFile(t, filepath.Join(secrets, "https___index.docker.io_v1_"), `{"Username":"hub","Secret":"p"}`)
	home := os.Getenv("HOME")
	writeFile(t, filepath.Join(home, "run/containers/auth.json"), `{"auths":{
		"a.example": {"auth":"`+pair("ada", "1")+`"},
		"a.example/ns": {"auth":"`+pair("ns", "2:3")+`"},
		"a.example/ns/repo": {"auth":"`+pair("repo", "4")+`"},
		"empty.example": {},
		"helped.example": {"auth":"`+pair("not", "me")+`"}},
		"credHelpers": {"helped.example":"test", "token.example":"test", "nobody.example":"test"}}`)
	writeFile(t, filepath.Join(home, "config/containers/auth.json"), `{"auths":{"empty.example":{"auth":"`+pair("second", "5")+`"}}}`)
	writeFile(t, filepath.Join(home, ".docker/config.json"), `{"credsStore":"test","auths":{
		"https://d.example/v2/": {"auth":"`+pair("docker", "6")+`"},
		"id.example": {"identitytoken":"idt"}}}`)
	writeFile(t, filepath.Join(home, ".dockercfg"), `{"old.example":{"username":"old","password":"7"}}`)
	for ref, want := range map[string]credentials{
		"a.example/x":         {username: "ada", password: "1"},
		"a.example/ns/x":      {username: "ns", password: "2:3"},
		"a.example/ns/repo:1": {username: "repo", password: "4"},
		"a.example/ns/repo/x": {username: "repo", password: "4"},
		"a.example/nsx/repo":  {username: "ada", password: "1"},
		"a.example:5000/x":    {},
		"b.a.example/x":       {},
		"empty.example/x":     {username: "second", password: "5"},
		"helped.example/x":    {username: "hedy", password: "h"},
		"token.example/x":     {identityToken: "refresh"},
		"nobody.example/x":    {},
		"d.example/x":         {username: "docker", password: "6"},
		"id.example/x":        {identityToken: "idt"},
		"docker.io/library/x": {username: "hub", password: "p"},
		"old.example/x":       {username: "old", password: "7"},
		"nothing.example/x":   {},
	} {
		n, err := ParseName(ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (Access{}).credentialsFor(t.Context(), n, []string{authFiles}, noWarning); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", ref, got, err, want)
		}
	}
	n := Name{Registry: "a.example", Path: "x"}
	asked := filepath.Join(home, "asked.json")
	writeFile(t, asked, `{"auths":{"a.example":{"auth":"`+pair("asked", "8")+`"}}}`)
	if got, err := (Access{AuthFile: asked}).credentialsFor(t.Context(), n, []string{authFiles}, noWarning); err != nil || got.username != "asked" {
		t.Errorf("--authfile: %+v, %v", got, err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", asked)
	if got, err := (Access{}).credentialsFor(t.Context(), n, []string{authFiles}, noWarning); err != nil || got.username != "asked" {
		t.Errorf("REGISTRY_AUTH_FILE: %+v, %v", got, err)
	}
	if got, err := (Access{Creds: "me:a:b"}).credentialsFor(t.Context(), n, []string{authFiles}, noWarning); err != nil || got != (credentials{username: "me", password: "a:b"}) {
		t.Errorf("--creds: %+v, %v", got, err)
	}
	_, err := Access{AuthFile: filepath.Join(home, "nonesuch")}.credentialsFor(t.Context(), n, []string{authFiles}, noWarning)
	wantError(t, err, "nonesuch")
}

func TestCredentialsRefuses(t *testing.T) {
	alone(t, "")
	for text, want := range map[string]string{
		`{`: "read", `{"auths":{"a.example":{"auth":"!"}}}`: "base64", `{"auths":{"a.example":{"auth":"eA=="}}}`: "base64",
		`{"credHelpers":{"a.example":"../../evil"}}`: "bad name", `{"credsStore":"nonesuch-helper"}`: "docker-credential-nonesuch-helper",
		`{"auths":{"x":` + strings.Repeat(" ", 2<<20) + `{}}}`: "larger than",
	} {
		file := filepath.Join(t.TempDir(), "auth.json")
		writeFile(t, file, text)
		_, err := Access{AuthFile: file}.credentialsFor(t.Context(), Name{Registry: "a.example", Path: "x"}, []string{authFiles}, noWarning)
		wantError(t, err, want)
	}
}

func loginOptions(r *registrytest.Registry, user, password string) LoginOptions {
	no := false
	return LoginOptions{Registry: r.Host(), Username: user, Password: password, Access: Access{TLSVerify: &no}}
}

func TestLogin(t *testing.T) {
	for _, kind := range []string{"basic", "bearer"} {
		alone(t, "")
		r := newRegistry(t)
		img := testImage(registrytest.Options{})
		r.PutImage("x", "latest", img)
		if kind == "basic" {
			r.RequireBasic("ada", "secret")
		} else {
			r.RequireToken("ada", "secret", time.Minute, "")
		}
		_, err := Pull(t.Context(), newFakeStore(t), options(r, "x"))
		wantError(t, err, "401")
		file := runtimeAuthFile()
		wantError(t, Login(t.Context(), loginOptions(r, "ada", "wrong")), "401")
		wantError(t, Login(t.Context(), loginOptions(r, "ada", "")), "empty")
		if _, err := os.Stat(file); err == nil {
			t.Error("a refused login was written")
		}
		writeFile(t, file, `{"auths":{"other.example":{"auth":"eDp5"}},"future":{"a":1}}`)
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Login(t.Context(), loginOptions(r, "ada", "secret")); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
		if user, err := LoggedIn(t.Context(), r.Host(), Access{}); err != nil || user != "ada" {
			t.Errorf("get-login: %s, %v", user, err)
		}
		if _, err := Pull(t.Context(), newFakeStore(t), options(r, "x")); err != nil {
			t.Error(err)
		}
		if err := Logout(t.Context(), r.Host(), Access{}); err != nil {
			t.Error(err)
		}
		wantError(t, Logout(t.Context(), r.Host(), Access{}), "not logged in")
		_, err = LoggedIn(t.Context(), r.Host(), Access{})
		wantError(t, err, "not logged in")
		var kept map[string]any
		data, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(data, &kept) != nil || kept["future"] == nil || kept["auths"].(map[string]any)["other.example"] == nil {
			t.Errorf("%s, %v", data, err)
		}
		if err := Logout(t.Context(), "", Access{}); err != nil {
			t.Error(err)
		}
		_, err = LoggedIn(t.Context(), "other.example", Access{})
		wantError(t, err, "not logged in")
	}
}

func TestLoginByHelper(t *testing.T) {
	alone(t, "")
	r := newRegistry(t)
	r.RequireBasic("ada", "secret")
	secrets := helper(t, "test")
	writeFile(t, runtimeAuthFile(), `{"credHelpers":{"`+r.Host()+`":"test"}}`)
	if err := Login(t.Context(), loginOptions(r, "ada", "secret")); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(runtimeAuthFile()); strings.Contains(string(data), pair("ada", "secret")) {
		t.Errorf("written beside the helper: %s", data)
	}
	if user, err := LoggedIn(t.Context(), r.Host(), Access{}); err != nil || user != "ada" {
		t.Errorf("%s, %v", user, err)
	}
	if err := Logout(t.Context(), r.Host(), Access{}); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(secrets); len(left) > 0 {
		t.Errorf("the helper still has %v", left)
	}
}

func TestLoginsAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.json")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := editAuths(file, func(auths map[string]json.RawMessage) error {
				auths[fmt.Sprint("host", i)] = json.RawMessage(`{}`)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := readAuthFile(file)
	if err != nil || len(f.Auths) != 20 {
		t.Errorf("%d logins are left of 20, %v", len(f.Auths), err)
	}
}

func TestRefreshToken(t *testing.T) {
	alone(t, "")
	r := newRegistry(t)
	r.PutImage("x", "latest", testImage(registrytest.Options{}))
	r.RequireToken("ada", "refreshme", time.Minute, "")
	writeFile(t, runtimeAuthFile(), `{"auths":{"`+r.Host()+`":{"identitytoken":"refreshme"}}}`)
	if _, err := Pull(context.Background(), newFakeStore(t), options(r, "x")); err != nil {
		t.Error(err)
	}
}

func noWarning(err error) { panic(err) }

// A file that nobody asked for, and that is of no use, does not keep anybody from a public image.
func TestCredentialsWarns(t *testing.T) {
	alone(t, "")
	n := Name{Registry: "a.example", Path: "x"}
	file := filepath.Join(os.Getenv("HOME"), ".docker/config.json")
	for text, want := range map[string]string{`{`: "config.json", `{"credsStore":"nonesuch-helper"}`: "docker-credential-nonesuch-helper"} {
		writeFile(t, file, text)
		var told []error
		c, err := (Access{}).credentialsFor(t.Context(), n, []string{authFiles}, func(err error) { told = append(told, err) })
		if err != nil || !c.empty() || len(told) != 1 {
			t.Fatalf("%s: %+v, %v, warnings %v", text, c, err, told)
		}
		wantError(t, told[0], want)
	}
}
