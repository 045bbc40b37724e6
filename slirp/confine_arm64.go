//go:build !hot

package slirp

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// deniedHere are those of denied that other processors do not have.
func deniedHere() []uint32 { return nil }
