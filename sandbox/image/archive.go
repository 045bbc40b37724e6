//go:build !hot

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	maxMembers = 100_000 // of an archive of images; their layers are one entry each
	maxLinks   = 16      // from one entry to the next
)

// tarTree is an archive, uncompressed, with an index of its regular files. Its entries
// are never unpacked under their own names.
type tarTree struct {
	f       *os.File
	entries map[string]tarEntry
}

type tarEntry struct {
	offset, size int64
	link         string // name of another entry; docker save links equal layers
}

// openArchive opens an archive and decompresses it if need be, into a file without a name.
func openArchive(ctx context.Context, file string, blobs *blobDir) (*tarTree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	t, err := openTar(ctx, f, blobs)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return t, nil
}

// openTar takes over f.
func openTar(ctx context.Context, f *os.File, blobs *blobDir) (*tarTree, error) {
	plain, err := plainFile(ctx, f, blobs)
	if err != nil {
		f.Close()
		return nil, err
	}
	if plain != f {
		f.Close()
	}
	t := &tarTree{f: plain, entries: map[string]tarEntry{}}
	if err := t.index(ctx); err != nil {
		plain.Close()
		return nil, err
	}
	return t, nil
}

func (t *tarTree) close() { t.f.Close() }

// plainFile is f, if it is a file one can seek in and not compressed; else a copy.
func plainFile(ctx context.Context, f *os.File, blobs *blobDir) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a directory, not an archive")
	}
	var head [magicSize]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.ErrUnexpectedEOF {
		if err == io.EOF {
			err = errors.New("is empty")
		}
		return nil, err
	}
	kind := compression(head[:n])
	if kind == "" && info.Mode().IsRegular() {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
	in := &counter{r: io.MultiReader(bytes.NewReader(head[:n]), f), ctx: ctx}
	out, err := decompressor(in, kind)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	return spool(in, out, blobs)
}

const magicSize = 6 // bytes that compression wants to see

// compression tells by the first bytes: "" for none, else its name.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2"
	}
	return ""
}

func decompressor(r io.Reader, kind string) (io.ReadCloser, error) {
	switch kind {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "":
		return io.NopCloser(r), nil
	}
	return nil, fmt.Errorf("compressed with %s: a layer is gzip, zstd or a plain tar", kind)
}

// counter counts what is read, and stops with ctx.
type counter struct {
	r   io.Reader
	ctx context.Context
	n   int64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// spool writes out, which is in decompressed, to a nameless file, and stops at a bomb.
func spool(in *counter, out io.Reader, blobs *blobDir) (*os.File, error) {
	f, err := blobs.temp()
	if err != nil {
		return nil, err
	}
	for total := int64(0); ; {
		n, err := io.CopyN(f, out, 64<<20)
		total += n
		if err == io.EOF {
			_, err = f.Seek(0, io.SeekStart)
			return f, err
		}
		if err == nil && total > 1<<30 && total/1000 > in.n {
			err = fmt.Errorf("%d bytes became more than %d: a decompression bomb", in.n, total)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
	}
}

// index notes where each regular file lies. Of two entries of one name the last counts,
// as for tar.
func (t *tarTree) index(ctx context.Context) error {
	end, err := t.f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = t.f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	tr := tar.NewReader(t.f) // it seeks over content, and reads no further than the header
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case err == io.EOF && n > 0:
			return nil
		case err == io.EOF, (errors.Is(err, tar.ErrHeader) || err == io.ErrUnexpectedEOF) && n == 0:
			return errors.New("not a tar archive")
		case err != nil:
			return fmt.Errorf("corrupt or cut short: %w", err)
		case n == maxMembers:
			return fmt.Errorf("more than %d entries", maxMembers)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		offset, err := t.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		e := tarEntry{offset: offset, size: h.Size}
		name := cleanName(h.Name)
		switch {
		case h.Typeflag == tar.TypeSymlink:
			e = tarEntry{link: path.Join(path.Dir(name), h.Linkname)}
		case h.Typeflag == tar.TypeLink:
			e = tarEntry{link: cleanName(h.Linkname)}
		case h.Typeflag != tar.TypeReg || isSparse(h):
			continue
		case h.Size > end-offset:
			return fmt.Errorf("cut short in %s", quoteShort(name))
		}
		t.entries[name] = e
	}
}

func cleanName(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }

// isSparse: the content is not one piece.
func isSparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (t *tarTree) has(name string) bool { _, ok := t.entries[name]; return ok }

// open follows links from entry to entry; one that leads out of the archive names none.
func (t *tarTree) open(name string) (content, error) {
	asked := name
	name = cleanName(name)
	for range maxLinks {
		e, ok := t.entries[name]
		switch {
		case !ok:
			return content{}, &fs.PathError{Op: "open", Path: quoteless(asked), Err: errors.New("no such regular file in the archive")}
		case e.link == "":
			return content{SectionReader: io.NewSectionReader(t.f, e.offset, e.size)}, nil
		}
		name = e.link
	}
	return content{}, &fs.PathError{Op: "open", Path: quoteless(asked), Err: errors.New("too many links")}
}

// dockerArchive is what docker save and podman save write: manifest.json tells which
// files are configurations and layers.
type dockerArchive struct {
	tree  *tarTree
	blobs *blobDir
	items []dockerItem
}

type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func readDockerArchive(t *tarTree, blobs *blobDir) (*dockerArchive, error) {
	data, err := readSmall(t, "manifest.json")
	if err != nil {
		return nil, err
	}
	a := &dockerArchive{tree: t, blobs: blobs}
	if err := json.Unmarshal(data, &a.items); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(a.items) == 0 {
		return nil, errors.New("manifest.json names no image")
	}
	return a, nil
}

// pick finds the image that ref means: a tag, @INDEX, or "" for the only one.
func (a *dockerArchive) pick(ref string) (dockerItem, error) {
	if index, ok := strings.CutPrefix(ref, "@"); ok {
		i, err := strconv.ParseUint(index, 10, 31)
		if err != nil || int(i) >= len(a.items) {
			return dockerItem{}, fmt.Errorf("no image %s: there are %d", quoteless(ref), len(a.items))
		}
		return a.items[i], nil
	}
	var tags []string
	if ref != "" {
		want, err := ParseName(ref)
		if err != nil {
			return dockerItem{}, err
		}
		for _, item := range a.items {
			for _, tag := range item.RepoTags {
				if n, err := ParseName(tag); err == nil && n == want {
					item.RepoTags = []string{tag}
					return item, nil
				}
				tags = append(tags, quoteless(tag))
			}
		}
		return dockerItem{}, withHint(fmt.Errorf("no image %s in the archive", want), "it has "+strings.Join(tags, ", "))
	}
	if len(a.items) == 1 {
		return a.items[0], nil
	}
	for _, item := range a.items {
		for _, tag := range item.RepoTags {
			tags = append(tags, quoteless(tag))
		}
	}
	return dockerItem{}, withHint(fmt.Errorf("%d images in the archive", len(a.items)),
		"append one of these to the path, after a colon: @0 and so on, "+strings.Join(tags, ", "))
}

// image gives one image of the archive the form of all others: a manifest, with digests.
func (a *dockerArchive) image(ctx context.Context, item dockerItem) (*localImage, error) {
	config, err := readSmall(a.tree, item.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	id := digest.FromBytes(config)
	named := strings.TrimSuffix(path.Base(item.Config), ".json")
	if len(named) == 64 && isHex(named) {
		if err := checkBytes("config", config, digest.NewDigestFromEncoded(digest.SHA256, named)); err != nil {
			return nil, err
		}
	}
	m := v1.Manifest{MediaType: dockerManifest}
	m.SchemaVersion = 2
	m.Config = v1.Descriptor{MediaType: dockerConfig, Digest: id, Size: int64(len(config))}
	decoded, err := readImageConfig(config, manifest{Layers: make([]v1.Descriptor, len(item.Layers))})
	if err != nil {
		return nil, err
	}
	c := &dockerImage{archive: a, configBytes: config, files: item.Layers}
	m.Layers = []v1.Descriptor{}
	for i, name := range item.Layers {
		d, err := a.describe(ctx, name, decoded.RootFS.DiffIDs[i])
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		m.Layers = append(m.Layers, d)
	}
	if c.manifestBytes, err = json.Marshal(m); err != nil {
		return nil, err
	}
	names, err := repoTags(item.RepoTags)
	return &localImage{localCarrier: c, names: names}, err
}

// describe makes a descriptor of a layer's file. An uncompressed layer is known by its
// diff_id, and checked against it when it is opened.
func (a *dockerArchive) describe(ctx context.Context, name string, diffID digest.Digest) (v1.Descriptor, error) {
	c, err := a.tree.open(name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	head := make([]byte, magicSize)
	n, _ := c.ReadAt(head, 0)
	d := v1.Descriptor{MediaType: dockerLayer, Digest: diffID, Size: c.Size()}
	kind := compression(head[:n])
	if kind == "" {
		return d, nil
	}
	plain, err := decompressor(&counter{r: io.NewSectionReader(c, 0, c.Size()), ctx: ctx}, kind)
	if err != nil {
		return d, err
	}
	defer plain.Close()
	// Nothing else says what the compressed bytes should be.
	has, err := digest.SHA256.FromReader(io.LimitReader(plain, maxLayerSize))
	if err != nil {
		return d, err
	}
	if has != diffID {
		return d, &digestError{"contents", diffID, has}
	}
	d.MediaType += "." + kind
	d.Digest, err = digest.SHA256.FromReader(&counter{r: c.SectionReader, ctx: ctx})
	return d, err
}

// repoTags are the names that an archive claims, completed as docker would.
func repoTags(tags []string) ([]string, error) {
	var names []string
	for _, tag := range tags {
		if tag == "<none>:<none>" {
			continue
		}
		n, err := ParseName(tag)
		if err != nil {
			return nil, err
		}
		if n.Digest != "" { // the manifest is made here: no digest is its
			continue
		}
		names = append(names, n.String())
	}
	return names, nil
}

// dockerImage is one image of a docker-archive, as a carrier.
type dockerImage struct {
	archive                    *dockerArchive
	manifestBytes, configBytes []byte
	files                      []string // of the layers
}

func (c *dockerImage) manifest(context.Context, digest.Digest) ([]byte, string, error) {
	return c.manifestBytes, dockerManifest, nil
}

func (c *dockerImage) config(context.Context, v1.Descriptor) ([]byte, error) {
	return c.configBytes, nil
}

func (c *dockerImage) layers(list []v1.Descriptor) []func(context.Context) (*os.File, error) {
	return openers(c.archive.tree, c.archive.blobs, list, c.files)
}

func (c *dockerImage) check(ctx context.Context, list []v1.Descriptor) error {
	return checkLayers(ctx, c.archive.tree, list, c.files)
}
