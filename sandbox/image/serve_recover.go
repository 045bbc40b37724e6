//go:build !hot

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
)

// recover removes what a change has left that did not come to its end, or a disk has lost:
// images without their configuration or one of their layers, and layers that no image
// has. The library itself removes layers that are incomplete. The lock is held.
func (w *writer) recover() error {
	images, err := w.lib.Images()
	if err != nil {
		return fmt.Errorf("clean up store: %w", err)
	}
	used := map[string]bool{}
	for _, img := range images {
		chain, whole, err := w.chain(img)
		if err != nil {
			return fmt.Errorf("clean up store: image %s: %w", img.ID, err)
		}
		if whole {
			for _, id := range chain {
				used[id] = true
			}
			continue
		}
		if _, err := w.lib.DeleteImage(img.ID, true); err != nil && !errors.Is(err, storage.ErrLayerUnknown) {
			return fmt.Errorf("clean up store: remove image %s: %w", img.ID, err)
		}
	}
	if err := w.removeUnused(used); err != nil {
		return fmt.Errorf("clean up store: %w", err)
	}
	if err := w.lib.GarbageCollect(); err != nil {
		return fmt.Errorf("clean up store: %w", err)
	}
	return w.unmark()
}

// moveDamaged takes records that nobody can read out of the way, for the library cannot be
// opened with them. That is told, once, as an error; what they named is to be pulled again.
func (w *writer) moveDamaged() error {
	_, err := readLibrary(libraryIn(w.Dir))
	damaged, ok := errors.AsType[*damagedRecords](err)
	if !ok {
		return err
	}
	aside := damaged.path + ".damaged"
	if err := os.Rename(damaged.path, aside); err != nil {
		return fmt.Errorf("%w (and then: %v)", damaged, err)
	}
	if err := w.mark(); err != nil {
		return err
	}
	return withHint(fmt.Errorf("%w: it is %s now", damaged, filepath.Base(aside)), "pull the images again that sbx images does not show any more")
}

// chain lists the layers of an image, and tells whether all of it is there. An error is no
// answer to that.
func (w *writer) chain(img storage.Image) (ids []string, whole bool, err error) {
	digest := digest.NewDigestFromEncoded(digest.SHA256, img.ID)
	config, err := w.lib.ImageBigData(img.ID, digest.String())
	if err != nil && !isGone(err) {
		return nil, false, err
	}
	if digest.Algorithm().FromBytes(config) != digest {
		return nil, false, nil
	}
	for id := img.TopLayer; id != ""; {
		layer, err := w.lib.Layer(id)
		if err != nil && !isGone(err) {
			return nil, false, err
		}
		if err != nil || w.lost(id) {
			return nil, false, nil
		}
		ids = append(ids, id)
		id = layer.Parent
	}
	return ids, true, nil
}

// isGone: the library has no such thing, or its file is not there.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrImageUnknown) || errors.Is(err, storage.ErrLayerUnknown)
}

// removeUnused removes layers from the top down: the library keeps a parent as long as
// it has children.
func (w *writer) removeUnused(used map[string]bool) error {
	for {
		layers, err := w.lib.Layers()
		if err != nil {
			return err
		}
		removed := false
		for _, layer := range layers {
			if used[layer.ID] {
				continue
			}
			switch err := w.lib.DeleteLayer(layer.ID); {
			case err == nil:
				removed = true
			case !errors.Is(err, storage.ErrLayerHasChildren):
				return fmt.Errorf("remove layer %s: %w", layer.ID, err)
			}
		}
		if !removed {
			return nil
		}
	}
}
