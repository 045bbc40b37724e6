// Package policy is what a sandbox may do, as data: the presets default,
// untrusted, compat and privileged, what flags make of them, and the seccomp
// filters that follow. It makes no system call; package sandbox enforces.
//
// How it goes:
//
//	Find("untrusted")                    a Preset, a plain value
//	p.WithNested(true)                   --security-opt nested=true
//	Caps(p, add, drop)                   --cap-add, --cap-drop: names and the mask
//	Masks(p, mask, unmask)               --security-opt mask=, unmask=
//	r.Under(soft, hard)                  an Rlimit beside what the caller has
//	Seccomp(p, caps, compat32)           the filter of the preset
//	Compile(json, Options)               the filter of --security-opt seccomp=FILE
//	Show(w, p, "text")                   sbx policy show
//
// # The filters
//
// A preset's filter is Docker's default profile with layers over it (layer.go):
// each layer names calls and says what is answered instead. A user's profile
// stands alone, and means what it means to runc.
//
//	JSON -> profile -> verdicts (by name) -> ranges (by number) -> program
//
// A verdict is a list of rules, of which the first that holds decides. Calls
// with consecutive numbers and one verdict become a range, and the program finds
// the range by binary search: seven comparisons or fewer for a call that is
// allowed, and none on Linux 5.11 and later, where the kernel works out
// beforehand which numbers are allowed whatever their arguments.
//
// Before that, in each filter: calls of a foreign architecture kill the process;
// calls of the x32 ABI, numbers without a call, and calls newer than the profile
// do not exist (ENOSYS), so that C libraries fall back on what they did before.
//
// The usual filters are compiled by go generate into bpf/, a file of struct
// sock_filter each; the others when they are asked for, in under a millisecond.
// Nothing is parsed or built when a process starts.
//
// # What it does not do
//
// It loads no filter and drops no capability. It does not look at the host: what
// this kernel lacks, the caller of Caps and Rlimit.Under takes out, and the
// patterns among the masked paths are for the caller to expand. It knows amd64
// with 32-bit x86, and arm64 without 32-bit arm. It cannot filter what is behind
// a pointer: with 32-bit x86 calls on, socketcall reaches every socket family.
// SCMP_ACT_NOTIFY is refused.
//
// moby.json is data of github.com/moby/profiles (seccomp v0.2.3), copyright the
// Moby authors, Apache License 2.0.
package policy
