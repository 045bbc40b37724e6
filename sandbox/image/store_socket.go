//go:build !hot

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// socket carries messages between a Store and the stage that works for it, one JSON
// value a packet, with at most one open file.
type socket struct{ f *os.File }

// maxMessage is the largest message; no path or error makes a longer one.
const maxMessage = 64 << 10

func socketPair() (ours, theirs socket, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return socket{}, socket{}, fmt.Errorf("socketpair: %w", err)
	}
	return socket{os.NewFile(uintptr(fds[0]), "store socket")}, socket{os.NewFile(uintptr(fds[1]), "store socket")}, nil
}

func (s socket) send(v any, file *os.File) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("message to the store: %d bytes: bug in sbx", len(text))
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	for {
		err := unix.Sendmsg(int(s.f.Fd()), text, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// receive waits for a message. It returns io.EOF when the other side has ended.
func (s socket) receive(v any) (*os.File, error) {
	text, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	var n, rn int
	for {
		var err error
		n, rn, _, _, err = unix.Recvmsg(int(s.f.Fd()), text, rights, unix.MSG_CMSG_CLOEXEC)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNRESET: // it ended with messages unread; what it said last is still to come
			continue
		default:
			return nil, fmt.Errorf("recvmsg: %w", err)
		}
		break
	}
	if n == 0 {
		return nil, io.EOF
	}
	var file *os.File
	if rn > 0 {
		messages, err := unix.ParseSocketControlMessage(rights[:rn])
		if err != nil || len(messages) != 1 {
			return nil, errors.New("message to the store: bad control message")
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return nil, errors.New("message to the store: bad descriptor")
		}
		file = os.NewFile(uintptr(fds[0]), "blob")
	}
	return file, json.Unmarshal(text[:n], v)
}
