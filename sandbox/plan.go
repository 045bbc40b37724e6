package sandbox

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sbx/sandbox/policy"
	"sbx/userns"
)

// Plan is a sandbox worked out to the end: what `sbx run --dry-run` prints is what is
// run. It holds no opinion that is formed later, except for what only the finished
// root directory can tell: who a user named in the image is, and where on the PATH the
// command lies.
type Plan struct {
	ID         string      `json:"id"`
	Image      string      `json:"image"`
	Namespaces []string    `json:"namespaces"` // new ones; the others are the caller's
	IDs        userns.Map  `json:"ids"`
	Inner      *userns.Map `json:"inner,omitempty"` // of the command's own user namespace, over IDs
	Nested     bool        `json:"nested"`          // the command may make user namespaces
	RunDir     string      `json:"runDir,omitempty"`
	Steps      []Step      `json:"steps"`
	Hostname   string      `json:"hostname,omitempty"`
	Sysctls    []KeyValue  `json:"sysctls,omitempty"`
	Labels     []KeyValue  `json:"labels,omitempty"` // the user's notes
	Command    Command     `json:"command"`
	Notes      []string    `json:"notes,omitempty"`    // fallbacks that this host forces
	Warnings   []string    `json:"warnings,omitempty"` // what the user asked for and will miss

	stdio  stdio // the parent's business alone
	preset policy.Preset
	caller userns.Caller
	// ofImage: the root is of layers, and not a directory that may be the host's own.
	ofImage bool
	runs    string // the directory of all runs

	// Warn, if it is set, is told what only turns out while the sandbox is built.
	Warn func(string) `json:"-"`
}

// Command is what the last stage becomes.
type Command struct {
	Args        []string `json:"args"`
	Env         []string `json:"env"`
	SecretEnv   []string `json:"-"` // over Env
	Workdir     string   `json:"workdir"`
	User        string   `json:"user"`
	Groups      []string `json:"groups,omitempty"`
	KeepGroups  bool     `json:"keepGroups,omitempty"`
	Umask       uint32   `json:"umask"`
	Rlimits     []Rlimit `json:"rlimits,omitempty"`
	OOMScoreAdj *int     `json:"oomScoreAdj,omitempty"`
	Caps        uint64   `json:"caps"`             // bounding set; root has them all
	Ambient     uint64   `json:"ambient"`          // what another user gets of them
	NoRoot      bool     `json:"noRoot,omitempty"` // exec gives root no capabilities
	NoNewPrivs  bool     `json:"noNewPrivileges"`
	Seccomp     string   `json:"seccomp"` // what the filter is: default, unconfined, ...
	Filter      []byte   `json:"filter,omitempty"`
	FilterFlags uint     `json:"-"`
	Label       string   `json:"label,omitempty"`    // SELinux
	AppArmor    string   `json:"apparmor,omitempty"` // profile
	Init        bool     `json:"init,omitempty"`
	Terminal    bool     `json:"terminal,omitempty"`
	KeepFDs     []int    `json:"keepFDs,omitempty"`
}

// Step is one operation on the new root, in the order of Plan.Steps. Every target is
// found in the root with all links resolved inside it; every source was opened before
// the first step.
type Step struct {
	Op  string `json:"op"`
	Dst string `json:"dst"`
	Src string `json:"src,omitempty"`
	Why string `json:"why"` // who asked for it: image, default, policy, or a flag

	Layers []string `json:"layers,omitempty"` // overlay: directories, topmost first
	Upper  string   `json:"upper,omitempty"`  // overlay: directory of the changes; "" with Layers is read-only
	Work   string   `json:"work,omitempty"`
	Keep   bool     `json:"keep,omitempty"` // overlay: the changes are for later

	ReadOnly     bool   `json:"readOnly,omitempty"`
	Shallow      bool   `json:"shallow,omitempty"`      // ReadOnly not for mounts below
	NonRecursive bool   `json:"nonRecursive,omitempty"` // bind: without the mounts below
	NoSuid       bool   `json:"nosuid,omitempty"`
	NoDev        bool   `json:"nodev,omitempty"`
	NoExec       bool   `json:"noexec,omitempty"`
	Propagation  string `json:"propagation,omitempty"`

	Size   int64   `json:"size,omitempty"` // tmpfs: bytes
	Inodes int64   `json:"inodes,omitempty"`
	Mode   uint32  `json:"mode,omitempty"` // permission bits
	UID    *uint32 `json:"uid,omitempty"`
	GID    *uint32 `json:"gid,omitempty"`
	Max    int     `json:"max,omitempty"` // devpts

	Text     string   `json:"text,omitempty"`     // file: what is in it
	Secret   []byte   `json:"-"`                  // file: the same, but nothing prints it
	Options  []string `json:"options,omitempty"`  // proc: hidepid=...
	CopyUp   bool     `json:"copyUp,omitempty"`   // fill an empty target with what the image has there
	Chown    bool     `json:"chown,omitempty"`    // the source goes to the sandbox's user
	Optional bool     `json:"optional,omitempty"` // where the target does not exist there is nothing to do
}

// The operations.
const (
	opOverlay  = "overlay"  // Layers, one over the other, at Dst
	opBind     = "bind"     // Src at Dst
	opTmpfs    = "tmpfs"    // an empty file system in memory
	opProc     = "proc"     // of the sandbox's pid namespace; with Src, the host's
	opSysfs    = "sysfs"    // of its net namespace
	opCgroup   = "cgroup2"  // of its cgroup namespace
	opMqueue   = "mqueue"   // of its ipc namespace
	opDevpts   = "devpts"   // its own terminals
	opNode     = "node"     // a device of the host
	opSymlink  = "symlink"  // Dst points to Src
	opDir      = "dir"      // there is a directory
	opFile     = "file"     // Text or Secret, in memory, over Dst
	opPasswd   = "passwd"   // the image's file with a line for the command's user
	opGroup    = "group"    // and for its group
	opMask     = "mask"     // nothing can be seen at Dst
	opReadOnly = "readonly" // Dst and all below it
)

// NewPlan decides everything that can be decided outside of the sandbox. It touches
// nothing: the same Spec and Host give the same Plan.
func NewPlan(spec Spec, host Host) (*Plan, error) {
	p := &Plan{ID: host.ID, Image: spec.Root.Label, Labels: spec.Labels, caller: host.Caller, runs: filepath.Dir(host.RunDir)}
	for _, part := range []func(*Plan, *Spec, *Host) error{
		planIDs,
		planNamespaces,
		planSecurity,
		planInner,
		planCommand,
		planRoot,
		planDev,
		planEtc,
		planMounts,
		planWritable,
		planKernelFS,
		planMasks,
		planReadOnly,
		planSysctls,
	} {
		if err := part(p, &spec, &host); err != nil {
			return nil, err
		}
	}
	p.stdio = stdioOf(&spec)
	return p, nil
}

func (p *Plan) warn(texts []string) {
	for _, text := range texts {
		if p.Warn != nil {
			p.Warn(text)
		}
	}
}

func (p *Plan) step(s Step) { p.Steps = append(p.Steps, s) }

func (p *Plan) has(namespace string) bool { return slices.Contains(p.Namespaces, namespace) }

// planNamespaces makes every namespace private that nobody asked to share.
func planNamespaces(p *Plan, spec *Spec, host *Host) error {
	p.Namespaces = []string{"user", "mnt"}
	for _, ns := range []struct {
		name, flag, mode string
		modes            []string
	}{
		{"pid", "--pid", spec.PID, []string{"", "private", "host"}},
		{"ipc", "--ipc", spec.IPC, []string{"", "private", "shareable", "none", "host"}},
		{"uts", "--uts", spec.UTS, []string{"", "private", "host"}},
		{"net", "--network", spec.Network, []string{"", "none", "host"}},
		{"cgroup", "--cgroupns", spec.CgroupNS, []string{"", "private", "host"}},
	} {
		if !slices.Contains(ns.modes, ns.mode) {
			return Errorf("%s: unknown mode %q", ns.flag, ns.mode)
		}
		if ns.mode != "host" {
			p.Namespaces = append(p.Namespaces, ns.name)
		}
	}
	if p.has("uts") {
		p.Hostname = cmp.Or(spec.Hostname, host.shortID())
	} else if spec.Hostname != "" {
		return Errorf("--hostname: the host's name cannot be changed with --uts host")
	}
	return nil
}

// planSysctls lets through what belongs to a namespace of the sandbox's own.
func planSysctls(p *Plan, spec *Spec, _ *Host) error {
	for _, kv := range spec.Sysctls {
		name := strings.ReplaceAll(kv.Key, "/", ".")
		var ns string
		switch {
		case strings.HasPrefix(name, "net."):
			ns = "net"
		case strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem", strings.HasPrefix(name, "fs.mqueue."):
			ns = "ipc"
		default:
			return Errorf("--sysctl %s: it is not part of a namespace, so it belongs to the whole host", kv.Key)
		}
		if !p.has(ns) {
			return Errorf("--sysctl %s: the sandbox shares the %s namespace of the host", kv.Key, ns)
		}
		if path.Clean("/"+strings.ReplaceAll(name, ".", "/")) != "/"+strings.ReplaceAll(name, ".", "/") {
			return Errorf("--sysctl %s: not a name", kv.Key)
		}
		p.Sysctls = append(p.Sysctls, KeyValue{name, kv.Value})
	}
	return nil
}

// Error is a refusal with a way out.
type Error struct {
	Text string
	Fix  string // "" where nothing helps
	Err  error  // nil, or the cause
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}
func (e *Error) Unwrap() error { return e.Err }

// Hint says what helps.
func (e *Error) Hint() string { return e.Fix }

// Errorf makes an Error without a hint.
func Errorf(format string, args ...any) error { return &Error{Text: fmt.Sprintf(format, args...)} }
