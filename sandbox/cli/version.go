package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

// version is set by the linker; see the Makefile.
var version string

// versionInfo is sbx version --format json.
type versionInfo struct {
	Version   string
	Commit    string
	BuiltAt   string // of the commit, RFC 3339
	GoVersion string
	OsArch    string
}

func defineVersion(a *app, fs *pflag.FlagSet) action {
	format := fs.StringP("format", "f", "", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 0, ""); err != nil {
			return 0, err
		}
		return 0, a.printVersion(*format)
	}
}

func (a *app) printVersion(format string) error {
	v := buildVersion()
	if format != "" {
		return a.printOne(format, v)
	}
	if a.commit != nil {
		a.commit()
	}
	s := "sbx version " + v.Version
	if v.Commit != "" {
		s += fmt.Sprintf(" (%.12s)", v.Commit)
	}
	return a.print(s + "\n")
}

// buildVersion is what the Go toolchain wrote into the binary.
func buildVersion() versionInfo {
	v := versionInfo{Version: "unknown", GoVersion: runtime.Version(), OsArch: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version = version; v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.BuiltAt = s.Value
		}
	}
	return v
}
