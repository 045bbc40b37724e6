//go:build !hot

package image

import (
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types of the OCI's own packages that a run of a present image meets. Those packages
// compile regular expressions before main begins, so the hot half of sbx does without.
type (
	Digest    = digest.Digest
	Config    = v1.Image
	RunConfig = v1.ImageConfig
)
