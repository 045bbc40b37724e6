package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
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

// tryPort takes a port of the host's, and holds it until it is closed.
func tryPort(p Port) (port uint16, close func() error, err error) {
	kind := unix.SOCK_STREAM
	if p.Protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	var at unix.Sockaddr
	family := unix.AF_INET
	if p.Address.Is4() {
		at = &unix.SockaddrInet4{Port: int(p.Host), Addr: p.Address.As4()}
	} else {
		at6 := &unix.SockaddrInet6{Port: int(p.Host), Addr: p.Address.As16()}
		if zone := p.Address.Zone(); zone != "" {
			i, err := net.InterfaceByName(zone)
			if err != nil {
				return 0, nil, unix.EINVAL
			}
			at6.ZoneId = uint32(i.Index)
		}
		family, at = unix.AF_INET6, at6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	close = func() error { return unix.Close(fd) }
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && kind == unix.SOCK_STREAM { // what is left of earlier connections is in nobody's way
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 1)
	}
	var own unix.Sockaddr
	if err == nil {
		own, err = unix.Getsockname(fd)
	}
	if err != nil {
		close()
		return 0, nil, err
	}
	switch own := own.(type) {
	case *unix.SockaddrInet4:
		port = uint16(own.Port)
	case *unix.SockaddrInet6:
		port = uint16(own.Port)
	}
	return port, close, nil
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
