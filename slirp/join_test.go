//go:build !hot

package slirp

import (
	"io"
	"net"
	"testing"
	"time"
)

// pairOfTCP are the ends of a connection: who has dialled, and who has accepted.
func pairOfTCP(t *testing.T) (dialled, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return d.(*net.TCPConn), a.(*net.TCPConn)
}

// TestJoinReset: a RST is passed on as one also where the other direction has been listening for the next word.
func TestJoinReset(t *testing.T) {
	s, err := New(Default(nil, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const tries = 300
	ended := 0
	for range tries {
		s.floor.rest.Store(0)
		client, outside := pairOfTCP(t)
		inside, server := pairOfTCP(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.join(nil, outside, inside)
		}()
		word := make([]byte, 1)
		server.SetDeadline(time.Now().Add(5 * time.Second))
		client.SetDeadline(time.Now().Add(5 * time.Second))
		for range 3 {
			client.Write(word)
			io.ReadFull(server, word)
			server.Write(word)
			io.ReadFull(client, word)
		}
		reset(client)
		if _, err := server.Read(word); err == io.EOF {
			ended++
		}
		server.Close()
		<-done
	}
	if ended > 0 {
		t.Errorf("%d of %d connections that were reset have ended as if all had been said", ended, tries)
	}
}

// TestJoinHalfReset: so is one of a client that has said its last word.
func TestJoinHalfReset(t *testing.T) {
	s, err := New(Default(nil, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, outside := pairOfTCP(t)
	inside, server := pairOfTCP(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.join(nil, outside, inside)
	}()
	server.SetDeadline(time.Now().Add(5 * time.Second))
	client.CloseWrite()
	if n, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d bytes, %v", n, err)
	}
	reset(client)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the RST is not noticed")
	}
	server.Close()
	<-done
}
