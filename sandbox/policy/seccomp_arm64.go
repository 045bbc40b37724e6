package policy

import "embed"

// The filters that go generate compiled, a file of struct sock_filter[] each.
//
//go:embed bpf/arm64
var compiled embed.FS
