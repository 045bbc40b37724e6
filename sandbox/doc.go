// Package sandbox runs one sandbox, from Spec to exit status.
//
//	Spec      what the user asked for, in the user's words          spec.go
//	Host      what there is on this machine                         host.go
//	Plan      what will be done                                     plan.go, print.go, wire.go
//	NewPlan   decides that, of Spec and Host, and touches nothing   planner.go, plan_*.go
//	Run       does it, in the caller's process                      run.go
//	Init      does it, inside                                       init.go, start.go, become.go, finish.go
//
// # The life of a run
//
//	sbx                      the caller's process, in the host's namespaces
//	│                        run.go: starts sbx-init, forwards signals, copies what is
//	│                        typed and printed, waits, removes the run's directory
//	│
//	├─ sbx-net               with a private network: its TCP/IP stack, in the host's namespaces.
//	│                        network.go, and package slirp. It dies with sbx, too; and so does
//	│                        slirp4netns or pasta, with --network of that name: driver.go
//	│                        A user-defined network has one sbx-net for all its sandboxes, which
//	│                        lives as long as any of them: members.go
//	│
//	└─ sbx-init              clone: new user, mount, pid, ipc, uts, net, cgroup namespaces.
//	   │                     First of its pid namespace, and alone in it: its death, by
//	   │                     whatever hand, is the death of all below, by the kernel's.
//	   │                     It dies with sbx (PR_SET_PDEATHSIG), and is never seen from inside.
//	   │                     init.go: opens the sources, mounts the root, does the steps
//	   │
//	   ├─ sbx-overlay        where an overlay is over FUSE: serves it, in the namespaces of sbx-init, and
//	   │                     dies with that. overfuse.go, and package fuseoverlay
//	   │
//	   └─ the command        fork, not exec: new pid namespace, of which it is the first.
//	                         become.go: a list of system calls laid down beforehand, the last
//	                         of which executes the user's command. With --init the first
//	                         process stays behind as a reaper, and its child executes.
//
// Two processes would do, if commands were kind: a death signal on the command itself is
// cleared by the command with one system call, and by any setuid program without asking.
//
// # What travels
//
//	sbx -> sbx-init      descriptor 3: the Plan (wire.go), when the ids are mapped
//	sbx-init -> sbx      descriptor 4: one report that the command runs, with a pidfd of it and
//	                     the master of its terminal; one of how it ended; or one failure; and
//	                     before that, that it waits for a volume, the net namespace of a sandbox
//	                     with a name, and the link of a private network, a packet socket or a tap (report.go)
//	sbx -> sbx-net       descriptor 3: the addresses, ports and rules, then that link; to the one
//	                     of a user-defined network over its socket
//	sbx-net -> sbx-init  with published ports: what address a socket in the sandbox is to have; and
//	                     back comes the socket (slirp/inside.go)
//	sbx-init -> sbx-overlay  descriptor 3: /dev/fuse; then the layers. On 4 it says that it is ready, or why not
//	sbx-net -> sbx       that it is ready, or why not (slirp/control.go)
//	sbx -> sbx-init      with slirp4netns or pasta, on descriptor 4: a byte, when that is ready, for
//	                     a pidfd of the command's process in the place of the link (driver.go)
//	command -> sbx-init  a byte, when /proc is mounted and the inner user namespace is there
//	sbx-init -> command  a byte, when the root is complete: go on, and execute
//
// # User namespaces
//
// The outer one has all ids of the caller. It owns the mounts; images were unpacked in it.
// Where the command could turn that against the mounts (CAP_SYS_ADMIN), or wants other ids
// (--userns keep-id), it gets an inner one, in which every mount is locked and ids are
// named anew. Neither lets further ones be made, unless the plan says nested.
//
// Around the outer one of a sandbox with a name there is another, in which no process stays: who
// joins its network has an outer one in there, too, beside it. See join.go.
package sandbox
