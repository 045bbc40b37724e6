package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"sbx/sandbox/image"
)

// pullFlags say which image is meant and how it is fetched. run and pull have them.
type pullFlags struct {
	accessFlags
	creds             string
	arch, os, variant string
	platform          string
	policy            image.PullPolicy
	retry             *int
	retryDelay        time.Duration
	quiet             bool
}

// check refuses flags that contradict each other, and files that are not there: whether the
// image is here already should not decide that.
func (f *pullFlags) check() error {
	if user, _, ok := strings.Cut(f.creds, ":"); f.creds != "" && (!ok || user == "") {
		return &usageError{msg: "--creds: not USER:PASSWORD", hint: "sbx login asks for the password"}
	}
	for _, file := range []struct{ flag, name string }{{"authfile", f.authFile}, {"cert-dir", f.certDir}} {
		if file.name == "" {
			continue
		}
		if _, err := os.Stat(file.name); err != nil {
			return &flagError{file.flag, err}
		}
	}
	if f.platform != "" && (f.arch != "" || f.os != "" || f.variant != "") {
		return &usageError{msg: "--platform excludes --os, --arch and --variant"}
	}
	platform, err := f.wanted()
	if err == nil && f.platform != "" && (!slices.Contains(systems[:], platform.OS) || !slices.Contains(architectures[:], platform.Arch)) {
		return &usageError{msg: fmt.Sprintf("--platform: %s: not OS/ARCH[/VARIANT]", quoteArg(f.platform)), hint: "for example linux/arm64 or linux/arm/v7"}
	}
	return err
}

// What OS and ARCH of --platform may be: GOOS and GOARCH of the images there are. Either
// may be left out. A registry is not asked for what no image can have.
var (
	systems       = [...]string{"", "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasip1", "wasi"}
	architectures = [...]string{
		"", "amd64", "386", "arm64", "arm", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le",
		"riscv64", "s390x", "wasm", "wasm32",
	}
)

// wanted is the platform that the flags ask for.
func (f *pullFlags) wanted() (image.Platform, error) {
	if f.platform == "" {
		return image.Platform{OS: f.os, Arch: f.arch, Variant: f.variant}, nil
	}
	return image.ParsePlatform(f.platform)
}

// options is what the flags ask image.Pull for.
func (f *pullFlags) options(a *app, name string) (image.PullOptions, error) {
	platform, err := f.wanted()
	return image.PullOptions{
		Image:      name,
		Policy:     f.policy,
		Platform:   platform,
		Access:     f.access(f.creds),
		Retry:      f.retry,
		RetryDelay: f.retryDelay,
		Out:        a.stderr,
		Quiet:      f.quiet,
		Debug:      a.debugf,
	}, err
}

// accessFlags are the flags of every command that speaks to a registry.
type accessFlags struct {
	authFile, certDir string
	tlsVerify         *bool
}

func (f *accessFlags) addTo(fs *pflag.FlagSet) {
	fs.StringVar(&f.authFile, "authfile", "", "")
	fs.StringVar(&f.certDir, "cert-dir", "", "")
	fs.Var(parsed(func(s string) error { return assign(&f.tlsVerify, s) }), "tls-verify", "")
	fs.Lookup("tls-verify").NoOptDefVal = "true"
}

func (f *accessFlags) access(creds string) image.Access {
	return image.Access{AuthFile: f.authFile, Creds: creds, CertDir: f.certDir, TLSVerify: f.tlsVerify}
}
