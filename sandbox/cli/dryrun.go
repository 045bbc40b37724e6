//go:build !hot

package cli

import (
	"context"
	"errors"
	"fmt"

	"sbx/sandbox"
	"sbx/sandbox/image"
)

// printPlan is --dry-run: it prints the plan that would be run.
func (r *runArgs) printPlan(plan *sandbox.Plan) error {
	plan.NoteLink()
	if r.format == "json" {
		return r.app.printJSON(plan)
	}
	if err := plan.WriteText(r.app.stdout); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

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
	hint := "sbx pull " + opts.Image
	if src.Transport != "docker" {
		hint += " prints an id, by which it can be planned then"
	}
	return nil, &usageError{msg: fmt.Sprintf("image %s is not here; --dry-run fetches nothing", quoteArg(opts.Image)), hint: hint}
}

// runnable: this half of sbx runs every plan.
func runnable(*sandbox.Plan) error { return nil }
