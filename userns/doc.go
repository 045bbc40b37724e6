// Package userns starts processes in user namespaces, as an ordinary user.
//
// # How it goes
//
// A Stage names one of sbx's own processes and the namespaces it lives in. Start
// forks: the child comes into being inside a new user namespace, with every
// capability over what it owns and no ids yet. It runs a short list of system
// calls (Program), the last of which executes sbx again, from a read-only mount,
// under the stage's name. While the Go runtime starts there, the parent writes the
// id maps, helped by newuidmap(1) and newgidmap(1) side by side, and then sends the
// stage its message on descriptor 3. Receive, in the child, waits for that message:
// when it is there, the ids are mapped, and the process becomes root of its namespace.
//
//	parent                                    child
//	Start: fork ----------------------------> capset, ambient, pdeathsig
//	       newuidmap, newgidmap               open_tree sbx, read-only; execveat
//	       write message ---- descriptor 3 -> Receive: setresgid 0, setresuid 0
//
// # What it does not do
//
// It mounts nothing and knows nothing of sandboxes. It does not remember: a
// namespace lives as long as a process in it.
package userns
