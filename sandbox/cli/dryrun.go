//go:build !hot

package cli

import (
	"context"
	"errors"
	"fmt"

	"sbx/sandbox/image"
)

// present finds an image that is here: a dry run fetches nothing, and the store stays as
// it is. What is in an archive is not here.
func present(ctx context.Context, s *image.Store, opts image.PullOptions) (*image.Image, error) {
	src, err := image.ParseSource(opts.Image)
	if err != nil {
		return nil, err
	}
	if src.Transport == "docker" {
		opts.Policy = image.PullNever
		img, err := image.Pull(ctx, s, opts)
		if !errors.Is(err, image.ErrNotFound) {
			return img, err
		}
	}
	return nil, &usageError{
		msg:  fmt.Sprintf("image %s is not here; --dry-run fetches nothing", quoteArg(opts.Image)),
		hint: "sbx pull " + opts.Image,
	}
}
