package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func (o *options) makeLayers() ([]v1.Layer, error) {
	var layers []v1.Layer
	if o.busybox != "" {
		text, err := busyboxTar(o.busybox)
		if err != nil {
			return nil, err
		}
		layer, err := o.layer(text)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	for _, src := range o.layers {
		text, err := layerTar(src)
		if err != nil {
			return nil, err
		}
		layer, err := o.layer(text)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", src, err)
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

func (o *options) layer(text []byte) (v1.Layer, error) {
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	media, comp := types.OCILayer, compression.GZip
	switch {
	case o.compression == "zstd":
		media, comp = types.OCILayerZStd, compression.ZStd
	case o.compression != "gzip":
		return nil, fmt.Errorf("unknown compression: %s", o.compression)
	case o.docker:
		media = types.DockerLayer
	}
	return tarball.LayerFromOpener(opener, tarball.WithCompression(comp), tarball.WithMediaType(media),
		tarball.WithCompressedCaching)
}

// layerTar is src itself if it is a file, or a tar of the directory src. It
// holds names, modes, contents and links, in the order of the names; no times,
// so the same tree always makes the same layer.
func layerTar(src string) ([]byte, error) {
	if fi, err := os.Stat(src); err != nil {
		return nil, err
	} else if !fi.IsDir() {
		return os.ReadFile(src)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == src {
			return err
		}
		return addFile(w, src, name, d)
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func addFile(w *tar.Writer, top, name string, d fs.DirEntry) error {
	fi, err := d.Info()
	if err != nil {
		return err
	}
	var link string
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(name); err != nil {
			return err
		}
	}
	hdr, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	if hdr.Name, err = filepath.Rel(top, name); err != nil {
		return err
	}
	if d.IsDir() {
		hdr.Name += "/"
	}
	*hdr = tar.Header{Typeflag: hdr.Typeflag, Name: hdr.Name, Linkname: hdr.Linkname, Mode: hdr.Mode, Size: hdr.Size}
	if err := w.WriteHeader(hdr); err != nil || !fi.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// busyboxTar is a small system: one program under all its names, and the files
// that a program expects to find.
func busyboxTar(program string) ([]byte, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", program, err)
	}

	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	file := func(name string, mode int64, data string) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))})
		}
		if err == nil {
			_, err = io.WriteString(w, data)
		}
	}
	dir := func(name string, mode int64) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
		}
	}
	for _, name := range []string{"bin", "etc", "home", "lib", "run", "sbin", "usr", "usr/bin", "var", "var/spool"} {
		dir(name, 0o755)
	}
	dir("root", 0o700)
	dir("tmp", 0o1777)
	dir("var/tmp", 0o1777)
	file("bin/busybox", 0o755, string(text))
	for _, applet := range strings.Fields(string(list)) {
		if err == nil && applet != "busybox" {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: path.Join("bin", applet), Linkname: "bin/busybox", Mode: 0o755})
		}
	}
	file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n")
	file("etc/group", 0o644, "root:x:0:\ndaemon:x:1:\naudio:x:29:ada\nada:x:1000:\n")
	file("etc/shadow", 0o640, "root:*:19000:0:99999:7:::\n")
	if err == nil { // a file of another owner: true ownership is part of an image
		err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "home/ada/", Mode: 0o755, Uid: 1000, Gid: 1000})
	}
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
