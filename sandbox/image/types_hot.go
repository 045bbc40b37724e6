//go:build hot

package image

import "time"

// Digest, Config and RunConfig stand for the types of the same shape in types.go.
type Digest string

func (d Digest) String() string { return string(d) }

type Config struct {
	Created                       *time.Time
	Author, Architecture, Variant string
	OS, OSVersion                 string
	OSFeatures                    []string
	Config                        RunConfig
	RootFS                        struct {
		Type    string
		DiffIDs []Digest
	}
}

type RunConfig struct {
	User, WorkingDir, StopSignal string
	ExposedPorts, Volumes        map[string]struct{}
	Env, Entrypoint, Cmd         []string
	Labels                       map[string]string
}
