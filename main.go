// The runtime need not read cgroup files, or watch them, to know how many threads to use.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

//go:build !hot && !net

// Command sbx runs a command in a sandbox, without root. README.md tells how to use
// it, HACKING.md how it is built.
package main

import (
	"os"

	fuseoverlay "sbx/fuse-overlay"
	"sbx/sandbox"
	"sbx/sandbox/cli"
	"sbx/sandbox/image"
	"sbx/slirp"
)

// sbx starts itself again under the name of a stage. The names of the storage library
// are those of its own helpers.
func main() {
	switch os.Args[0] {
	case "sbx-init":
		sandbox.Init()
	case "sbx-net":
		slirp.Serve()
	case fuseoverlay.ProcessName:
		fuseoverlay.ServeStage()
	case "sbx-store":
		image.ServeStore()
	case "sbx-remove":
		sandbox.Remove()
	case "storage-untar", "storage-tar", "storage-applyLayer", "storage-mountfrom", "storage-chown-by-maps":
		image.Reexec()
	default:
		nameProcess()
		os.Exit(cli.Main(os.Args))
	}
}

// nameProcess: the process is known by the name of a link, exe, when main_hot.go has executed it.
func nameProcess() { os.WriteFile("/proc/self/comm", []byte("sbx"), 0) }
