//go:build !hot

package slirp

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A sandbox may be on more networks than resolv.conf has room for. Those whose resolvers are not in
// it are asked by the one that is the last there, on a socket that sbx makes between the sandbox's own places
// on the two networks; so a name is told to nobody who is not on its network.
//
//	->  a number, t or u as the question came by TCP or UDP, the question
//	<-  the number, the answer; or nothing else, if it is nobody's name there

// asideTime is for the answer of a process that has it at hand.
const (
	asideTime = 2 * time.Second
	asideRest = 10 * time.Second // of one that is stopped, say
)

// asides are whom a Stack asks.
type asides struct {
	mu   sync.Mutex
	list []*aside
}

type aside struct {
	mu     sync.Mutex // one question at a time
	socket *os.File
	number uint32
	rest   time.Time // until which it is not asked, as it has not answered
}

// AskAside asks on socket, too, about names that are nobody's on this network. It takes socket over.
func (s *Stack) AskAside(socket *os.File) {
	s.asides.mu.Lock()
	defer s.asides.mu.Unlock()
	s.asides.list = append(s.asides.list, &aside{socket: socket})
	context.AfterFunc(s.ctx, func() { socket.Close() })
}

// askAside is the answer of the first that has one.
func (s *Stack) askAside(q *query, question []byte, network string) (answer []byte, found bool) {
	s.asides.mu.Lock()
	list := slices.Clone(s.asides.list)
	s.asides.mu.Unlock()
	if len(list) == 0 {
		return nil, false
	}
	select {
	case s.dns.slots <- struct{}{}:
		defer func() { <-s.dns.slots }()
	default:
		answer, err := q.reply(dnsmessage.RCodeServerFailure, "")
		return answer, err == nil
	}
	for _, a := range list {
		answer, err := a.ask(question, network)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			s.asides.drop(a)
		}
		if len(answer) > 0 {
			return answer, true
		}
	}
	return nil, false
}

func (l *asides) drop(a *aside) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(b *aside) bool { return a == b })
	a.socket.Close()
}

func (a *aside) ask(question []byte, network string) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Now().Before(a.rest) {
		return nil, os.ErrDeadlineExceeded
	}
	a.number++
	if err := a.socket.SetDeadline(time.Now().Add(asideTime)); err != nil {
		return nil, err
	}
	message := append(binary.BigEndian.AppendUint32(nil, a.number), network[0])
	if _, err := a.socket.Write(append(message, question...)); err != nil {
		return nil, err
	}
	b := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(b)
	for {
		n, err := a.socket.Read(b[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			a.rest = time.Now().Add(asideRest)
		}
		if err != nil {
			return nil, err
		}
		if n >= 4 && binary.BigEndian.Uint32(b[:]) == a.number { // else it is late
			return slices.Clone(b[4:n]), nil
		}
	}
}

// AnswerAside answers on socket what is asked about names of this network, until the other end is
// closed. It takes socket over.
func (s *Stack) AnswerAside(socket *os.File) {
	defer socket.Close()
	defer context.AfterFunc(s.ctx, func() { socket.Close() })()
	b := make([]byte, 4+1+maxDatagram)
	for {
		n, err := socket.Read(b)
		if err != nil {
			return
		}
		if n < 4+1 {
			continue
		}
		network := "udp"
		if b[4] == 't' {
			network = "tcp"
		}
		var answer []byte
		if q, err := readQuery(b[5:n]); err == nil {
			answer, _ = s.findMember(&q, network)
		}
		if _, err := socket.Write(append(b[:4:4], answer...)); err != nil {
			return
		}
	}
}
