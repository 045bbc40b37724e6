package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one line of what is running.
type process struct {
	pid, ppid int
	state     string
	name      string
}

func processes() map[int]process {
	found := map[int]process{}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil {
			continue
		}
		// pid (name) state ppid ...; the name may hold anything, so look from the end.
		open, shut := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		rest := strings.Fields(string(text)[shut+1:])
		ppid, _ := strconv.Atoi(rest[1])
		found[pid] = process{pid, ppid, rest[0], string(text)[open+1 : shut]}
	}
	return found
}

// descendants are the live processes below this one.
func descendants() []process {
	all := processes()
	var below []process
	for _, p := range all {
		for up, ok := p, true; ok; up, ok = all[up.ppid] {
			if up.ppid == os.Getpid() {
				if p.state != "Z" {
					below = append(below, p)
				}
				break
			}
		}
	}
	slices.SortFunc(below, func(a, b process) int { return a.pid - b.pid })
	return below
}

// killDescendants is for a script that hangs: its pipes are held open by whom it left behind.
func killDescendants() {
	for _, p := range descendants() {
		unix.Kill(p.pid, unix.SIGKILL)
	}
}

func mountTable() string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// host is what must be the same before and after a script. The script's own
// directories are looked into by name: nothing that belongs to a run may be left.
type host struct {
	mounts  string
	tmp     []string
	running []process
}

func snapshot() host {
	return host{mounts: mountTable(), tmp: tmpFiles(), running: descendants()}
}

// tmpFiles are the entries of sbx and its libraries in the directories that every program
// shares. TMPDIR is the script's own, and looked into for all.
func tmpFiles() []string {
	var names []string
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		for _, pattern := range []string{"sbx*", "storage*", "container*"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			names = append(names, found...)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		var st unix.Stat_t
		err := unix.Lstat(name, &st)
		base := filepath.Base(name)
		return err != nil || int(st.Uid) != os.Getuid() ||
			strings.HasPrefix(base, "sbx-as-user.") || strings.HasPrefix(base, "sbx-test-files-") // another run of these tests
	})
}

// leaks compares the host with what it was, and waits a little for the kernel to clear up.
// dirs are directories that belong to a script and hold the traces of runs.
func (before host) leaks(dirs ...string) error {
	var err error
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = before.compare(dirs); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (before host) compare(dirs []string) error {
	for _, p := range descendants() {
		if !slices.ContainsFunc(before.running, func(q process) bool { return p.pid == q.pid }) {
			return fmt.Errorf("left running: %d (%s), child of %d", p.pid, p.name, p.ppid)
		}
	}
	if now := mountTable(); now != before.mounts {
		return fmt.Errorf("left mounted: the mount table was\n%sand is\n%s", before.mounts, now)
	}
	for _, name := range tmpFiles() {
		if !slices.Contains(before.tmp, name) {
			return fmt.Errorf("left behind: %s", name)
		}
	}
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir)
		if len(entries) > 0 {
			return fmt.Errorf("left behind: %s", filepath.Join(dir, entries[0].Name()))
		}
	}
	return nil
}
