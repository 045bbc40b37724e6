//go:build !hot

package image

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
)

// recover removes what a change has left that did not come to its end: images without
// their configuration, and layers that no image has. The library itself removes layers
// that are incomplete. The lock is held.
func (w *writer) recover() error {
	images, err := w.lib.Images()
	if err != nil {
		return fmt.Errorf("clean up store: %w", err)
	}
	used := map[string]bool{}
	for _, img := range images {
		id := digest.NewDigestFromEncoded(digest.SHA256, img.ID)
		config, err := w.lib.ImageBigData(img.ID, id.String())
		if err != nil || digest.FromBytes(config) != id {
			if _, err := w.lib.DeleteImage(img.ID, true); err != nil {
				return fmt.Errorf("clean up store: remove image %s: %w", img.ID, err)
			}
			continue
		}
		for id := img.TopLayer; id != "" && !used[id]; {
			used[id] = true
			layer, err := w.lib.Layer(id)
			if err != nil {
				break
			}
			id = layer.Parent
		}
	}
	if err := w.removeUnused(used); err != nil {
		return fmt.Errorf("clean up store: %w", err)
	}
	if err := w.lib.GarbageCollect(); err != nil {
		return fmt.Errorf("clean up store: %w", err)
	}
	if err := os.Remove(w.path("unfinished")); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
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
