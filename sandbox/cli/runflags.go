package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"sbx/sandbox"
)

// A class says what sbx does about a flag of podman run or docker run.
type class uint8

const (
	works   class = iota
	ignored       // one warning, and the run goes on
	absent        // refused: this version has no such thing
	refused       // refused for good: what it means cannot be faked
)

// A runFlag is one flag of sbx run. Exactly one of to and set says where its value goes.
type runFlag struct {
	name, short string
	class       class
	boolean     bool                         // --flag is --flag=true
	list        bool                         // the value is words between commas, one after the other for set
	to          func(*runArgs) any           // the variable that takes the value
	read        func(string) (string, error) // for to: checks a text; an empty one is as without the flag
	set         func(*runArgs, string) error // or what to do with the value
	note        string                       // why it does not work
}

// What is not built yet, and why a flag is ignored.
const (
	noLimits = "resource limits are not built into this version of sbx"
	noDetach = "sandboxes in the background are not built into this version of sbx"
	noCDI    = "devices by CDI are not built into this version of sbx"
	noHealth = "sbx runs no health checks"
	noOCI    = "no OCI runtime is used"
)

// instead says what does something of the kind; "" if nothing does.
func instead(note string) string {
	switch note {
	case noLimits:
		return "--ulimit nproc=100 bounds processes, --ulimit as=1000000000 the memory of each, --timeout the time"
	case noDetach:
		return "a shell's & puts sbx in the background; the sandbox ends with it"
	}
	return ""
}

// runFlags is every flag of sbx run: those of podman run, those that only docker run has, and our own.
// All of it is static data: building it costs nothing at start.
var runFlags = [...]runFlag{
	// The image.
	{name: "arch", to: func(a *runArgs) any { return &a.pull.arch }},
	{name: "os", to: func(a *runArgs) any { return &a.pull.os }},
	{name: "variant", to: func(a *runArgs) any { return &a.pull.variant }},
	{name: "platform", to: func(a *runArgs) any { return &a.pull.platform }},
	{name: "authfile", to: func(a *runArgs) any { return &a.pull.authFile }},
	{name: "cert-dir", to: func(a *runArgs) any { return &a.pull.certDir }},
	{name: "creds", to: func(a *runArgs) any { return &a.pull.creds }},
	{name: "tls-verify", boolean: true, to: func(a *runArgs) any { return &a.pull.tlsVerify }},
	{name: "pull", set: (*runArgs).setPull},
	{name: "quiet", short: "q", boolean: true, to: func(a *runArgs) any { return &a.pull.quiet }},
	{name: "retry", to: func(a *runArgs) any { return &a.pull.retry }},
	{name: "retry-delay", to: func(a *runArgs) any { return &a.pull.retryDelay }},
	{name: "rootfs", boolean: true, to: func(a *runArgs) any { return &a.rootfs }},
	{name: "decryption-key", class: ignored, note: "encrypted images are not supported"},
	{name: "disable-content-trust", class: ignored, boolean: true, note: "there is no content trust to disable"},

	// The command.
	{name: "entrypoint", set: (*runArgs).setEntrypoint},
	{name: "workdir", short: "w", to: func(a *runArgs) any { return &a.spec.Workdir }, read: insidePath},
	{name: "user", short: "u", to: func(a *runArgs) any { return &a.spec.User }, read: userWords},
	{name: "group-add", list: true, set: (*runArgs).addGroup},
	{name: "hostuser", list: true, set: (*runArgs).addHostUser},
	{name: "passwd", boolean: true, to: func(a *runArgs) any { return &a.spec.Passwd }},
	{name: "passwd-entry", to: func(a *runArgs) any { return &a.spec.PasswdEntry }, read: oneLineText},
	{name: "group-entry", class: ignored, note: "the entry in /etc/group is always sbx's own"},
	{name: "umask", set: (*runArgs).setUmask},
	{name: "tz", to: func(a *runArgs) any { return &a.spec.Timezone }, read: timezone},
	{name: "init", boolean: true, to: func(a *runArgs) any { return &a.spec.Init }},
	{name: "init-path", class: ignored, note: "sbx has its init built in"},
	{name: "personality", class: ignored, note: "run setarch in the sandbox instead"},
	{name: "timeout", set: (*runArgs).setTimeout},

	// Terminal, descriptors, signals.
	{name: "interactive", short: "i", boolean: true, to: func(a *runArgs) any { return &a.spec.Interactive }},
	{name: "tty", short: "t", boolean: true, to: func(a *runArgs) any { return &a.spec.Terminal }},
	{name: "attach", short: "a", list: true, set: (*runArgs).addAttach},
	{name: "preserve-fd", list: true, set: (*runArgs).preserveFD},
	{name: "preserve-fds", set: (*runArgs).preserveFDs},
	{name: "sig-proxy", boolean: true, to: func(a *runArgs) any { return &a.spec.SigProxy }},
	{name: "stop-signal", to: func(a *runArgs) any { return &a.spec.StopSignal }, read: signalName},
	{name: "stop-timeout", set: (*runArgs).setStopTimeout},
	{name: "sdnotify", set: (*runArgs).setSdnotify},

	// The environment.
	{name: "env", short: "e", set: (*runArgs).addEnv},
	{name: "env-file", list: true, set: (*runArgs).addEnvFile},
	{name: "env-host", boolean: true, to: func(a *runArgs) any { return &a.envHost }},
	{name: "env-merge", class: ignored, note: "write the value out with --env"},
	{name: "http-proxy", boolean: true, to: func(a *runArgs) any { return &a.httpProxy }},
	{name: "unsetenv", list: true, set: (*runArgs).unsetEnv},
	{name: "unsetenv-all", boolean: true, to: func(a *runArgs) any { return &a.spec.UnsetEnvAll }},
	{name: "secret", set: (*runArgs).addSecret},

	// Files.
	{name: "volume", short: "v", set: (*runArgs).addVolume},
	{name: "mount", set: (*runArgs).addMount},
	{name: "tmpfs", set: (*runArgs).addTmpfs},
	{name: "image-volume", to: func(a *runArgs) any { return &a.spec.ImageVolumes }, read: imageVolume},
	{name: "device", list: true, set: (*runArgs).addDevice},
	{name: "read-only", boolean: true, to: func(a *runArgs) any { return &a.spec.ReadOnly }},
	{name: "read-only-tmpfs", boolean: true, to: func(a *runArgs) any { return &a.spec.ReadOnlyTmpfs }},
	{name: "shm-size", set: (*runArgs).setShmSize},
	{name: "shm-size-systemd", class: ignored, note: "systemd does not run in a sandbox"},
	{name: "volumes-from", class: ignored, note: "there is no sandbox to take them from"},
	{name: "volume-driver", class: refused, note: "there are no volume drivers"},
	{name: "chrootdirs", class: ignored, note: "there is nothing to prepare in a chroot"},
	{name: "storage-opt", class: ignored, note: "the root directory has no quota"},

	// Namespaces and ids.
	{name: "userns", set: (*runArgs).setUserNS},
	{name: "uidmap", list: true, set: (*runArgs).addUIDMap},
	{name: "gidmap", list: true, set: (*runArgs).addGIDMap},
	{name: "subuidname", to: func(a *runArgs) any { return &a.spec.UserNS.SubUIDName }, read: userWord},
	{name: "subgidname", to: func(a *runArgs) any { return &a.spec.UserNS.SubGIDName }, read: userWord},
	{name: "pid", to: func(a *runArgs) any { return &a.spec.PID }, read: namespace},
	{name: "ipc", to: func(a *runArgs) any { return &a.spec.IPC }, read: ipcNamespace},
	{name: "uts", to: func(a *runArgs) any { return &a.spec.UTS }, read: namespace},
	{name: "cgroupns", to: func(a *runArgs) any { return &a.spec.CgroupNS }, read: namespace},
	{name: "hostname", short: "h", to: func(a *runArgs) any { return &a.spec.Hostname }, read: hostname},
	{name: "no-hostname", boolean: true, to: func(a *runArgs) any { return &a.spec.NoHostname }},
	{name: "domainname", class: ignored, note: "write it into --hostname"},

	// The network.
	{name: "network", set: (*runArgs).setNetwork},
	{name: "net", set: (*runArgs).setNetwork},
	{name: "allow", set: (*runArgs).addAllow},
	{name: "deny", set: (*runArgs).addDeny},
	{name: "net-log", set: (*runArgs).setNetLog},
	{name: "add-host", list: true, set: (*runArgs).addHost},
	{name: "hosts-file", set: (*runArgs).setHostsFile},
	{name: "no-hosts", boolean: true, to: func(a *runArgs) any { return &a.spec.NoHosts }},
	{name: "dns", list: true, set: (*runArgs).addDNS},
	{name: "dns-option", list: true, set: (*runArgs).addDNSOption},
	{name: "dns-opt", list: true, set: (*runArgs).addDNSOption}, // docker's name
	{name: "dns-search", list: true, set: (*runArgs).addDNSSearch},
	{name: "expose", list: true, set: (*runArgs).expose},
	{name: "publish", short: "p", set: (*runArgs).publish},
	{name: "publish-all", short: "P", boolean: true, to: func(a *runArgs) any { return &a.spec.PublishAll }},
	{name: "ip", to: func(a *runArgs) any { return &a.networks.ip }, read: ipv4Address},
	{name: "ip6", to: func(a *runArgs) any { return &a.networks.ip6 }, read: ipv6Address},
	{name: "network-alias", list: true, set: (*runArgs).addNetworkAlias},
	{name: "mac-address", to: func(a *runArgs) any { return &a.networks.mac }, read: sandbox.CheckMAC},
	{name: "link-local-ip", class: ignored, note: "podman does not implement it either"},
	{name: "link", class: refused, note: "sandboxes cannot be linked"},

	// Security.
	{name: "preset", to: func(a *runArgs) any { return &a.spec.Security.Preset }, read: preset},
	{name: "privileged", boolean: true, to: func(a *runArgs) any { return &a.privileged }},
	{name: "cap-add", list: true, set: (*runArgs).capAdd},
	{name: "cap-drop", list: true, set: (*runArgs).capDrop},
	{name: "security-opt", set: (*runArgs).addSecurityOpt},
	{name: "seccomp-policy", class: ignored, note: "the profile comes from --security-opt seccomp= or the preset"},
	{name: "isolation", set: (*runArgs).setIsolation},

	// Limits.
	{name: "ulimit", list: true, set: (*runArgs).addUlimit},
	{name: "sysctl", list: true, set: (*runArgs).addSysctl},
	{name: "oom-score-adj", set: (*runArgs).setOOMScoreAdj},
	{name: "cgroups", set: (*runArgs).setCgroups},
	{name: "blkio-weight", class: absent, note: noLimits},
	{name: "blkio-weight-device", class: ignored, note: "it needs a device controller that is not delegated to users"},
	{name: "cgroup-conf", class: absent, note: noLimits},
	{name: "cgroup-parent", class: absent, note: noLimits},
	{name: "cpu-period", class: absent, note: noLimits},
	{name: "cpu-quota", class: absent, note: noLimits},
	{name: "cpu-rt-period", class: ignored, note: "cgroup v2 has no such limit"},
	{name: "cpu-rt-runtime", class: ignored, note: "cgroup v2 has no such limit"},
	{name: "cpu-shares", short: "c", class: absent, note: noLimits},
	{name: "cpus", class: absent, note: noLimits},
	{name: "cpuset-cpus", class: absent, note: noLimits},
	{name: "cpuset-mems", class: absent, note: noLimits},
	{name: "device-cgroup-rule", class: ignored, note: "a user cannot make device nodes"},
	{name: "device-read-bps", class: absent, note: noLimits},
	{name: "device-read-iops", class: absent, note: noLimits},
	{name: "device-write-bps", class: absent, note: noLimits},
	{name: "device-write-iops", class: absent, note: noLimits},
	{name: "gpus", class: absent, note: noCDI},
	{name: "memory", short: "m", class: absent, note: noLimits},
	{name: "memory-reservation", class: absent, note: noLimits},
	{name: "memory-swap", class: absent, note: noLimits},
	{name: "memory-swappiness", class: ignored, note: "cgroup v2 has no such setting"},
	{name: "oom-kill-disable", class: ignored, boolean: true, note: "cgroup v2 has no such setting"},
	{name: "pids-limit", class: absent, note: noLimits},
	{name: "rdt-class", class: ignored, note: "it needs root"},

	// Its life.
	{name: "rm", boolean: true, set: (*runArgs).setRm},
	{name: "label", short: "l", set: (*runArgs).addLabel},
	{name: "label-file", class: ignored, note: "use --label"},
	{name: "annotation", class: ignored, note: noOCI},
	{name: "log-driver", set: (*runArgs).setLogDriver},
	{name: "detach-keys", set: (*runArgs).setDetachKeys},
	{name: "cidfile", set: (*runArgs).setCIDFile},
	{name: "conmon-pidfile", class: ignored, note: "there is no conmon"},
	{name: "detach", short: "d", class: absent, boolean: true, note: noDetach},
	{name: "log-opt", class: absent, note: "logs are not built into this version of sbx"},
	{name: "name", set: (*runArgs).setName},
	{name: "pidfile", set: (*runArgs).setPIDFile},
	{name: "replace", boolean: true, to: func(a *runArgs) any { return &a.replace }},
	{name: "requires", class: ignored, note: "there are no dependencies between sandboxes"},
	{name: "restart", set: (*runArgs).setRestart},
	{name: "rmi", class: ignored, boolean: true, note: "the image stays; remove it with sbx rmi"},
	{name: "runtime", class: ignored, note: noOCI},
	{name: "systemd", set: (*runArgs).setSystemd},
	{name: "pod", class: refused, note: "there are no pods"},
	{name: "pod-id-file", class: refused, note: "there are no pods"},
	{name: "health-cmd", class: ignored, note: noHealth},
	{name: "health-interval", class: ignored, note: noHealth},
	{name: "health-log-destination", class: ignored, note: noHealth},
	{name: "health-max-log-count", class: ignored, note: noHealth},
	{name: "health-max-log-size", class: ignored, note: noHealth},
	{name: "health-on-failure", class: ignored, note: noHealth},
	{name: "health-retries", class: ignored, note: noHealth},
	{name: "health-start-period", class: ignored, note: noHealth},
	{name: "health-startup-cmd", class: ignored, note: noHealth},
	{name: "health-startup-interval", class: ignored, note: noHealth},
	{name: "health-startup-retries", class: ignored, note: noHealth},
	{name: "health-startup-success", class: ignored, note: noHealth},
	{name: "health-startup-timeout", class: ignored, note: noHealth},
	{name: "health-timeout", class: ignored, note: noHealth},
	{name: "no-healthcheck", class: ignored, boolean: true, note: noHealth},

	// Our own.
	{name: "dry-run", boolean: true, to: func(a *runArgs) any { return &a.dryRun }},
	{name: "format", set: (*runArgs).setFormat},
	{name: "debug", boolean: true, to: func(a *runArgs) any { return &a.app.debug }},
	{name: "help", boolean: true, to: func(a *runArgs) any { return &a.help }},
}

// addTo declares every flag of sbx run in fs.
func (a *runArgs) addTo(fs *pflag.FlagSet) {
	// Three allocations instead of three for each flag.
	flags := make([]pflag.Flag, len(runFlags))
	values := make([]runValue, len(runFlags))
	for i := range runFlags {
		f := &runFlags[i]
		values[i] = runValue{flag: f, args: a}
		flags[i] = pflag.Flag{Name: f.name, Shorthand: f.short, Value: &values[i]}
		if f.boolean {
			flags[i].NoOptDefVal = "true"
		}
		fs.AddFlag(&flags[i])
	}
}

// runValue is a flag of one invocation; it implements pflag.Value.
type runValue struct {
	flag   *runFlag
	args   *runArgs
	warned bool
}

func (v *runValue) String() string { return "" }
func (v *runValue) Type() string   { return "" }

func (v *runValue) Set(s string) error {
	f := v.flag
	if f.class != works && f.boolean {
		if on, err := parseBool(s); err != nil || !on {
			return err // --detach=false is how it is anyway
		}
	}
	switch f.class {
	case ignored:
		if !v.warned {
			v.warned = true
			v.args.app.warn("--%s is ignored: %s", f.name, f.note)
		}
		return nil
	case absent, refused:
		return &usageError{msg: f.note, hint: instead(f.note)}
	}
	switch {
	case f.list:
		return eachWord(s, func(word string) error { return f.set(v.args, word) })
	case f.set != nil:
		return f.set(v.args, s)
	case f.read != nil && s != "":
		read, err := f.read(s)
		if err != nil {
			return err
		}
		s = read
	}
	return assign(f.to(v.args), s)
}

// assign parses s as what p points to.
func assign(p any, s string) (err error) {
	switch p := p.(type) {
	case *string:
		*p = s
	case *bool:
		*p, err = parseBool(s)
	case **bool:
		var b bool
		b, err = parseBool(s)
		*p = &b
	case **int:
		var n int
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			err = fmt.Errorf("%s: not a number of zero or more", quoteArg(s))
		}
		*p = &n
	case *time.Duration:
		*p, err = parseDuration(s)
	default:
		panic(fmt.Sprintf("flag of type %T", p))
	}
	return err
}

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%s: neither true nor false", quoteArg(s))
	}
	return b, nil
}
