package image

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Name is a complete reference to an image in a registry: HOST[:PORT]/PATH:TAG or
// HOST[:PORT]/PATH@DIGEST. One that has both a tag and a digest is known by its digest.
type Name struct {
	Registry string // docker.io, localhost:5000
	Path     string // library/busybox
	Tag      string // "" when Digest is set
	Digest   Digest
}

// String is the reference as the store keeps it.
func (n Name) String() string { return n.repository() + n.suffix() }

func (n Name) repository() string { return n.Registry + "/" + n.Path }

func (n Name) suffix() string {
	if n.Digest != "" {
		return "@" + n.Digest.String()
	}
	return ":" + n.Tag
}

// ParseName reads a reference the way docker does: without a host it is docker.io's,
// without a namespace there it is library's, without a tag it is latest.
func ParseName(ref string) (Name, error) {
	n, err := parse(ref)
	if err != nil {
		return Name{}, err
	}
	if n.Registry == "" {
		return n.in("docker.io"), nil
	}
	return n, nil
}

// LocalName reads a reference that a person gives to an image of their own:
// without a host it is localhost's.
func LocalName(ref string) (Name, error) {
	n, err := parse(ref)
	if err != nil {
		return Name{}, err
	}
	if n.Registry == "" {
		return n.in("localhost"), nil
	}
	return n, nil
}

// NewName reads the name that a person gives to an image with sbx tag. It must mean this
// image wherever it is written later, and promise nothing that is not so.
func NewName(ref string) (Name, error) {
	src, err := ParseSource(ref)
	if err != nil {
		return Name{}, err
	}
	if src.Transport != "docker" || src.Full {
		return Name{}, &NameError{ref, errors.New("it begins with a transport")}
	}
	n, err := LocalName(ref)
	switch {
	case err != nil:
		return Name{}, err
	case n.Digest != "":
		return Name{}, &NameError{ref, withHint(errors.New("a digest cannot be given: it is of what the image contains"), "give a tag: "+n.Path+":TAG")}
	case len(ref) == 64 && isHex(ref):
		return Name{}, &NameError{ref, errors.New("it would be read as an image id")}
	}
	return n, nil
}

// in is a short name completed by a registry.
func (n Name) in(registry string) Name {
	n.Registry = registry
	return n.normalized()
}

// normalized applies what is particular to docker.io.
func (n Name) normalized() Name {
	if n.Registry == "index.docker.io" {
		n.Registry = "docker.io"
	}
	if n.Registry == "docker.io" && !strings.Contains(n.Path, "/") {
		n.Path = "library/" + n.Path
	}
	return n
}

func looksLikeID(s string) bool {
	s = strings.TrimPrefix(s, "sha256:")
	return len(s) >= 3 && len(s) <= 64 && isHex(s)
}

// maxName is the limit of every registry and of distribution/reference.
const maxName = 255

// parse reads a reference strictly; Registry is "" for a short name. The grammar is
// distribution/reference's, scanned by hand: its regular expressions cost every start.
func parse(ref string) (Name, error) {
	n, err := scan(ref)
	if err != nil {
		return Name{}, &NameError{ref, err}
	}
	return n, nil
}

// NameError says what is wrong with a reference.
type NameError struct {
	ref string
	err error
}

func (e *NameError) Error() string { return fmt.Sprintf("image name %s: %v", quoteShort(e.ref), e.err) }
func (e *NameError) Unwrap() error { return e.err }

func scan(ref string) (Name, error) {
	if scheme, _, ok := strings.Cut(ref, "://"); ok {
		return Name{}, withHint(fmt.Errorf("%s:// is not part of a name", quoteless(scheme)), "write HOST/PATH:TAG, without a scheme")
	}
	var n Name
	rest, hex, pinned := strings.Cut(ref, "@")
	if pinned {
		d, err := parseDigest(hex)
		if err != nil {
			return Name{}, err
		}
		n.Digest = d
	}
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		n.Tag = rest[colon+1:]
		rest = rest[:colon]
		if err := checkTag(n.Tag); err != nil {
			return Name{}, err
		}
	}
	if host, path, ok := strings.Cut(rest, "/"); ok && isHost(host) {
		if err := checkHost(host); err != nil {
			return Name{}, err
		}
		n.Registry, rest = host, path
	}
	n.Path = rest
	if err := checkPath(n.Path); err != nil {
		return Name{}, err
	}
	if len(n.Registry)+1+len(n.Path) > maxName {
		return Name{}, fmt.Errorf("longer than %d characters", maxName)
	}
	switch {
	case pinned:
		n.Tag = ""
	case n.Tag == "":
		n.Tag = "latest"
	}
	if n.Registry != "" {
		n = n.normalized()
	}
	return n, nil
}

// isHost tells a host from the first component of a path, by docker's rule.
func isHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:") || strings.ToLower(s) != s
}

func checkHost(host string) error {
	bad := fmt.Errorf("bad host %s", quoteShort(host))
	name, port := host, ""
	switch {
	case strings.HasPrefix(host, "["):
		addr, tail, ok := strings.Cut(host[1:], "]")
		if a, err := netip.ParseAddr(addr); !ok || err != nil || !a.Is6() || a.Zone() != "" {
			return bad
		}
		if tail == "" {
			return nil
		}
		name, port, ok = "", strings.TrimPrefix(tail, ":"), strings.HasPrefix(tail, ":")
		if !ok || port == "" {
			return bad
		}
	default:
		var ok bool
		if name, port, ok = strings.Cut(host, ":"); ok && port == "" {
			return bad
		}
		for label := range strings.SplitSeq(name, ".") {
			if !isLabel(label) {
				return bad
			}
		}
	}
	if port == "" {
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '+' {
		return bad
	}
	return nil
}

// isLabel: letters, digits and inner hyphens.
func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isLower(c) && !isUpper(c) && !isDigit(c) && c != '-' {
			return false
		}
	}
	return true
}

func checkPath(path string) error {
	if path == "" {
		return errors.New("no name in it")
	}
	for part := range strings.SplitSeq(path, "/") {
		if !isPathPart(part) {
			if strings.ToLower(part) != part && isPathPart(strings.ToLower(part)) {
				return fmt.Errorf("upper case in %s: repository names are lower case", quoteShort(part))
			}
			return fmt.Errorf("bad path component %s", quoteShort(part))
		}
	}
	return nil
}

// isPathPart: runs of lower case letters and digits, with ".", "_", "__" or hyphens between them.
func isPathPart(s string) bool {
	sep := "" // since the last letter or digit
	for i, c := range []byte(s) {
		if isLower(c) || isDigit(c) {
			sep = ""
			continue
		}
		sep += string(c)
		ok := sep == "." || sep == "_" || sep == "__" || strings.Trim(sep, "-") == ""
		if !ok || i == len(sep)-1 {
			return false
		}
	}
	return s != "" && sep == ""
}

func checkTag(tag string) error {
	bad := tag == "" || len(tag) > 128 || tag[0] == '.' || tag[0] == '-'
	for _, c := range []byte(tag) {
		bad = bad || !isLower(c) && !isUpper(c) && !isDigit(c) && c != '_' && c != '.' && c != '-'
	}
	if bad {
		return fmt.Errorf("bad tag %s", quoteShort(tag))
	}
	return nil
}

// parseDigest takes sha256 and sha512 only. Every digest that comes from outside passes
// here before it becomes part of a path or a URL (CVE-2024-3727).
func parseDigest(s string) (Digest, error) {
	algorithm, hex, _ := strings.Cut(s, ":")
	want := 0
	switch algorithm {
	case "sha256":
		want = 64
	case "sha512":
		want = 128
	}
	if want == 0 || len(hex) != want || !isHex(hex) {
		return "", fmt.Errorf("bad digest %s", quoteShort(s))
	}
	return Digest(s), nil
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// quoteShort makes hostile text fit for one line of a terminal.
func quoteShort(s string) string {
	if len(s) > 120 {
		s = s[:120] + "..."
	}
	return strconv.Quote(s)
}

// quoteless is quoteShort without the quotes.
func quoteless(s string) string {
	q := quoteShort(s)
	return q[1 : len(q)-1]
}

// Source says where an image comes from: a registry, or a file or directory.
type Source struct {
	Transport string // docker, docker-archive, oci-archive, oci, dir
	Path      string // of the archive or directory
	Ref       string // docker: the reference as written; else which image of several, "" if not said
	Full      bool   // docker: written with docker://, so never a short name
}

// String is the source as a person would write it.
func (s Source) String() string {
	switch {
	case s.Transport == "docker":
		return s.Ref
	case s.Ref != "":
		return s.Transport + ":" + s.Path + ":" + s.Ref
	}
	return s.Transport + ":" + s.Path
}

// ParseSource tells names from files: [docker://]NAME, docker-archive:PATH[:REF],
// oci-archive:PATH[:REF], oci:DIR[:REF], dir:DIR. It looks at nothing but arg.
func ParseSource(arg string) (Source, error) {
	transport, rest, ok := strings.Cut(arg, ":")
	if !ok {
		transport = ""
	}
	switch transport {
	case "docker":
		ref, ok := strings.CutPrefix(rest, "//")
		if !ok {
			break // an image named docker, with a tag
		}
		_, err := parse(ref)
		return Source{Transport: "docker", Ref: ref, Full: true}, err
	case "docker-archive", "oci-archive", "oci":
		path, ref, _ := strings.Cut(rest, ":")
		return Source{Transport: transport, Path: path, Ref: ref}, checkSourcePath(arg, path)
	case "dir":
		return Source{Transport: "dir", Path: rest}, checkSourcePath(arg, rest)
	case "docker-daemon", "containers-storage", "sif", "ostree":
		return Source{}, withHint(fmt.Errorf("image %s: unknown transport %s", quoteShort(arg), transport),
			"save it to a file there and use docker-archive:FILE or oci-archive:FILE")
	}
	_, err := parse(arg)
	return Source{Transport: "docker", Ref: arg}, err
}

func checkSourcePath(arg, path string) error {
	if path == "" || strings.ContainsRune(path, 0) {
		return fmt.Errorf("image %s: no path", quoteShort(arg))
	}
	return nil
}

// hinted is an error with advice; cli prints the advice on a line of its own.
type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }

func withHint(err error, hint string) error { return &hinted{err, hint} }
