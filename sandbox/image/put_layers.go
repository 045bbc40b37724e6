//go:build !hot

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
	drivers "go.podman.io/storage/drivers"
	"golang.org/x/sys/unix"
)

// put runs in sbx-store. Layers are unpacked and checked first, without a lock; then,
// under the lock, they join the store in order, and the image after them. If somebody
// has removed a layer meanwhile that was there before, the round begins again.
func (w *writer) put() error {
	p := w.Put
	if digest.FromBytes(p.Config) != p.ID || len(p.Blobs) != len(p.DiffIDs) {
		return errors.New("request to sbx-store: bug in sbx")
	}
	ids := layerIDs(p.DiffIDs)
	staged := make([]*stagedLayer, len(ids))
	defer func() {
		for _, s := range staged {
			if s != nil {
				s.drop()
			}
		}
	}()
	for {
		lacking, err := w.commit(p, ids, staged)
		if err != nil || len(lacking) == 0 {
			return err
		}
		if err := w.stage(p, lacking, staged); err != nil {
			return err
		}
	}
}

// layerIDs names layers as podman does: by what they contain and what they lie on.
func layerIDs(diffIDs []digest.Digest) []string {
	var ids []string
	parent := ""
	for _, d := range diffIDs {
		id := d.Encoded()
		if parent != "" {
			id = digest.FromString(parent + "+" + id).Encoded()
		}
		ids = append(ids, id)
		parent = id
	}
	return ids
}

// commit puts the image together if every layer is there or staged; else it changes
// nothing and returns which are not.
func (w *writer) commit(p *putRequest, ids []string, staged []*stagedLayer) (lacking []int, err error) {
	unlock, err := w.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if slices.ContainsFunc(ids, w.lost) {
		if err := w.recover(); err != nil {
			return nil, err
		}
	}
	for i, id := range ids {
		if !w.lib.Exists(id) && staged[i] == nil {
			lacking = append(lacking, i)
		}
	}
	if len(lacking) > 0 {
		return lacking, nil
	}
	return nil, w.marked(func(lib storage.Store) error {
		for i, id := range ids {
			if lib.Exists(id) {
				continue
			}
			parent := ""
			if i > 0 {
				parent = ids[i-1]
			}
			if err := staged[i].commit(lib, id, parent, p.Blobs[i], p.DiffIDs[i]); err != nil {
				return fmt.Errorf("layer %s: %w", p.DiffIDs[i], err)
			}
		}
		top := ""
		if len(ids) > 0 {
			top = ids[len(ids)-1]
		}
		return addImage(lib, p, top)
	})
}

// lost: the layer is in the records, and its directory is gone.
func (w *writer) lost(id string) bool {
	st, err := os.Stat(libraryIn(w.Dir).layerDir(id))
	return w.lib.Exists(id) && (errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir())
}

// commit makes the layer one of the store's: a rename, and records.
func (s *stagedLayer) commit(lib storage.Store, id, parent string, blob, diffID digest.Digest) error {
	out := &drivers.DriverWithDifferOutput{
		Target: s.root(), Size: s.size, UIDs: s.uids, GIDs: s.gids,
		UncompressedDigest: diffID, CompressedDigest: blob, TarSplit: s.split,
	}
	if s.rootSeen { // else it gets its parent's
		st, err := os.Stat(s.root())
		if err != nil {
			return err
		}
		mode := st.Mode()
		out.RootDirMode = &mode
	}
	none := storage.LayerIDMappingOptions{HostUIDMapping: true, HostGIDMapping: true}
	_, err := lib.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
		ID: id, ParentLayer: parent, DiffOutput: out, DiffOptions: &drivers.ApplyDiffWithDifferOpts{},
		LayerOptions: &storage.LayerOptions{IDMappingOptions: none},
	})
	return err
}

// addImage records the image, under the keys that podman uses.
func addImage(lib storage.Store, p *putRequest, top string) error {
	id := p.ID.Encoded()
	manifests := []storage.ImageBigDataOption{
		{Key: "manifest-" + p.Digest.String(), Data: p.Manifest, Digest: p.Digest},
		{Key: "manifest", Data: p.Manifest, Digest: p.Digest},
	}
	img, err := lib.Image(id)
	switch {
	case errors.Is(err, storage.ErrImageUnknown):
		options := &storage.ImageOptions{
			Digest: p.Digest, CreationDate: created(p.Config),
			BigData: append([]storage.ImageBigDataOption{{Key: p.ID.String(), Data: p.Config}}, manifests...),
		}
		if _, err = lib.CreateImage(id, nil, top, "", options); err != nil {
			return fmt.Errorf("image %s: %w", id, err)
		}
	case err != nil:
		return err
	case !slices.Contains(img.Digests, p.Digest):
		for _, m := range manifests {
			if err := lib.SetImageBigData(id, m.Key, m.Data, func([]byte) (digest.Digest, error) { return m.Digest, nil }); err != nil {
				return fmt.Errorf("image %s: %w", id, err)
			}
		}
	}
	if len(p.Names) == 0 {
		return nil
	}
	return lib.AddNames(id, p.Names)
}

func created(config []byte) time.Time {
	var c v1.Image
	if json.Unmarshal(config, &c) != nil || c.Created == nil {
		return time.Time{}
	}
	return *c.Created
}

// unpackedAtOnce is how many layers are unpacked side by side. Each holds some megabytes.
const unpackedAtOnce = 4

// stage asks for layers and unpacks them as they come.
func (w *writer) stage(p *putRequest, lacking []int, staged []*stagedLayer) error {
	if err := w.to.send(reply{Need: lacking}, nil); err != nil {
		return err
	}
	var (
		unpacking sync.WaitGroup
		stopped   atomic.Bool
		once      sync.Once
		failed    error
	)
	fail := func(err error) {
		once.Do(func() {
			failed = err
			stopped.Store(true)
			unix.Shutdown(int(w.to.f.Fd()), unix.SHUT_RD) // wait for no more of them
		})
	}
	slots := make(chan struct{}, unpackedAtOnce)
	for range lacking {
		var b blobSent
		f, err := w.to.receive(&b)
		if err == nil && (f == nil || !slices.Contains(lacking, b.Layer)) {
			err = errors.New("message to sbx-store: bug in sbx")
		}
		if err != nil {
			fail(fmt.Errorf("wait for layers: %w", err))
			break
		}
		slots <- struct{}{}
		unpacking.Go(func() {
			defer func() { <-slots }()
			defer f.Close()
			s, err := unpackLayer(f, p.DiffIDs[b.Layer], w.path("staging"), w.UIDs, w.GIDs, &stopped)
			if err != nil {
				fail(fmt.Errorf("unpack layer %s: %w", p.Blobs[b.Layer], err))
				return
			}
			staged[b.Layer] = s
		})
		if stopped.Load() {
			break
		}
	}
	unpacking.Wait()
	return failed
}
