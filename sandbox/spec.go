package sandbox

import (
	"net/netip"
	"time"

	"sbx/slirp"
	"sbx/slirp/egress"
)

// Spec is what the user asked for, in the user's words: flags, image and
// configuration, before anything is known of the host. NewPlan turns it, with a
// Host, into a Plan.
//
// A field that is nil or zero was not asked for; NewPlan then takes the image's
// word, and after that the preset's. Whoever fills a field in has checked its form;
// NewPlan says what goes with what, and with the host.
type Spec struct {
	Root Root // the tree that becomes /
	// Overlay is who stacks directories, where only one may: kernel, fuse; "" is who can.
	Overlay string
	Image   ImageConfig // defaults that come with the image; hostile input

	// The command.
	Entrypoint *[]string // replaces the image's; an empty list removes it
	Args       []string  // after IMAGE; replaces the image's Cmd
	Workdir    string
	User       string   // "name", "uid", "name:group", "uid:gid"
	GroupAdd   []string // names or numbers, or the one word keep-groups
	HostUsers  []string // --hostuser: users of the host who get a passwd entry
	Umask      *uint32  // nil is 0022
	Timezone   string   // --tz: a zone of the host's zoneinfo, or "local"

	// The environment, over the image's, lowest precedence first. The caller's
	// environment was consulted by whoever filled this in; nothing reads it later.
	Env         []string // NAME=value
	SecretEnv   []string // NAME=value, over Env; a plan that is printed shows only the names
	UnsetEnv    []string
	UnsetEnvAll bool // the image's and the built-in ones too; Env stays

	// Namespaces: "" is private. The others are host, and what each kind allows.
	UserNS   UserNS
	PID      string // private, host
	IPC      string // private, shareable, none (no /dev/shm), host
	UTS      string // private, host
	CgroupNS string // private, host
	Network  string // none, private, host, container:NAME, ns:PATH, slirp4netns, pasta
	// Networks are the user-defined ones that the sandbox is on, in the place of Network.
	Networks []UserNetwork
	// HostLoopback lets a private network reach the host's loopback, as the gateway.
	HostLoopback   bool
	NetworkOptions NetworkOptions
	// What may leave a private network, and the file that tells of what wanted to.
	Allow, Deny []egress.Rule
	NetLog      string
	MAC         string // --mac-address, of a network that is not the user's own

	Ports      []Port // -p; one without an address is this host's loopback's
	PublishAll bool   // and what the image or Expose exposes, at random ports of the host's
	Expose     []Exposed

	Name         string // others join this sandbox by it, as long as it runs
	Hostname     string
	NoHostname   bool   // keep the image's /etc/hostname
	HostsFile    string // what /etc/hosts says beside what sbx knows: "", none, image, or the name of a file
	HostsText    string // what that file says
	NoHosts      bool
	AddHosts     []HostEntry
	DNS          []string // nameservers, or the one word none (keep the image's file)
	DNSSearch    []string
	DNSOptions   []string
	Passwd       *bool  // --passwd=false: no entry for the user
	PasswdEntry  string // template of the entry: $USERNAME $UID $GID $NAME $HOME
	ImageVolumes string // what the image's VOLUMEs become: tmpfs, anonymous, ignore; "" is anonymous

	Mounts         []Mount // in the order they were written
	Devices        []Device
	Secrets        []Secret
	ReadOnly       *bool  // nil is what the preset says
	ReadOnlyTmpfs  *bool  // tmpfs on /run, /tmp, /var/tmp under ReadOnly; nil is true
	ShmSize        *int64 // bytes; 0 is no limit
	Sysctls        []KeyValue
	Rlimits        []Rlimit
	RlimitsOfHost  bool // --ulimit host
	OOMScoreAdj    *int
	PreserveFDs    []int // descriptors of the caller that the command keeps, under their own numbers
	SdnotifySocket string

	Security Security

	Init        bool
	Terminal    bool     // -t
	Interactive bool     // -i
	Attach      []string // -a: of stdin, stdout, stderr; none is all
	SigProxy    bool
	StopSignal  string
	StopTimeout time.Duration
	Timeout     time.Duration // --timeout; 0 is none
	Labels      []KeyValue
	CIDFile     string // --cidfile, --pidfile: absolute
	PIDFile     string
}

// Root is the tree that becomes the sandbox's root directory: layers, or a directory.
type Root struct {
	Layers  []string // directories of an image's layers, topmost first
	Dir     string   // --rootfs DIR
	Overlay bool     // --rootfs DIR:O: changes are thrown away at exit
	Label   string   // how the user named it; for messages and the hostname's default only
}

// ImageConfig is the part of an OCI image configuration that a run uses
// (image-spec config.md). All of it is hostile.
type ImageConfig struct {
	Env        []string
	Entrypoint []string
	Cmd        []string
	User       string
	WorkingDir string
	Volumes    []string // sorted
	Exposed    []Exposed
	StopSignal string
	Arch       string
}

// UserNS is --userns, --uidmap, --gidmap, --subuidname, --subgidname.
type UserNS struct {
	Mode       string // "", host, keep-id, nomap, auto
	UID, GID   *uint32
	Size       uint32
	UIDMap     []IDMapFlag
	GIDMap     []IDMapFlag
	SubUIDName string
	SubGIDName string
}

// IDMapFlag is one --uidmap or --gidmap: [flags]container:from[:size].
type IDMapFlag struct {
	Container, From, Size uint32
	Host                  bool // @: From is an id of the host
	Extend                bool // +: over the default map instead of in its place
	UIDs, GIDs            bool // u, g: only this kind; neither is both
}

// Port is one -p: a port of the host's and one of the sandbox's, or as many of each.
type Port = slirp.Port

// Exposed is one --expose, or EXPOSE of an image: a port of the sandbox's, or a range of them.
type Exposed struct {
	Protocol string // tcp, udp, sctp
	First    uint16
	Count    int
}

// NetworkOptions is what --network MODE: says beside host-loopback.
type NetworkOptions struct {
	MTU      int          // bytes of a packet; 0 is the default
	CIDR     netip.Prefix // the sandbox's IPv4 network; the zero one is left to us
	IPv6     *bool        // nil: where the host has it
	Outbound [2]string    // IPv4, IPv6: the address or the interface of the host's that flows leave from
	Args     []string     // pasta's own, but for --map-gw, which is podman's for leaving --no-map-gw out
}

// UserNetwork is one --network NAME, and what was found of it: its definition, and what is leased.
type UserNetwork struct {
	Name    string
	Aliases []string     // --network-alias
	Wanted  []netip.Addr // --ip, --ip6
	MAC     string       // --mac-address

	Live      string // the directory of its socket
	Addresses []UserAddress
	Internal  bool
	DNS       bool         // members find each other
	Servers   []netip.Addr // asked in the place of the host's
	MTU       int          // 0 is the default
}

// UserAddress is the sandbox's address of one family, with the length of the network.
type UserAddress struct {
	Address netip.Prefix
	Gateway netip.Addr
}

// HostEntry is one --add-host: a line of /etc/hosts.
type HostEntry struct{ Name, Addr string }

// HostGateway as a HostEntry's Addr is the host, as the sandbox reaches it.
const HostGateway = "host-gateway"

// KeyValue is one NAME=value, order kept.
type KeyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Mount is one -v, --mount or --tmpfs.
type Mount struct {
	Type string // bind, tmpfs, volume, image, devpts
	Src  string // bind, volume: an absolute path on the host
	Dst  string // absolute, in the sandbox
	Name string // volume: its name, "" for an anonymous one
	Flag string // the one that it was written with: --volume

	Layers []string // image: the layers' directories, topmost first
	Subdir string   // image: subpath=

	ReadOnly              bool
	ReadOnlyShallow       bool   // bind-nonrecursive or ro=norecursive: submounts keep their own flags
	ReadWrite             bool   // image: a throwaway upper layer
	NonRecursive          bool   // bind without the mounts below it
	Overlay               bool   // :O: changes are thrown away at exit
	UpperDir              string // :O,upperdir=: changes are kept there
	WorkDir               string
	Chown                 bool    // :U: give everything below Src to the sandbox's user
	Relabel               string  // z or Z
	NoCopy                bool    // volume: do not copy the image's files into an empty one
	NoCreate              bool    // volume, bind: it must exist
	NoSuid, NoDev, NoExec *bool   // nil: the kind's default
	Propagation           string  // private, rprivate, slave, rslave, shared, rshared
	Size                  int64   // tmpfs: bytes; 0 is the kernel's default
	Mode                  uint32  // tmpfs, devpts: permission bits; 0 is the default
	UID, GID              *uint32 // tmpfs, devpts
	Inodes                int64
	Max                   int   // devpts: number of terminals
	TmpCopyUp             *bool // tmpfs: fill it with the image's files; nil is true for --tmpfs as with podman
}

// Device is one --device: a node of the host that the caller may open.
type Device struct{ Src, Dst string }

// Secret is one --secret of type mount; one of type env is part of Env.
type Secret struct {
	ID       string
	Dst      string // absolute; /run/secrets/ID by default
	Data     []byte
	UID, GID uint32
	Mode     uint32
}

// Rlimit is one --ulimit; values in the units of setrlimit(2), -1 is no limit.
type Rlimit struct {
	Name       string // as in ulimit and podman: nofile, nproc, core, ...
	Soft, Hard int64
}

// Security is --security-opt, --cap-add, --cap-drop, --privileged, and the preset they modify.
type Security struct {
	Preset     string   // default, untrusted, compat, privileged; "" is default
	CapAdd     []string // without CAP_, upper case, or ALL
	CapDrop    []string
	NoNewPrivs *bool
	Seccomp    string // "" is the preset's, unconfined, or profile
	Profile    []byte // seccomp=FILE: an OCI seccomp profile, JSON
	Mask       []string
	Unmask     []string // paths, globs, or ALL
	ProcOpts   []string // hidepid=..., subset=pid
	Label      []string // SELinux: disable, type:..., level:...
	AppArmor   string
	Nested     *bool // nested=true: user namespaces, mounts and ptrace inside
}
