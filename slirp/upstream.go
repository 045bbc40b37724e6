//go:build !hot

package slirp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A client waits five seconds for an answer (resolv.conf(5)). It gets one before: of the first
// server that gives one, where the next is asked, too, when the last has said nothing for a
// while. With fewer servers than tries the same is asked again, for a datagram may be lost.
const (
	dnsTries   = 3
	dnsNext    = 1500 * time.Millisecond
	dnsTimeout = 4500 * time.Millisecond
)

// The sizes of messages (RFC 1035, 4.2.1; RFC 6891, 6.2.3).
const (
	dnsHeader = 12
	minRoom   = 512
)

// question is what a client asks, as far as it matters for passing it on: it goes out as it
// came, but for the identifier.
type question struct {
	message []byte
	section []byte // name, type and class, as sent
	room    int    // for an answer by UDP
}

var errNoQuestion = errors.New("not a question")

func parseQuestion(message []byte) (dnsmessage.Header, *question, error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.Response || binary.BigEndian.Uint16(message[4:]) != 1 {
		return h, nil, errNoQuestion
	}
	section, ok := questionSection(message)
	if !ok {
		return h, nil, errNoQuestion
	}
	return h, &question{message, section, roomFor(&p)}, nil
}

// roomFor is how large an answer the client takes: EDNS(0) says so, if it is there.
func roomFor(p *dnsmessage.Parser) int {
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return minRoom
	}
	for {
		h, err := p.AdditionalHeader()
		switch {
		case err != nil:
			return minRoom
		case h.Type == dnsmessage.TypeOPT:
			return max(minRoom, int(h.Class))
		case p.SkipAdditional() != nil:
			return minRoom
		}
	}
}

// questionSection is the one question of a message. Nothing in it is compressed: there is
// nothing before it that it could point to.
func questionSection(message []byte) ([]byte, bool) {
	end := dnsHeader
	for {
		if end >= len(message) || message[end] > 63 || end-dnsHeader > 255 {
			return nil, false
		}
		label := int(message[end])
		end += 1 + label
		if label == 0 {
			break
		}
	}
	if end += 4; end > len(message) {
		return nil, false
	}
	return message[dnsHeader:end], true
}

// answers: the message is a reply to the question. Servers keep the case of a name, and who
// asks may look for that; it is not for us to insist.
func (q *question) answers(message []byte, id uint16) bool {
	const response = 0x80
	if len(message) < dnsHeader || binary.BigEndian.Uint16(message) != id || message[2]&response == 0 {
		return false
	}
	switch binary.BigEndian.Uint16(message[4:]) {
	case 0: // which a server may leave out that could make nothing of it
		return message[3]&15 != 0
	case 1:
		section, ok := questionSection(message)
		return ok && bytes.Equal(folded(section), folded(q.section))
	}
	return false
}

// folded is a question with its name in lower case; lengths of labels are below the letters.
func folded(section []byte) []byte {
	lower := bytes.Clone(section)
	for i, b := range lower[:len(lower)-4] {
		if 'A' <= b && b <= 'Z' {
			lower[i] = b + 'a' - 'A'
		}
	}
	return lower
}

// truncated makes of an answer one that says that it does not fit: the client comes again by TCP.
func (q *question) truncated(answer []byte) []byte {
	const truncation = 0x02
	short := append(bytes.Clone(answer[:dnsHeader]), q.section...)
	short[2] |= truncation
	copy(short[4:dnsHeader], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	return short
}

// askAll returns the first good answer, or one that says that there is none if no server knows
// better, or nil.
func askAll(ctx context.Context, servers []netip.AddrPort, q *question, network string) []byte {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	tries := max(dnsTries, len(servers))
	answers := make(chan []byte, tries)
	next := time.NewTimer(0)
	defer next.Stop()
	var worst []byte
	for begun, ended := 0, 0; ended < tries; {
		select {
		case <-ctx.Done():
			return worst
		case <-next.C:
			server := servers[begun%len(servers)]
			go func() {
				answer, _ := q.ask(ctx, server, network)
				answers <- answer
			}()
			if begun++; begun < tries {
				next.Reset(dnsNext)
			}
		case answer := <-answers:
			ended++
			switch {
			case answer != nil && settles(answer):
				return answer
			case answer != nil:
				worst = answer
			}
			if begun == ended && begun >= len(servers) {
				return worst // each of them has refused
			}
			if begun < tries {
				next.Reset(0)
			}
		}
	}
	return worst
}

// settles: no other server need be asked, as for any resolver.
func settles(answer []byte) bool {
	switch dnsmessage.RCode(answer[3] & 15) {
	case dnsmessage.RCodeServerFailure, dnsmessage.RCodeNotImplemented, dnsmessage.RCodeRefused:
		return false
	}
	return true
}

// ask asks one server. Each question has a socket of its own, so a port that nobody can know,
// and an identifier that the sandbox does not: it may have friends outside who would answer in
// a server's name.
func (q *question) ask(ctx context.Context, server netip.AddrPort, network string) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	id := uint16(rand.Uint32())
	message := bytes.Clone(q.message)
	binary.BigEndian.PutUint16(message, id)
	exchange := exchangeUDP
	if network == "tcp" {
		exchange = exchangeTCP
	}
	answer, err := exchange(conn, message, func(answer []byte) bool { return q.answers(answer, id) })
	if err == nil {
		copy(answer, q.message[:2])
	}
	return answer, err
}

// exchangeUDP waits for the right answer, whatever else comes.
func exchangeUDP(conn net.Conn, message []byte, right func([]byte) bool) ([]byte, error) {
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	b := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(b)
	for {
		n, err := conn.Read(b[:])
		if err != nil {
			return nil, err
		}
		if right(b[:n]) {
			return bytes.Clone(b[:n]), nil
		}
	}
}

func exchangeTCP(conn net.Conn, message []byte, right func([]byte) bool) ([]byte, error) {
	if err := writeFramed(conn, message); err != nil {
		return nil, err
	}
	answer, err := readFramed(conn, maxDatagram)
	if err != nil {
		return nil, err
	}
	if !right(answer) {
		return nil, errors.New("not an answer to the question")
	}
	return answer, nil
}
