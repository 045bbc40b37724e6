package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sbx/slirp"
)

// reserve finds out, before anything is started, whether the ports can be had, and chooses the
// random ones. Neither program says why it has not got a port, or can be told to choose one.
func reserve(ports []Port) (certain []Port, chosen []uint16, err error) {
	var held []func() error // until all are known: no port is chosen twice
	defer func() {
		for _, close := range held {
			close()
		}
	}()
	for _, p := range ports {
		for i := range p.Count {
			one := p
			one.Inside, one.Count = p.Inside+uint16(i), 1
			if p.Host != 0 {
				one.Host = p.Host + uint16(i)
			}
			port, close, err := tryPort(one)
			if err != nil {
				return nil, nil, &slirp.PublishError{Port: one, Err: err}
			}
			held = append(held, close)
			if p.Host == 0 {
				chosen = append(chosen, port)
				one.Host = port
				certain = append(certain, one)
			}
		}
		if p.Host != 0 {
			certain = append(certain, p)
		}
	}
	return certain, chosen, nil
}

// tryPort listens at a port of the host's.
func tryPort(p Port) (port uint16, close func() error, err error) {
	network := p.Protocol + "6"
	if p.Address.Is4() {
		network = p.Protocol + "4"
	}
	at := netip.AddrPortFrom(p.Address, p.Host).String()
	if p.Protocol == "udp" {
		conn, err := net.ListenPacket(network, at)
		if err != nil {
			return 0, nil, errnoOf(err)
		}
		return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(), conn.Close, nil
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), network, at)
	if err != nil {
		return 0, nil, errnoOf(err)
	}
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), l.Close, nil
}

func errnoOf(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

// pastaPorts are the arguments for published ports (passt(1)).
func pastaPorts(ports []Port) (args []string) {
	for _, p := range ports {
		option := "--tcp-ports"
		if p.Protocol == "udp" {
			option = "--udp-ports"
		}
		address := p.Address.WithZone("").String()
		if p.Address.Zone() != "" {
			address += "%" + p.Address.Zone()
		}
		last := func(first uint16) string { return strconv.Itoa(int(first) + p.Count - 1) }
		args = append(args, option, fmt.Sprintf("%s/%d-%s:%d-%s", address, p.Host, last(p.Host), p.Inside, last(p.Inside)))
	}
	return args
}

// apiName is where slirp4netns listens in the directory of the run, by a name without a path: what
// that is called may be longer than an address can be.
const apiName = "slirp4netns.sock"

// forwardPorts asks a slirp4netns, one after the other, for the published ports (slirp4netns(1)).
func forwardPorts(runDir string, ports []Port) error {
	dir, err := os.Open(runDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	defer os.Remove(filepath.Join(runDir, apiName))
	api := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), apiName)}
	for _, p := range ports {
		for i := range p.Count {
			question, err := json.Marshal(map[string]any{"execute": "add_hostfwd", "arguments": map[string]any{
				"proto": p.Protocol, "host_addr": p.Address.String(), "host_port": int(p.Host) + i, "guest_port": int(p.Inside) + i,
			}})
			if err == nil {
				err = ask(api, question)
			}
			if err != nil {
				return &slirp.PublishError{Port: p, Err: err}
			}
		}
	}
	return nil
}

// ask asks one question: slirp4netns reads no more of a connection.
func ask(api *unix.SockaddrUnix, question []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(int64(driverPatience / time.Nanosecond))
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &patience); err != nil {
			return fmt.Errorf("setsockopt: %w", err)
		}
	}
	if err := unix.Connect(fd, api); err != nil {
		return fmt.Errorf("connect to slirp4netns: %w", err)
	}
	if _, err := unix.Write(fd, question); err != nil {
		return fmt.Errorf("ask slirp4netns: %w", err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return fmt.Errorf("ask slirp4netns: %w", err)
	}
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err != nil {
		return fmt.Errorf("answer of slirp4netns: %w", err)
	}
	var answer struct {
		Error struct{ Desc string }
	}
	if err := json.Unmarshal(b[:max(n, 0)], &answer); err != nil {
		return fmt.Errorf("answer of slirp4netns: %w", err)
	}
	if answer.Error.Desc != "" {
		return errors.New(answer.Error.Desc)
	}
	return nil
}
