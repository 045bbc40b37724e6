//go:build !hot

package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"hash/maphash"
	"io"
	"path"

	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// What a layer may be. Real ones stay an order of magnitude below each limit.
const (
	maxLayerSize    = 20 << 30 // bytes, uncompressed
	maxRatio        = 1000     // uncompressed to compressed, where more than
	ratioMatters    = 1 << 30  // this many bytes came out
	maxLayerEntries = 2_000_000
	maxDirs         = 500_000  // the library remembers the header of every directory
	maxDirExtra     = 32 << 20 // bytes of extended headers of all directories
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

// layerLimit is a wall in front of the library's tar parser. Bytes of a layer are
// read from src and given out again by Read as long as they keep to the limits, less
// the extended attributes that no layer may set. On the way it writes down what is
// needed to make the same tar again from the unpacked files (tar-split, JSON lines).
//
// The library would let tar-split's own fork of archive/tar do that; it holds an
// unbounded sparse map in memory (CVE-2026-32288). Here the headers of one entry are
// collected, at most maxHeader bytes, and the standard library's parser reads them, as
// it will again when the layer is unpacked: there is one opinion of what they say.
type layerLimit struct {
	src     io.Reader
	uids    uint32 // ids from here on are not mapped; 0 takes any
	gids    uint32
	split   *json.Encoder
	ratio   func(out int64) error // called now and then
	space   func() error
	parent  func(dir string) error // of a whiteout, before it is given out
	out     []byte                 // headers that wait to be read
	chain   []byte                 // the memory that out lies in
	raw     []byte                 // bytes for the next segment of tar-split
	data    int64                  // bytes of the present file still to come
	pad     int64                  // and of its padding
	crc     hash.Hash64
	file    storage.Entry       // the present file
	pos     int                 // of the next entry of tar-split
	full    map[uint64]struct{} // hashes of the names of files that are not empty
	seed    maphash.Seed
	entries int
	size    int64 // uncompressed bytes so far
	heads   int64
	dirs    int
	extras  int64 // extended headers of directories
	tail    int64 // bytes after the end of the archive
	ended   bool
	err     error  // why Read would not go on
	entry   string // the name of the present one
	// rootSeen: the layer has an entry for the root directory.
	rootSeen bool
	usedUIDs map[uint32]struct{}
	usedGIDs map[uint32]struct{}
}

func newLayerLimit(src io.Reader, split io.Writer) *layerLimit {
	return &layerLimit{
		src:      src,
		split:    json.NewEncoder(split),
		ratio:    func(int64) error { return nil },
		space:    func() error { return nil },
		parent:   func(string) error { return nil },
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

func (l *layerLimit) Read(p []byte) (int, error) {
	n, err := l.read(p)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

func (l *layerLimit) read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(l.out) > 0:
			n := copy(p, l.out)
			l.out = l.out[n:]
			return n, nil
		case l.data > 0:
			return l.readData(p)
		case l.pad > 0:
			n := min(int64(len(p)), l.pad)
			if err := l.readFull(p[:n]); err != nil {
				return 0, err
			}
			l.pad -= n
			l.raw = append(l.raw, p[:n]...)
			return int(n), nil
		case l.ended:
			return l.readTail(p)
		}
		if err := l.nextEntry(); err != nil {
			return 0, err
		}
	}
}

// readData passes contents of a file on.
func (l *layerLimit) readData(p []byte) (int, error) {
	n, err := l.src.Read(p[:min(int64(len(p)), l.data)])
	l.crc.Write(p[:n])
	l.data -= int64(n)
	if cerr := l.count(int64(n)); cerr != nil {
		return n, cerr
	}
	if l.data > 0 {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	l.file.Payload = l.crc.Sum(nil)
	if serr := l.add(l.file); serr != nil {
		return n, serr
	}
	return n, nil
}

// readTail passes on what comes after the end of the archive, commonly zeros.
func (l *layerLimit) readTail(p []byte) (int, error) {
	n, err := l.src.Read(p)
	l.tail += int64(n)
	if l.tail > maxTrailer {
		return n, limitf("more than %d bytes after the end of the archive", maxTrailer)
	}
	l.raw = append(l.raw, p[:n]...)
	if cerr := l.count(int64(n)); cerr != nil {
		return n, cerr
	}
	if len(l.raw) > 1<<16 || err == io.EOF {
		if serr := l.addSegment(); serr != nil {
			return n, serr
		}
	}
	return n, err
}

// nextEntry reads the headers of one entry and judges it.
func (l *layerLimit) nextEntry() error {
	hdr, err := l.readHeader()
	switch {
	case err == io.EOF:
		l.ended = true
		return nil
	case err != nil:
		return err
	}
	l.entry = hdr.Name
	if err := l.check(hdr); err != nil {
		if _, limit := errors.AsType[*limitError](err); limit {
			return limitf("%s: %v", quoteShort(hdr.Name), err)
		}
		return fmt.Errorf("%s: %w", quoteShort(hdr.Name), err)
	}
	if err := l.strip(hdr); err != nil {
		return fmt.Errorf("%s: %w", quoteShort(hdr.Name), err)
	}
	if err := l.addSegment(); err != nil {
		return err
	}
	l.out = l.chain
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if hdr.Typeflag != tar.TypeReg {
		hdr.Size = 0 // whatever it says: no data follow
	}
	l.data, l.pad = hdr.Size, -hdr.Size&(blockSize-1)
	return l.begin(hdr)
}

func (l *layerLimit) readFull(p []byte) error {
	if n, err := io.ReadFull(l.src, p); err == io.ErrUnexpectedEOF || err == io.EOF && n > 0 {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	return l.count(int64(len(p)))
}

// count adds to the size of the layer, and looks up from time to time.
func (l *layerLimit) count(n int64) error {
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

// begin notes a file for tar-split. What is in one that the same layer replaces later
// is lost, and the tar could not be made again; podman and docker refuse it too.
func (l *layerLimit) begin(h *tar.Header) error {
	key := maphash.String(l.seed, path.Clean("/"+h.Name))
	if _, again := l.full[key]; again {
		return fmt.Errorf("%s: more than once in the layer", quoteShort(h.Name))
	}
	if h.Size == 0 {
		return nil // its header is all there is
	}
	l.full[key] = struct{}{}
	l.file = storage.Entry{Type: storage.FileType, Size: h.Size}
	l.file.SetName(h.Name)
	l.crc.Reset()
	return nil
}

func (l *layerLimit) addSegment() error {
	if len(l.raw) == 0 {
		return nil
	}
	err := l.add(storage.Entry{Type: storage.SegmentType, Payload: l.raw})
	l.raw = l.raw[:0]
	return err
}

func (l *layerLimit) add(e storage.Entry) error {
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
