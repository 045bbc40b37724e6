//go:build !hot

package image

import (
	"context"
	"os"

	"github.com/opencontainers/go-digest"
)

// Fetched is an image on its way into the store. Manifest and configuration are
// here and their bytes were checked against their digests; the layers are still coming.
type Fetched struct {
	Ref       string        // as a person would name it: docker.io/library/busybox:latest, oci-archive:x.tar
	Names     []string      // the references it gets in the store; may be empty
	Digest    digest.Digest // of Manifest
	MediaType string        // of Manifest
	Manifest  []byte
	Config    []byte
	Layers    []Layer // bottom first; as many as Config.rootfs.diff_ids
}

// Layer is one layer of a Fetched image.
type Layer struct {
	Digest    digest.Digest // of the blob, compressed as it travels
	DiffID    digest.Digest // of the tar within
	Size      int64         // of the blob, bytes; -1 if an archive does not tell
	MediaType string

	// Open waits until the blob is on disk and its digest has been checked, and
	// returns it, positioned at the start. It is called only for a layer that
	// the store does not have, so a blob that nobody opens is never downloaded.
	Open func(ctx context.Context) (*os.File, error)
}
