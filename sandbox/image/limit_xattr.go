//go:build !hot

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"strconv"
	"strings"
)

const (
	paxXattr   = "SCHILY.xattr."
	paxDropped = "sbx.dropped.." // as long as paxXattr
)

// forbiddenXattr reports whether an attribute would change what the kernel's overlay,
// fuse-overlayfs or a security module makes of the file.
func forbiddenXattr(name string) bool {
	for _, prefix := range []string{"user.overlay.", "trusted.", "user.fuseoverlayfs.", "user.containers.", "system."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.HasPrefix(name, "security.") && name != "security.capability"
}

func hasForbidden(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok && forbiddenXattr(name) {
			return true
		}
	}
	return false
}

// strip renames the records of forbidden attributes, in chain only, so that the
// library does not know them. tar-split keeps the layer as it came.
func (l *layerLimit) strip(h *tar.Header) error {
	if !hasForbidden(h) {
		return nil
	}
	for at := 0; at < len(l.chain)-blockSize; {
		kind := l.chain[at+156]
		size, err := parseOctal(l.chain[at+124 : at+136])
		if err != nil {
			return err
		}
		body := l.chain[at+blockSize:][:size]
		if kind == tar.TypeXHeader {
			stripRecords(body)
		}
		at += blockSize + int(size+blockSize-1)&^(blockSize-1)
	}
	again, err := parseHeader(l.chain)
	if err != nil || hasForbidden(again) {
		return errors.New("an extended attribute that cannot be left out")
	}
	return nil
}

// stripRecords goes through "LENGTH KEY=VALUE\n" records.
func stripRecords(body []byte) {
	for len(body) > 0 {
		digits, _, _ := bytes.Cut(body, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if err != nil || n <= len(digits)+1 || n > len(body) {
			return
		}
		record := body[len(digits)+1 : n]
		key, _, _ := bytes.Cut(record, []byte("="))
		if name, ok := bytes.CutPrefix(key, []byte(paxXattr)); ok && forbiddenXattr(string(name)) {
			copy(record, paxDropped)
		}
		body = body[n:]
	}
}
