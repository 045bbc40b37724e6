package sandbox

import (
	"fmt"
	"slices"
	"time"

	"sbx/sandbox/policy"
	"sbx/slirp"
	"sbx/userns"
)

// Plan is a sandbox worked out to the end: what `sbx run --dry-run` prints is what is
// run. It holds no opinion that is formed later, except for what only the finished
// root directory can tell: who a user named in the image is, where that user's home is,
// and where on the PATH the command lies.
//
// All of it is exported: what is not, neither travels nor is printed.
type Plan struct {
	ID         string        `json:"id"`
	Name       string        `json:"name,omitempty"` // others join it by that
	Image      string        `json:"image"`
	Preset     string        `json:"preset"`
	Caller     userns.Caller `json:"caller"`
	Namespaces []string      `json:"namespaces"`         // new ones; the others are the caller's
	Network    string        `json:"network"`            // none: loopback alone; private: a stack of sbx's own; user-defined: a place on those of others; host; the program that is the driver; or see Join
	Link       *slirp.Config `json:"link,omitempty"`     // private
	Networks   []Membership  `json:"networks,omitempty"` // user-defined
	Driver     *Driver       `json:"driver,omitempty"`   // slirp4netns, pasta
	Join       *Join         `json:"join,omitempty"`     // container:NAME, ns:PATH: a net namespace of others
	Around     *userns.Map   `json:"around,omitempty"`   // of a user namespace around that of IDs, which others may join
	IDs        userns.Map    `json:"ids"`
	Inner      *userns.Map   `json:"inner,omitempty"` // of the command's own user namespace, over IDs
	Nested     bool          `json:"nested"`          // the command may make user namespaces
	Runs       string        `json:"runs"`            // where the directories of all runs lie
	RunDir     string        `json:"runDir,omitempty"`
	Steps      []Step        `json:"steps"`
	Hostname   string        `json:"hostname,omitempty"`
	Sysctls    []KeyValue    `json:"sysctls,omitempty"`
	Labels     []KeyValue    `json:"labels,omitempty"` // the user's notes
	Command    Command       `json:"command"`
	Parent     Parent        `json:"parent"`
	Notes      []string      `json:"notes,omitempty"`    // fallbacks that this host forces
	Overlay    string        `json:"overlay,omitempty"`  // who stacks directories: kernel, fuse; "" is the kernel, or FUSE where that refuses
	Warnings   []string      `json:"warnings,omitempty"` // what the user asked for and will miss
}

// Join is a net namespace of others.
type Join struct {
	Path  string `json:"path"`  // leads there, if it still
	Inode uint64 `json:"inode"` // has that number
}

// Membership is the sandbox's place on a network that others are on, too.
type Membership struct {
	Live string       `json:"live"` // the directory of its socket
	Link slirp.Config `json:"link"`
}

// Command is what the last stage becomes.
type Command struct {
	Args           []string        `json:"args"`
	Env            []string        `json:"env"`
	SecretEnv      SecretEnv       `json:"secretEnv,omitempty"`      // over Env
	HomeFromPasswd bool            `json:"homeFromPasswd,omitempty"` // nobody set HOME: it is what passwd in the root says
	Workdir        string          `json:"workdir"`
	User           string          `json:"user"`
	Groups         []string        `json:"groups,omitempty"`
	KeepGroups     bool            `json:"keepGroups,omitempty"`
	Umask          Mode            `json:"umask"`
	Limits         []Limit         `json:"limits,omitempty"`
	OOMScoreAdj    *int            `json:"oomScoreAdj,omitempty"`
	Caps           CapSet          `json:"capabilities"`     // bounding set; root has them all
	Ambient        CapSet          `json:"ambient"`          // what another user gets of them, and root with NoRoot
	NoRoot         bool            `json:"noRoot,omitempty"` // exec gives root no capabilities
	NoNewPrivs     bool            `json:"noNewPrivileges"`
	Seccomp        string          `json:"seccomp"` // what the filter is: default, unconfined, ...
	Filters        []policy.Filter `json:"filters"`
	Label          string          `json:"label,omitempty"`    // SELinux
	AppArmor       string          `json:"apparmor,omitempty"` // profile
	Init           bool            `json:"init,omitempty"`
	Terminal       bool            `json:"terminal,omitempty"`
	KeepFDs        []int           `json:"keepFDs,omitempty"`
}

// Limit is one limit of the command's, who wants it, and what holds the command to it.
type Limit struct {
	Name string       `json:"name"` // as for --ulimit
	Soft policy.Limit `json:"soft"`
	Hard policy.Limit `json:"hard"`
	By   string       `json:"by"`
	Why  string       `json:"why"`
}

// Parent is what the caller's process does while the command runs.
type Parent struct {
	Interactive bool     `json:"interactive"`           // the command's stdin is the caller's; else it is /dev/null
	Detached    []string `json:"detached,omitempty"`    // stdout, stderr: it is /dev/null, too
	SigProxy    bool     `json:"sigProxy"`              // signals are the command's; else they end the sandbox
	Timeout     Duration `json:"timeout,omitempty"`     // after which the sandbox ends
	StopSignal  Signal   `json:"stopSignal,omitempty"`  // asks the command to end when that is over
	StopTimeout Duration `json:"stopTimeout,omitempty"` // how long it may then take
	CIDFile     string   `json:"cidFile,omitempty"`     // a new file for the run's id,
	PIDFile     string   `json:"pidFile,omitempty"`     // and one for the command's process id
}

// Values that are printed otherwise than Go does; see print.go.
type (
	SecretEnv []string // NAME=value, of which only the names are shown
	Mode      uint32   // permission bits, octal
	CapSet    uint64   // a bit for each capability
	Duration  time.Duration
	Signal    int
)

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
	FUSE   string   `json:"fuse,omitempty"` // overlay: why sbx serves it, and not the kernel

	ReadOnly     bool   `json:"readOnly,omitempty"`
	Shallow      bool   `json:"shallow,omitempty"`      // ReadOnly not for mounts below
	NonRecursive bool   `json:"nonRecursive,omitempty"` // bind: without the mounts below
	NoSuid       bool   `json:"nosuid,omitempty"`
	NoDev        bool   `json:"nodev,omitempty"`
	NoExec       bool   `json:"noexec,omitempty"`
	Propagation  string `json:"propagation,omitempty"`

	Size   int64   `json:"size,omitempty"` // tmpfs: bytes
	Inodes int64   `json:"inodes,omitempty"`
	Mode   Mode    `json:"mode,omitempty"`
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
	opVolume   = "volume"   // the same, but the sandbox makes Src; see volume.go
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
	opHosts    = "hosts"    // Text, and then what the image's file says
	opPasswd   = "passwd"   // the image's file with a line for the command's user
	opGroup    = "group"    // and for its group
	opMask     = "mask"     // nothing can be seen at Dst
	opReadOnly = "readonly" // Dst and all below it
)

func (p *Plan) has(namespace string) bool { return slices.Contains(p.Namespaces, namespace) }

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
