package slirp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ControlFD is the descriptor of sbx-net's control socket, a SOCK_SEQPACKET.
const ControlFD = 3

// An sbx-net that serves a network of several sandboxes has the argument MembersArg, and listens on
// ControlFD; each member has a connection to it, which goes like the one of a sandbox alone.
const (
	MembersArg = "members"
	LiveFD     = 4 // the network's directory, in which SocketName is its socket
	SocketName = "socket"
)

// Order is what sbx-net is told: its Config, first of all, with which comes the file of Config.Log;
// then that there is a link, which comes with it; then, with published ports, that sockets can be had
// in the sandbox, with what to ask for them on. On a network that others are on, too, there may be
// sockets to ask further networks on, or to answer on (aside.go). End of file is the end of the network.
type Order struct {
	Config  *Config `json:"config,omitempty"`
	Sockets bool    `json:"sockets,omitempty"`
	Asks    bool    `json:"asks,omitempty"`
	Answers bool    `json:"answers,omitempty"`
	Program string  `json:"program,omitempty"` // who asks, where that may be another sbx: Program
	Net     string  `json:"net,omitempty"`     // and where it may be in another net namespace: Net
	Counts  bool    `json:"counts,omitempty"`  // Counters are to be told at the end
}

// Program tells one build of sbx from another: what they say to each other may differ.
func Program() string {
	var st unix.Stat_t
	if unix.Stat("/proc/self/exe", &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim)
}

// Net tells one net namespace from another: the calling process's.
func Net() string {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/net", &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, st.Ino)
}

// Reply is what sbx-net says: once, to its Config, and later only warnings, or why it ends, and what has come to nothing.
type Reply struct {
	Failure string `json:"failure,omitempty"`
	Fix     string `json:"fix,omitempty"` // what helps against the failure

	Warning string `json:"warning,omitempty"` // at any later time
	Counts  string `json:"counts,omitempty"`  // at the end

	Ports []uint16 `json:"ports,omitempty"` // that the kernel chose; see Chosen
}

// LastLines is how long the end of a network may take for the last lines of its log: that may be a pipe
// which nobody reads.
const LastLines = 2 * time.Second

const maxMessage = 64 << 10

// Send sends a message, an Order or a Reply, and with it f unless that is nil, which stays
// the caller's to close.
func Send(control *os.File, message any, f *os.File) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return errors.New("too long a message")
	}
	var rights []byte
	if f != nil {
		rights = unix.UnixRights(int(f.Fd()))
	}
	return onSocket(control, false, func(fd int) error { return unix.Sendmsg(fd, b, rights, nil, unix.MSG_NOSIGNAL) })
}

// Receive receives a message, and the file that came with it or nil. The error is io.EOF when the
// other end is gone.
func Receive(control *os.File, message any) (*os.File, error) {
	b, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	var n, rightsLen int
	err := onSocket(control, true, func(fd int) (err error) {
		n, rightsLen, _, _, err = unix.Recvmsg(fd, b, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	}
	f, err := fileOf(rights[:rightsLen])
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b[:n], message); err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("message: %w", err)
	}
	return f, nil
}

func fileOf(rights []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, err
	}
	for _, fd := range fds[1:] { // the buffer is padded, and has room for two
		unix.Close(fd)
	}
	return os.NewFile(uintptr(fds[0]), "from the control socket"), nil
}

// onSocket waits without a thread, if the socket is one that does not block.
func onSocket(control *os.File, read bool, call func(fd int) error) error {
	raw, err := control.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	try := func(fd uintptr) bool {
		for {
			if failed = call(int(fd)); failed != unix.EINTR {
				return failed != unix.EAGAIN
			}
		}
	}
	if read {
		err = raw.Read(try)
	} else {
		err = raw.Write(try)
	}
	return errors.Join(err, failed)
}
