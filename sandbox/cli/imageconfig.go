package cli

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"sbx/sandbox"
	"sbx/sandbox/image"
)

// What an image may ask for. The kernel takes 128 KiB for one string and a few MiB for all.
const (
	maxWord    = 128 << 10
	maxWords   = 1 << 20 // of all of Env, Entrypoint and Cmd, bytes
	maxVolumes = 1000
	maxExposed = 10000
)

// imageConfig takes from an image's configuration what a run uses. All of it is
// hostile: it is checked here, and no parser of flags ever sees it, because those
// look things up in the caller's environment.
func imageConfig(img image.Config) (sandbox.ImageConfig, error) {
	c := img.Config
	out := sandbox.ImageConfig{
		Env:        c.Env,
		Entrypoint: c.Entrypoint,
		Cmd:        c.Cmd,
		User:       c.User,
		WorkingDir: c.WorkingDir,
		Arch:       img.Architecture,
	}
	total := 0
	for _, list := range [][]string{c.Env, c.Entrypoint, c.Cmd, {c.User, c.WorkingDir}} {
		for _, word := range list {
			if total += len(word) + 1; len(word) >= maxWord || total > maxWords {
				return out, fmt.Errorf("image configuration: Env, Entrypoint and Cmd are too long")
			}
		}
	}
	for _, list := range [][]string{c.Entrypoint, c.Cmd, {c.User, c.WorkingDir}} {
		for _, word := range list {
			if strings.IndexByte(word, 0) >= 0 {
				return out, fmt.Errorf("image configuration: %s: contains a NUL", quoteArg(word))
			}
		}
	}
	if c.User != "" {
		if err := checkUser(c.User); err != nil {
			return out, fmt.Errorf("image configuration: User: %w", err)
		}
	}
	if c.StopSignal != "" {
		name, err := signalName(c.StopSignal)
		if err != nil {
			return out, fmt.Errorf("image configuration: StopSignal: %w", err)
		}
		out.StopSignal = name
	}
	var err error
	if out.Volumes, err = imageVolumes(c.Volumes); err != nil {
		return out, err
	}
	out.Exposed, err = imagePorts(c.ExposedPorts)
	return out, err
}

// overrule removes what flags replace: it is not judged then, and a flag runs an image
// that could not be run without.
func overrule(c *image.RunConfig, spec *sandbox.Spec) {
	if spec.ImageVolumes == "ignore" {
		c.Volumes = nil
	}
	if !spec.PublishAll {
		c.ExposedPorts = nil
	}
	if spec.User != "" {
		c.User = ""
	}
	if spec.Workdir != "" {
		c.WorkingDir = ""
	}
	if spec.StopSignal != "" {
		c.StopSignal = ""
	}
}

// imageVolumes sorts the volumes; where they may be is the plan's to say.
func imageVolumes(volumes map[string]struct{}) ([]string, error) {
	if len(volumes) > maxVolumes {
		return nil, fmt.Errorf("image configuration: %d volumes are too many", len(volumes))
	}
	seen := make(map[string]bool, len(volumes))
	var paths []string
	for v := range volumes {
		path, err := insidePath(v)
		if err != nil {
			return nil, &usageError{msg: fmt.Sprintf("image configuration: volume: %v", err), hint: "--image-volume ignore runs it without its volumes"}
		}
		if !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	sort.Strings(paths)
	return paths, nil
}

// imagePorts sorts what EXPOSE says.
func imagePorts(ports map[string]struct{}) (list []sandbox.Exposed, err error) {
	if len(ports) > maxExposed {
		return nil, fmt.Errorf("image configuration: %d exposed ports are too many", len(ports))
	}
	for _, text := range slices.Sorted(maps.Keys(ports)) {
		e, err := parseExposed(text)
		if err != nil {
			return nil, &usageError{msg: fmt.Sprintf("image configuration: exposed port: %v", err), hint: "-p publishes a port that you name"}
		}
		list = append(list, e)
	}
	return list, nil
}
