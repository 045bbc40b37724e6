//go:build !hot

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// tree is a directory or an archive with an image in it. Only regular files of it can be opened.
type tree interface {
	open(name string) (content, error)
	has(name string) bool
	close()
}

// content is one file of a tree.
type content struct {
	*io.SectionReader
	file *os.File // the file, if it is one of its own and not a piece of an archive
}

func (c content) close() {
	if c.file != nil {
		c.file.Close()
	}
}

// dirTree is a directory that nothing in it can lead out of.
type dirTree struct{ root *os.Root }

func openDir(dir string) (*dirTree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &dirTree{root}, nil
}

func (t *dirTree) close()               { t.root.Close() }
func (t *dirTree) has(name string) bool { _, err := t.root.Lstat(name); return err == nil }

func (t *dirTree) open(name string) (content, error) {
	// O_NONBLOCK: a FIFO must not hold us.
	f, err := t.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return content{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return content{}, err
	}
	return content{io.NewSectionReader(f, 0, info.Size()), f}, nil
}

// readSmall reads a manifest or configuration.
func readSmall(t tree, name string) ([]byte, error) {
	c, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer c.close()
	data, err := readBounded(c, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quoteless(name), err)
	}
	return data, nil
}

// openers are the Open functions of layers that lie in a tree.
func openers(t tree, blobs *blobDir, list []v1.Descriptor, names []string) []func(context.Context) (*os.File, error) {
	open := make([]func(context.Context) (*os.File, error), len(list))
	for i, d := range list {
		open[i] = func(ctx context.Context) (*os.File, error) { return openLayer(ctx, t, blobs, names[i], d) }
	}
	return open
}

// checkLayers checks the digests of layers that lie in a tree, also of those that the store
// has: it is not to matter what is there when somebody asks whether a file is good.
func checkLayers(ctx context.Context, t tree, list []v1.Descriptor, names []string) error {
	for i, d := range list {
		c, err := t.open(names[i])
		if err != nil {
			return fmt.Errorf("blob %s: %w", d.Digest, err)
		}
		t := transfer{desc: d, hash: d.Digest.Algorithm().Hash()}
		t.have, err = io.Copy(t.hash, &counter{r: io.NewSectionReader(c, 0, c.Size()), ctx: ctx})
		if err == nil {
			err = t.check()
		}
		c.close()
		if err != nil {
			return fmt.Errorf("blob %s: %w", d.Digest, err)
		}
	}
	return nil
}

// namesOf are where layers lie that are called by their digest.
func namesOf(list []v1.Descriptor, name func(digest.Digest) string) (names []string) {
	for _, d := range list {
		names = append(names, name(d.Digest))
	}
	return names
}

// openLayer returns a layer's file once its digest has been checked: the file itself, or
// a nameless copy of a piece of an archive.
func openLayer(ctx context.Context, t tree, blobs *blobDir, name string, d v1.Descriptor) (*os.File, error) {
	c, err := t.open(name)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if c.file != nil {
		if err := checkFile(ctx, c.file, d); err != nil {
			c.close()
			return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
		}
		return c.file, nil
	}
	f, err := extract(ctx, c, blobs, d)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return f, nil
}

func extract(ctx context.Context, c content, blobs *blobDir, d v1.Descriptor) (*os.File, error) {
	f, err := blobs.temp()
	if err != nil {
		return nil, err
	}
	t := transfer{desc: d, file: f}
	err = t.resume(ctx)
	if err == nil {
		err = t.receive(&counter{r: c, ctx: ctx})
	}
	if err == nil {
		err = t.check()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// localCarrier is a carrier that needs no network to check its layers.
type localCarrier interface {
	carrier
	check(ctx context.Context, list []v1.Descriptor) error
}

// localImage is one image of an archive or directory.
type localImage struct {
	localCarrier
	names []string // references that it claims
	pin   digest.Digest
}

// ociLayout is a directory, or an archive of one, of the OCI image layout.
type ociLayout struct {
	tree  tree
	blobs *blobDir
	index manifest
}

func readLayout(t tree, blobs *blobDir) (*ociLayout, error) {
	var version v1.ImageLayout
	data, err := readSmall(t, v1.ImageLayoutFile)
	if err == nil {
		err = json.Unmarshal(data, &version)
	}
	if err == nil && !strings.HasPrefix(version.Version, "1.") {
		err = fmt.Errorf("version %s, not 1", quoteShort(version.Version))
	}
	if err != nil {
		err = fmt.Errorf("not an OCI layout: %w", err)
		if _, docker := readSmall(t, "manifest.json"); docker == nil {
			err = withHint(err, "it is an archive of docker's: docker-archive:FILE")
		}
		return nil, err
	}
	data, err = readSmall(t, v1.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	l := &ociLayout{tree: t, blobs: blobs}
	if l.index, err = readManifest(data, v1.MediaTypeImageIndex); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(l.index.Manifests) == 0 {
		return nil, errors.New("index.json names no image")
	}
	return l, nil
}

// annotations that name an image in index.json.
const containerdName = "io.containerd.image.name"

func refOf(d v1.Descriptor) string { return d.Annotations[v1.AnnotationRefName] }

// pick finds the image that ref means, or the only one.
func (l *ociLayout) pick(ref string) (*localImage, error) {
	var refs []string
	for _, d := range l.index.Manifests {
		if ref != "" && (refOf(d) == ref || d.Annotations[containerdName] == ref) {
			return l.image(d), nil
		}
		if r := refOf(d); r != "" && !slices.Contains(refs, quoteless(r)) {
			refs = append(refs, quoteless(r))
		}
	}
	switch {
	case ref != "":
		return nil, withHint(fmt.Errorf("no image %s in the layout", quoteShort(ref)), hasRefs(refs))
	case len(l.index.Manifests) == 1:
		return l.image(l.index.Manifests[0]), nil
	case len(refs) <= 1: // one image for several platforms
		return &localImage{localCarrier: &layoutImage{layout: l}}, nil
	}
	return nil, withHint(fmt.Errorf("%d images in the layout", len(refs)), "append one of these to the path, after a colon: "+strings.Join(refs, ", "))
}

func hasRefs(refs []string) string {
	if len(refs) == 0 {
		return "its images have no names: leave the one behind the colon out"
	}
	return "it has " + strings.Join(refs, ", ")
}

func (l *ociLayout) image(d v1.Descriptor) *localImage {
	return &localImage{localCarrier: &layoutImage{l, d}, names: layoutNames(d), pin: d.Digest}
}

// layoutNames: the complete name that containerd writes, or a ref.name that is more than a
// tag. podman reads a tag as the name localhost/TAG:latest, which helps nobody.
func layoutNames(d v1.Descriptor) []string {
	n, err := parse(d.Annotations[containerdName])
	if err != nil || n.Registry == "" {
		ref := refOf(d)
		if !strings.ContainsAny(ref, "/:") {
			return nil
		}
		n, err = LocalName(ref)
	}
	if err != nil || n.Digest != "" && n.Digest != Digest(d.Digest) { // another image's name
		return nil
	}
	return []string{n.String()}
}

// layoutImage is one image of a layout, as a carrier. A zero top is index.json itself.
type layoutImage struct {
	layout *ociLayout
	top    v1.Descriptor
}

func (c *layoutImage) manifest(_ context.Context, d digest.Digest) ([]byte, string, error) {
	told := ""
	if d == "" {
		d, told = c.top.Digest, c.top.MediaType
	}
	if d == "" {
		data, err := readSmall(c.layout.tree, v1.ImageIndexFile)
		return data, v1.MediaTypeImageIndex, err
	}
	data, err := readSmall(c.layout.tree, blobName(d))
	return data, told, err
}

func (c *layoutImage) config(_ context.Context, d v1.Descriptor) ([]byte, error) {
	return readSmall(c.layout.tree, blobName(d.Digest))
}

func (c *layoutImage) layers(list []v1.Descriptor) []func(context.Context) (*os.File, error) {
	return openers(c.layout.tree, c.layout.blobs, list, namesOf(list, blobName))
}

func (c *layoutImage) check(ctx context.Context, list []v1.Descriptor) error {
	return checkLayers(ctx, c.layout.tree, list, namesOf(list, blobName))
}

// blobName is the path of a digest that was checked by readManifest.
func blobName(d digest.Digest) string {
	return path.Join(v1.ImageBlobsDir, string(d.Algorithm()), d.Encoded())
}

// dirImage is what skopeo copy writes to dir:DIR: manifest.json, and blobs by their hex.
type dirImage struct {
	tree  tree
	blobs *blobDir
}

func (c *dirImage) manifest(_ context.Context, d digest.Digest) ([]byte, string, error) {
	name := "manifest.json"
	if d != "" {
		name = dirName(d) + ".manifest.json"
	}
	data, err := readSmall(c.tree, name)
	return data, "", err
}

func (c *dirImage) config(_ context.Context, d v1.Descriptor) ([]byte, error) {
	return readSmall(c.tree, dirName(d.Digest))
}

func (c *dirImage) layers(list []v1.Descriptor) []func(context.Context) (*os.File, error) {
	return openers(c.tree, c.blobs, list, namesOf(list, dirName))
}

func (c *dirImage) check(ctx context.Context, list []v1.Descriptor) error {
	return checkLayers(ctx, c.tree, list, namesOf(list, dirName))
}

func dirName(d digest.Digest) string {
	if isSHA256(d) {
		return d.Encoded()
	}
	return string(d.Algorithm()) + "-" + d.Encoded()
}
