// The runtime need not read cgroup files, or watch them, to know how many threads to use.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

//go:build hot

// Command sbx, as make builds it, is two programs in one file. A process of Go pays for
// every package it is linked with before main begins: those that fetch and keep images cost
// a run of a present image more than a millisecond, twice. So this half has what such a run
// needs and no more; the whole of sbx, as `go build` makes it of main.go, is embedded, and
// executed from memory for everything else. Nobody can tell, but by the clock.
package main

import (
	_ "embed"
	"fmt"
	"os"

	"sbx/sandbox"
	"sbx/sandbox/cli"
	"sbx/userns"
)

//go:embed sbx.whole
var whole string

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
	err := userns.ExecSealed("sbx", whole, os.Args, os.Environ())
	fmt.Fprintf(os.Stderr, "sbx: execute the whole of sbx: %v\n", err)
	os.Exit(125)
}
