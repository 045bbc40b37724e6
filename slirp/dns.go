//go:build !hot

package slirp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

const (
	dnsPort     = 53
	dnsIdle     = 20 * time.Second // of a flow of questions
	resolvConf  = "/etc/resolv.conf"
	maxQuestion = 4096
)

// resolver answers the sandbox's questions with the host's resolvers: those of resolv.conf
// as it is when the question comes, for a VPN or another network changes it.
type resolver struct {
	fixed []netip.Addr // asked in their place
	slots chan struct{}

	mu      sync.Mutex
	stamp   time.Time // of the file that servers are from
	size    int64
	servers []netip.AddrPort
}

func newResolver(fixed []netip.Addr) *resolver {
	return &resolver{fixed: fixed, slots: make(chan struct{}, maxDNS)}
}

// ask lists whom to ask, in order.
func (r *resolver) ask() []netip.AddrPort {
	var servers []netip.AddrPort
	for _, a := range r.fixed {
		servers = append(servers, netip.AddrPortFrom(a, dnsPort))
	}
	if servers != nil {
		return servers
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(resolvConf)
	if err != nil {
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)} // resolv.conf(5)
	}
	if r.servers == nil || !info.ModTime().Equal(r.stamp) || info.Size() != r.size {
		text, _ := os.ReadFile(resolvConf)
		r.servers, r.stamp, r.size = nameservers(string(text)), info.ModTime(), info.Size()
	}
	return r.servers
}

// nameservers are the first three of resolv.conf, as for everybody else on the host.
func nameservers(text string) (servers []netip.AddrPort) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == 3 {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, dnsPort))
		}
	}
	if len(servers) == 0 {
		servers = append(servers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort))
	}
	return servers
}

// exchange returns the answer to a question: a server's, or one that says that there is
// none. The error is for what is no question.
func (r *resolver) exchange(ctx context.Context, question []byte, network string) ([]byte, error) {
	h, q, err := parseQuestion(question)
	if err != nil {
		return nil, err
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return failure(h, question, dnsmessage.RCodeServerFailure)
	}
	answer := askAll(ctx, r.ask(), q, network)
	switch {
	case answer == nil:
		return failure(h, question, dnsmessage.RCodeServerFailure)
	case network == "udp" && len(answer) > q.room:
		return q.truncated(answer), nil
	}
	return answer, nil
}

// failure is the answer that there is none.
func failure(h dnsmessage.Header, question []byte, code dnsmessage.RCode) ([]byte, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(question); err != nil {
		return nil, err
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return nil, err
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code},
		Questions: questions,
	}
	return answer.Pack()
}

// answerUDP answers the questions of one flow.
func (s *Stack) answerUDP(inside *gonet.UDPConn) {
	defer inside.Close()
	for {
		inside.SetReadDeadline(time.Now().Add(dnsIdle))
		question := make([]byte, maxQuestion)
		n, err := inside.Read(question)
		if err != nil || s.ctx.Err() != nil {
			return
		}
		// Several at a time: a and AAAA of one name come together.
		go func() {
			if answer, err := s.answer(question[:n], "udp"); err == nil {
				inside.Write(answer)
			}
		}()
	}
}

// answerTCP answers the questions of one connection, one after another.
func (s *Stack) answerTCP(e *endpoint) {
	inside := gonet.NewTCPConn(e.queue, e.ep)
	defer inside.Close()
	for {
		inside.SetDeadline(time.Now().Add(dnsIdle))
		question, err := readFramed(inside, maxQuestion)
		if err != nil || s.ctx.Err() != nil {
			return
		}
		answer, err := s.answer(question, "tcp")
		if err != nil || writeFramed(inside, answer) != nil {
			return
		}
	}
}

var errTooLong = errors.New("too long a message")

// Over TCP a message follows its length (RFC 1035, 4.2.2). One that is longer than largest is not read.
func readFramed(r io.Reader, largest int) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > largest {
		return nil, errTooLong
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFramed(w io.Writer, b []byte) error {
	if len(b) >= maxDatagram {
		return errors.New("a message of more than 65535 bytes")
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}
