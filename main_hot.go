// The runtime need not read cgroup files, or watch them, to know how many threads to use.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

//go:build hot

// Command sbx, as make builds it, is three programs in one file. A process of Go pays for
// every package it is linked with before main begins: those that fetch and keep images cost
// a run of a present image more than a millisecond, twice. So this one has what such a run
// needs and no more; the network of a sandbox, main_net.go, and the whole of sbx, as `go build`
// makes it of main.go, lie beside it, and are executed where they are needed. scripts/onefile joins them.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sbx/sandbox"
	"sbx/sandbox/cli"
)

func main() {
	switch os.Args[0] {
	case "sbx-init":
		sandbox.Init()
	case "sbx-remove":
		sandbox.Remove()
	}
	if status, done := cli.Hot(os.Args); done {
		os.Exit(status)
	}
	argv := append([]string{"sbx-whole"}, os.Args[min(1, len(os.Args)):]...)
	err := unix.Exec("/proc/self/exe", argv, os.Environ())
	fmt.Fprintf(os.Stderr, "sbx: execute the whole of sbx: /proc/self/exe: %v\n", err)
	os.Exit(125)
}
