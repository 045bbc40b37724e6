//go:build !hot

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// readHeader collects the blocks of the next entry's headers in chain and has them
// parsed. At the end of the archive it returns io.EOF.
func (l *layerReader) readHeader() (*tar.Header, error) {
	l.chain = l.chain[:0]
	for {
		block, err := l.grow(blockSize)
		if err == io.EOF && len(l.chain) == 0 {
			return nil, io.EOF
		}
		if err != nil {
			return nil, unexpected(err)
		}
		if isZero(block) {
			return nil, l.readEnd()
		}
		kind := block[156]
		if kind == tar.TypeGNUSparse {
			return nil, errSparse
		}
		extended := kind == tar.TypeXHeader || kind == tar.TypeXGlobalHeader ||
			kind == tar.TypeGNULongName || kind == tar.TypeGNULongLink
		if !extended {
			break
		}
		size, err := parseOctal(block[124:136])
		if err != nil || size > maxHeader {
			return nil, limitf("an extended header of more than %d bytes", maxHeader)
		}
		if _, err := l.grow((size + blockSize - 1) &^ (blockSize - 1)); err != nil {
			return nil, unexpected(err)
		}
		if kind == tar.TypeXGlobalHeader {
			break
		}
	}
	l.raw = append(l.raw, l.chain...)
	return parseHeader(l.chain)
}

// readEnd reads the second of the two blocks that end an archive.
func (l *layerReader) readEnd() error {
	if len(l.chain) != blockSize {
		return errors.New("the archive ends within the headers of an entry")
	}
	if _, err := l.grow(blockSize); err == nil && !isZero(l.chain[blockSize:]) {
		return errors.New("an empty block among the headers")
	} else if err != nil && err != io.EOF {
		return err
	}
	l.raw = append(l.raw, l.chain...)
	return io.EOF
}

// grow reads n more bytes into chain and returns them.
func (l *layerReader) grow(n int64) ([]byte, error) {
	old := len(l.chain)
	l.heads += n
	switch {
	case int64(old)+n > maxHeader:
		return nil, limitf("headers of more than %d bytes before one entry", maxHeader)
	case l.heads > maxHeaders:
		return nil, limitf("headers of more than %d bytes", int64(maxHeaders))
	}
	l.chain = append(l.chain, make([]byte, n)...)
	if err := l.readFull(l.chain[old:]); err != nil {
		l.chain = l.chain[:old]
		return nil, err
	}
	return l.chain[old:], nil
}

// parseHeader has the standard library read one entry's headers, all of chain.
func parseHeader(chain []byte) (*tar.Header, error) {
	r := bytes.NewReader(chain)
	h, err := tar.NewReader(r).Next()
	switch {
	case err != nil && bytes.Contains(chain, []byte("GNU.sparse.")):
		return nil, errSparse
	case err != nil:
		return nil, unexpected(err)
	case r.Len() != 0 && (h.Typeflag != tar.TypeXGlobalHeader || r.Len() >= blockSize): // its padding is left
		return nil, tar.ErrHeader
	}
	return h, nil
}

// parseOctal reads the size of an extended header. Nothing writes those in base 256.
func parseOctal(field []byte) (int64, error) {
	text := strings.Trim(string(field), " \x00")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 8, 62)
	return int64(n), err
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
