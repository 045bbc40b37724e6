// Package fuseoverlay is overlayfs over FUSE: a stack of directories, of which the topmost takes the
// changes, for where the kernel refuses its own: before Linux 5.11, with an upper directory on overlayfs or
// on a network's file system, and on hosts that forbid that mount. It needs no fusermount, and no root.
//
//	Mount         makes the mount, in a user namespace               mount.go
//	Serve         answers the kernel's questions on /dev/fuse        fs.go
//	ServeStage    is the process that does, sbx-overlay              serve.go, stage.go
//
// # How a question is answered
//
//	descriptors.go   open files and directories, as many as there is room for
//	layer.go         a directory in a layer: found by its parent's descriptor and a name, never by a path
//	marks.go         what layers say beside their files: what is deleted, opaque, elsewhere
//	lookup.go        what all layers together have of a name
//	node.go          what the kernel knows by a number, where that lies, and what is forgotten with it
//	readdir.go       merged listings
//	file.go          data
//	copyup.go        the way to the upper layer
//	create.go, remove.go, rename.go, setattr.go, xattr.go
//
// On disk all is as the kernel (with userxattr) and fuse-overlayfs have it: any of the three mounts what another
// left. Deleted names are devices 0:0, or files .wh.NAME where the upper directory allows no such device; a directory
// that hides those below it has user.overlay.opaque, or a file .wh..wh..opq where there are no attributes.
// A directory that is merged is not renamed (EXDEV), and mv copies it, as with the kernel's overlay in a user
// namespace. Redirects that others have made are followed.
//
// # Why it is quick
//
// Nobody else changes the layers. So the kernel may keep what it has been told, names that are not there among it, for
// good; it keeps data from one open(2) to the next, and listings; and it need not say that a file is opened
// or closed, for nothing depends on it: both Open and OpenDir answer ENOSYS. A node's data is opened when it is first
// read or written, and what is written to a file in a lower layer moves it up then. Locks are the kernel's own business.
// A listing brings with it what stat(2) would ask for. What is large is spliced from the file to the
// kernel.
//
// # Locks
//
//	node.copying, then FS.tree, then FS.mu, node.data and those of lists, held and descriptors
//
// FS.tree is held for reading as long as a place is in use, and for writing while names change. Data is
// copied without it: into a file of the work directory, which then takes its name in one step.
//
// # What it does not do
//
// It does not change layers below, write what is not in the upper or work directory, or believe what a layer says further
// than to hide or merge directories of that layer and those below. It does not pass through (FUSE_PASSTHROUGH): that takes
// CAP_SYS_ADMIN in the first user namespace.
package fuseoverlay
