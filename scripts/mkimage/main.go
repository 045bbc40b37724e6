// Mkimage makes a container image from directories, for tests, the demo and the
// benchmark. It needs no root: every file in the image belongs to 0:0, unless a
// layer is given as a tar file, which is taken as it is.
//
//	mkimage [flags] DEST...
//
// DEST is HOST:PORT/NAME[:TAG] (pushed, over plain HTTP on loopback),
// docker-archive:FILE[:NAME], oci-archive:FILE, oci:DIR or dir:DIR.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/pflag"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "mkimage: %v\n", err)
		os.Exit(1)
	}
}

// options are the flags. The configuration they make may be as wrong as a test wants it.
type options struct {
	busybox     string
	layers      []string
	copies      int
	compression string
	docker      bool
	platforms   []string
	config      v1.Config
	volumes     []string
	configFile  string
	username    string
	password    string
}

func run(args []string) error {
	var o options
	flags := pflag.NewFlagSet("mkimage", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.StringVar(&o.busybox, "busybox", "", "first a layer with this static busybox, its applets, /etc/passwd and /etc/group")
	flags.StringArrayVar(&o.layers, "layer", nil, "a layer: a directory, or a tar file as it is")
	flags.IntVar(&o.copies, "copies", 1, "stack the layers this often")
	flags.StringVar(&o.compression, "compress", "gzip", "gzip or zstd")
	flags.BoolVar(&o.docker, "docker", false, "Docker schema 2 in place of OCI media types")
	flags.StringArrayVar(&o.platforms, "platform", nil, "OS/ARCH; several make an index")
	flags.StringArrayVar(&o.config.Env, "env", nil, "Env entry, not checked")
	flags.StringArrayVar(&o.config.Cmd, "cmd", nil, "Cmd word")
	flags.StringArrayVar(&o.config.Entrypoint, "entrypoint", nil, "Entrypoint word")
	flags.StringVar(&o.config.User, "user", "", "User")
	flags.StringVar(&o.config.WorkingDir, "workdir", "", "WorkingDir")
	flags.StringVar(&o.config.StopSignal, "stop-signal", "", "StopSignal")
	flags.StringArrayVar(&o.volumes, "volume", nil, "Volumes entry")
	flags.StringVar(&o.configFile, "config", "", "JSON file merged over the configuration at the end")
	flags.StringVar(&o.username, "username", "", "for the registry")
	flags.StringVar(&o.password, "password", "", "for the registry")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no destination; see --help")
	}
	if len(o.platforms) == 0 {
		o.platforms = []string{"linux/amd64"}
	}

	layers, err := o.makeLayers()
	if err != nil {
		return err
	}
	var images []v1.Image
	for _, platform := range o.platforms {
		image, err := o.makeImage(layers, platform)
		if err != nil {
			return err
		}
		images = append(images, image)
	}
	for _, dest := range flags.Args() {
		if err := o.write(images, dest); err != nil {
			return fmt.Errorf("write %s: %w", dest, err)
		}
	}
	return nil
}

func (o *options) makeImage(layers []v1.Layer, platform string) (v1.Image, error) {
	file := v1.ConfigFile{Config: o.config, RootFS: v1.RootFS{Type: "layers"}}
	file.OS, file.Architecture, _ = strings.Cut(platform, "/")
	file.Architecture, file.Variant, _ = strings.Cut(file.Architecture, "/")
	for _, v := range o.volumes {
		if file.Config.Volumes == nil {
			file.Config.Volumes = map[string]struct{}{}
		}
		file.Config.Volumes[v] = struct{}{}
	}
	if o.configFile != "" {
		text, err := os.ReadFile(o.configFile)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", o.configFile, err)
		}
	}

	manifest, config := types.OCIManifestSchema1, types.OCIConfigJSON
	if o.docker {
		manifest, config = types.DockerManifestSchema2, types.DockerConfigJSON
	}
	image := mutate.MediaType(empty.Image, manifest)
	image = mutate.ConfigMediaType(image, config)
	image, err := mutate.ConfigFile(image, &file)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, slices.Repeat(layers, o.copies)...)
}
