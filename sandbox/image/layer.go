//go:build !hot

package image

import (
	"archive/tar"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"hash/maphash"
	"io"

	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// What a layer may be. Real ones stay an order of magnitude below each limit.
const (
	maxLayerSize    = 20 << 30 // bytes, uncompressed
	maxRatio        = 1000     // uncompressed to compressed, where more than
	ratioMatters    = 1 << 30  // this many bytes came out
	maxLayerEntries = 2_000_000
	maxDirs         = 500_000  // their times are remembered
	maxDirExtra     = 32 << 20 // bytes of names and extended headers of all directories
	maxHeader       = 1 << 20  // bytes of all headers before one entry
	maxHeaders      = 2 << 30  // bytes of all headers of a layer
	maxTrailer      = 16 << 20 // bytes after the end of the archive
	maxPath         = 4096
	maxPathPart     = 255
	maxPathDepth    = 256
	maxXattr        = 64 << 10
	spaceCheckEvery = 64 << 20
	blockSize       = 512
)

// layerReader reads a layer entry by entry, as long as it keeps to the limits. On the way
// it writes down what is needed to make the same tar again from the unpacked files
// (tar-split, JSON lines).
//
// tar-split's own fork of archive/tar would do that; it holds an unbounded sparse map in
// memory (CVE-2026-32288). Here the headers of one entry are collected, at most maxHeader
// bytes, and the standard library's parser reads them.
type layerReader struct {
	src     *readAhead
	uids    uint32 // ids from here on are not mapped; 0 takes any
	gids    uint32
	split   *json.Encoder
	ratio   func(out int64) error // called now and then
	space   func() error
	chain   []byte // headers of the present entry
	raw     []byte // bytes for the next segment of tar-split
	data    int64  // bytes of the present file still to come
	pad     int64  // and of its padding
	crc     hash.Hash64
	file    storage.Entry       // the present file
	pos     int                 // of the next entry of tar-split
	full    map[uint64]struct{} // hashes of the names of files that are not empty
	seed    maphash.Seed
	entries int
	size    int64 // uncompressed bytes so far
	heads   int64
	dirs    int
	extras  int64 // bytes of names and extended headers of directories
	// rootSeen: the layer has an entry for the root directory.
	rootSeen bool
	usedUIDs map[uint32]struct{}
	usedGIDs map[uint32]struct{}
}

// layerEntry is the header of something that is to be made.
type layerEntry struct {
	*tar.Header
	path string // from the root of the layer, clean; "." is the root
}

func newLayerReader(src *readAhead, split io.Writer) *layerReader {
	return &layerReader{
		src:      src,
		split:    json.NewEncoder(split),
		ratio:    func(int64) error { return nil },
		space:    func() error { return nil },
		crc:      crc64.New(crc64.MakeTable(crc64.ISO)),
		full:     map[uint64]struct{}{},
		seed:     maphash.MakeSeed(),
		usedUIDs: map[uint32]struct{}{},
		usedGIDs: map[uint32]struct{}{},
	}
}

// limitError says which limit a layer goes beyond.
type limitError struct{ what string }

func (e *limitError) Error() string { return e.what }

// errSparse: no image builder writes them, and their maps have been a weapon (CVE-2025-58183).
var errSparse = errors.New("a sparse file, which a layer cannot hold")

func limitf(format string, args ...any) error { return &limitError{fmt.Sprintf(format, args...)} }

// next returns the next entry, whatever is left of the one before. After the last it
// returns io.EOF, and the layer was read to its very end.
func (l *layerReader) next() (layerEntry, error) {
	for {
		if err := l.contents(func([]byte) error { return nil }); err != nil {
			return layerEntry{}, err
		}
		if err := l.padding(); err != nil {
			return layerEntry{}, err
		}
		h, err := l.readHeader()
		if err == io.EOF {
			err = cmp.Or(l.readTail(), io.EOF)
		}
		if err != nil {
			return layerEntry{}, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader { // says nothing of files
			if err := l.addSegment(); err != nil {
				return layerEntry{}, err
			}
			continue
		}
		e := layerEntry{h, cleanName(h.Name)}
		if err := l.begin(e); err != nil {
			if _, limit := errors.AsType[*limitError](err); limit {
				return e, limitf("%s: %v", quoteShort(h.Name), err)
			}
			return e, fmt.Errorf("%s: %w", quoteShort(h.Name), err)
		}
		return e, nil
	}
}

// contents gives what is in the present file, piece by piece.
func (l *layerReader) contents(write func([]byte) error) error {
	if l.data == 0 {
		return nil
	}
	for l.data > 0 {
		b, err := l.src.next(l.data)
		if err != nil {
			return unexpected(err)
		}
		l.crc.Write(b)
		l.data -= int64(len(b))
		if err := l.count(int64(len(b))); err != nil {
			return err
		}
		if err := write(b); err != nil {
			return err
		}
	}
	l.file.Payload = l.crc.Sum(nil)
	return l.add(l.file)
}

// padding reads what fills the last block of a file. Some archives end without it.
func (l *layerReader) padding() error {
	old := len(l.raw)
	l.raw = append(l.raw, make([]byte, l.pad)...)
	n, err := io.ReadFull(l.src, l.raw[old:])
	l.raw, l.pad = l.raw[:old+n], 0
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil // looking for the next header will tell which it is
	}
	return cmp.Or(err, l.count(int64(n)))
}

// readTail reads what comes after the end of the archive, commonly zeros.
func (l *layerReader) readTail() error {
	for tail := 0; ; {
		b, err := l.src.next(1 << 16)
		if err == io.EOF {
			return l.addSegment()
		}
		if err != nil {
			return err
		}
		if tail += len(b); tail > maxTrailer {
			return limitf("more than %d bytes after the end of the archive", maxTrailer)
		}
		l.raw = append(l.raw, b...)
		if err := l.count(int64(len(b))); err != nil {
			return err
		}
		if err := l.addSegment(); err != nil {
			return err
		}
	}
}

func (l *layerReader) readFull(p []byte) error {
	if _, err := io.ReadFull(l.src, p); err != nil {
		return err
	}
	return l.count(int64(len(p)))
}

// count adds to the size of the layer, and looks up from time to time.
func (l *layerReader) count(n int64) error {
	before := l.size
	l.size += n
	if l.size > maxLayerSize {
		return limitf("more than %d bytes", int64(maxLayerSize))
	}
	if before/spaceCheckEvery == l.size/spaceCheckEvery {
		return nil
	}
	if err := l.ratio(l.size); err != nil {
		return err
	}
	return l.space()
}

// begin judges an entry, and notes it for tar-split. What is in a file that the same layer
// replaces later, by the same name, is lost, and the tar could not be made again; podman and
// docker refuse it too.
func (l *layerReader) begin(e layerEntry) error {
	if err := l.check(e); err != nil {
		return err
	}
	if err := l.addSegment(); err != nil {
		return err
	}
	if e.Typeflag == tar.TypeReg { // of others no data follow, whatever they say
		l.data, l.pad = e.Size, -e.Size&(blockSize-1)
	}
	name := maphash.String(l.seed, e.path)
	if _, again := l.full[name]; again {
		return errors.New("more than once in the layer")
	}
	if l.data == 0 {
		return nil // its header is all there is
	}
	l.full[name] = struct{}{}
	l.file = storage.Entry{Type: storage.FileType, Size: e.Size}
	l.file.SetName(e.Name)
	l.crc.Reset()
	return nil
}

func (l *layerReader) addSegment() error {
	if len(l.raw) == 0 {
		return nil
	}
	err := l.add(storage.Entry{Type: storage.SegmentType, Payload: l.raw})
	l.raw = l.raw[:0]
	return err
}

func (l *layerReader) add(e storage.Entry) error {
	e.Position = l.pos
	l.pos++
	return l.split.Encode(&e)
}

// freeSpace returns a check that the file system of dir is not about to be full: a
// twentieth, or 256 MiB if that is less, is left to others.
func freeSpace(dir string) func() error {
	return func() error {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 {
			return nil
		}
		free := st.Bavail * uint64(st.Bsize)
		if free < min(st.Blocks*uint64(st.Bsize)/20, 256<<20) {
			return fmt.Errorf("%w (%d MiB are left)", unix.ENOSPC, free>>20)
		}
		return nil
	}
}
