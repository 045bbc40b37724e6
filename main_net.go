//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

//go:build net

// This program is sbx-net alone, the network of a sandbox: with the stack in main_hot.go each
// run would pay for it, whether it has a network or not.
package main

import "sbx/slirp"

func main() { slirp.Serve() }
