//go:build !hot

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Remove takes a name away, and with its last name the image. An image given by its id
// goes with its name; if it has several, only force removes it. One that a sandbox uses
// stays, force or not.
func (s *Store) Remove(image string, force bool) (untagged, deleted []string, err error) {
	untagged, deleted, err = s.remove(image, force)
	if err != nil {
		return nil, nil, fmt.Errorf("remove image: %w", err)
	}
	return untagged, deleted, nil
}

func (s *Store) remove(image string, force bool) (untagged, deleted []string, err error) {
	err = s.fresh(func(ix index) error {
		e, err := ix.find(image)
		if err != nil {
			return err
		}
		untagged, deleted, err = s.removeEntry(e, force)
		if err != nil {
			return fmt.Errorf("%s: %w", quoteless(image), err)
		}
		return nil
	})
	return untagged, deleted, err
}

func (s *Store) removeEntry(e entry, force bool) (untagged, deleted []string, err error) {
	img, err := s.own(e.id)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case e.name != "" && !slices.Contains(img.Names, e.name) && !strings.Contains(e.name, "@"):
		return nil, nil, fmt.Errorf("the image has this name in podman's store only")
	case slices.Contains(img.Names, e.name) && len(img.Names) > 1:
		return []string{e.name}, nil, s.drop(request{Op: "unname", ID: e.id, Names: []string{e.name}})
	case len(img.Names) > 1 && !force:
		return nil, nil, withHint(fmt.Errorf("several names: %s", strings.Join(img.Names, ", ")),
			"remove the names one by one, or all at once with --force")
	}
	record, err := s.claim(e.id)
	if err != nil {
		return nil, nil, err
	}
	defer record.Close()
	if err := s.drop(request{Op: "remove", ID: e.id}); err != nil {
		return nil, nil, err
	}
	// Whoever waits for the record finds it without a name, and looks again.
	if err := os.Remove(record.Name()); err != nil {
		return nil, nil, err
	}
	return img.Names, []string{e.id}, nil
}

// drop asks for what must work on a full disk, too.
func (s *Store) drop(r request) error {
	return s.pressed(func() error { return s.ask(context.Background(), r, nil) })
}

// claim locks an image so that nobody can begin to use it.
func (s *Store) claim(id string) (*os.File, error) {
	_, f, err := s.hold(id)
	if err != nil {
		return nil, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = withHint(fmt.Errorf("in use by %s", users(f)), "end the sandbox first")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// users names the processes that hold a lock on f, as far as we may know them.
func users(f *os.File) string {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	locks, rerr := os.ReadFile("/proc/locks")
	if err != nil || rerr != nil {
		return "a sandbox"
	}
	inode := fmt.Sprintf(":%d", st.Ino)
	var pids []string
	for line := range strings.Lines(string(locks)) { // 1: FLOCK ADVISORY READ 1234 fd:00:5678 0 EOF
		fields := strings.Fields(line)
		if len(fields) > 5 && fields[1] == "FLOCK" && strings.HasSuffix(fields[5], inode) && fields[4] != "-1" {
			pids = append(pids, fields[4])
		}
	}
	if len(pids) == 0 {
		return "a sandbox"
	}
	return "the sandbox of process " + strings.Join(pids, ", ")
}
