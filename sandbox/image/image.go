package image

import (
	"errors"
	"os"
)

// ErrNotFound says that the store holds no image of that name or id.
var ErrNotFound = errors.New("no such image")

// Image is an image that the store holds, ready to be run.
type Image struct {
	ID     string   // 64 hex digits: the digest of its configuration
	Name   string   // the full reference it was found by, or "" if by id
	Digest Digest   // of its manifest
	Layers []string // directories of the unpacked layers, topmost first
	Config Config   // hostile input

	ReadOnly bool // it lies in podman's store

	// Lock is held shared for as long as the image is in use: rmi takes it exclusively.
	// Whoever was given the Image closes it. It is close-on-exec.
	Lock *os.File
}

// Platform is --platform OS/ARCH[/VARIANT]; a zero field is the host's.
type Platform struct{ OS, Arch, Variant string }
