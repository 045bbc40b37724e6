package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A name is a directory among those of runs, @NAME, that the parent has locked as long as it
// lives. What is in use is told by the lock, never by what is there: the name of one that
// was killed is free at once, and its directory is swept as theirs are.
//
// In it is one file, about the running sandbox, for who joins it. It lies where no sandbox gets,
// and leads to namespaces by way of descriptors of the parent's, which no sandbox can change.

// aboutFile is that file.
const aboutFile = "about"

// about is what it says.
type about struct {
	Pid    int     `json:"pid"`   // of the parent
	Net    int     `json:"net"`   // the descriptor there that is the sandbox's net namespace,
	Inode  uint64  `json:"inode"` // and its number: neither process ids nor descriptors stay whose they are
	Resolv *string `json:"resolv,omitempty"`
	Hosts  *string `json:"hosts,omitempty"` // the texts of those files that sbx made
}

// name is a running sandbox's, in its parent.
type name struct {
	*runDir
	net *os.File // kept open for others
}

func nameDir(runs, name string) string { return filepath.Join(runs, "@"+name) }

// claimName takes the plan's name for this process, or returns nil where there is none.
func claimName(p *Plan) (*name, error) {
	if p.Name == "" {
		return nil, nil
	}
	path := nameDir(p.Runs, p.Name)
	for patience := 10; ; {
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrNotExist) { // the first run of all
			err = os.MkdirAll(path, 0o700)
		}
		fresh := err == nil
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, &Error{Text: "--name " + p.Name, Err: err, Fix: filepath.Dir(p.Runs) + " must be yours and writable; set XDG_DATA_HOME to a directory that is"}
		}
		lock, err := lockDir(path, unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK) && patience > 0: // maybe only by who looks whether it is
			patience--
			time.Sleep(2 * time.Millisecond)
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, &Error{Text: "--name " + p.Name + ": a running sandbox has that name", Fix: "a name is free when its sandbox has ended; --replace ends it"}
		case err != nil:
			return nil, fmt.Errorf("--name %s: lock %s: %w", p.Name, path, err)
		case lock == nil: // swept, as we came
		case fresh:
			return &name{runDir: &runDir{path, lock}}, nil
		default: // of a killed one
			err := (&runDir{path, lock}).remove(p.Caller)
			if err != nil {
				return nil, err
			}
		}
	}
}

// tell writes down where the sandbox's net namespace is, for who joins it.
func (n *name) tell(p *Plan, net *os.File) error {
	n.net = net
	var st unix.Stat_t
	if err := unix.Fstat(int(net.Fd()), &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: net.Name(), Err: err}
	}
	a := about{Pid: os.Getpid(), Net: int(net.Fd()), Inode: st.Ino, Resolv: p.madeFile("/etc/resolv.conf"), Hosts: p.madeFile("/etc/hosts")}
	text, err := json.Marshal(a)
	if err == nil {
		err = os.WriteFile(filepath.Join(n.path, aboutFile), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("--name %s: %w", p.Name, err)
	}
	return nil
}

// madeFile is what sbx writes at dst, nil where the image's file stays.
func (p *Plan) madeFile(dst string) *string {
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Dst == dst && (s.Op == opFile || s.Op == opHosts) {
			return &s.Text
		}
	}
	return nil
}

// release frees the name.
func (n *name) release() {
	n.removeEmpty()
	n.lock.Close()
	if n.net != nil {
		n.net.Close()
	}
}

// running is another sandbox, found by its name.
type running struct {
	dir  *os.File // locked by its parent as long as that lives
	name string
}

// Running lists the names of the sandboxes that run, of those whose runs have their directories in data, sbx's
// own. What cannot be read is not there.
func Running(data string) (names []string) {
	runs := filepath.Join(data, "runs")
	entries, _ := os.ReadDir(runs)
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "@")
		if !ok {
			continue
		}
		if r, err := findRunning(runs, name); err == nil {
			r.dir.Close()
			names = append(names, name)
		}
	}
	return names
}

// findRunning finds the running sandbox of that name, in the directory of runs.
func findRunning(runs, name string) (*running, error) {
	dir, err := os.OpenFile(nameDir(runs, name), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	r := &running{dir, name}
	if err != nil || !r.alive() {
		dir.Close()
		return nil, r.gone()
	}
	return r, nil
}

func (r *running) gone() error {
	return &goneError{r.name}
}

// goneError: a sandbox is not there, or not any more.
type goneError struct{ name string }

func (e *goneError) Error() string { return "no running sandbox has the name " + e.name }

// Hint says what helps.
func (e *goneError) Hint() string {
	return "start one: sbx run --name " + e.name + " ...; its name ends with it"
}

// alive: its parent still holds the lock.
func (r *running) alive() bool {
	err := unix.Flock(int(r.dir.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		unix.Flock(int(r.dir.Fd()), unix.LOCK_UN)
	}
	return err == unix.EWOULDBLOCK
}

// about reads what the sandbox has told of itself. One that is starting is given time.
func (r *running) about() (a about, err error) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if text, err := r.read(); err == nil && json.Unmarshal(text, &a) == nil { // all of it is there
			return a, nil
		}
		switch {
		case !r.alive():
			return a, r.gone()
		case time.Now().After(end):
			return a, Errorf("sandbox %s is still starting", r.name)
		}
	}
}

func (r *running) read() ([]byte, error) {
	fd, err := unix.Openat(int(r.dir.Fd()), aboutFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), aboutFile)
	defer f.Close()
	return io.ReadAll(f)
}
