//go:build !hot

package slirp

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// answerMember answers what is asked about the members of a network, and whatever is not for the
// world to know; done is false for the rest.
func (s *Stack) answerMember(question []byte, network string) (answer []byte, err error, done bool) {
	m := s.config.Member
	if m == nil {
		return nil, nil, false
	}
	q, err := readQuery(question)
	if err != nil && err != errQuestion {
		return nil, err, true
	}
	if err == nil {
		if answer, found := s.findMember(&q, network); found {
			return answer, nil, true
		}
	}
	if err == nil && m.Resolves {
		if answer, found := s.askAside(&q, question, network); found {
			return answer, nil, true
		}
	}
	switch {
	case !m.Resolves: // another network's resolver is asked next, as with any that refuses
		answer, err = q.reply(dnsmessage.RCodeRefused, "")
	case m.Internal:
		answer, err = q.reply(dnsmessage.RCodeNameError, "")
	default:
		return nil, nil, false
	}
	return answer, err, true
}

// findMember answers what is asked about the members of this network.
func (s *Stack) findMember(q *query, network string) (answer []byte, found bool) {
	if !s.config.Member.Finds || q.question.Class != dnsmessage.ClassINET {
		return nil, false
	}
	var err error
	name := strings.ToLower(strings.TrimSuffix(q.question.Name.String(), "."))
	if addresses, found := s.peers.addressesOf(name); found {
		answer, err = q.addresses(addresses, network)
		return answer, err == nil
	}
	if a, ok := reverse(name); ok && s.config.within(a) {
		answer, err = q.pointer(s.peers.nameOf(a))
		return answer, err == nil
	}
	return nil, false
}

// addresses is the answer that has these, those of the family that was asked for.
func (q *query) addresses(addresses []netip.Addr, network string) ([]byte, error) {
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	return q.build(network, func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) (err error) {
		for _, a := range addresses {
			switch {
			case a.Is4() && q.question.Type == dnsmessage.TypeA:
				err = errors.Join(err, b.AResource(h, dnsmessage.AResource{A: a.As4()}))
			case a.Is6() && q.question.Type == dnsmessage.TypeAAAA:
				err = errors.Join(err, b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()}))
			}
		}
		return err
	})
}

// pointer is the answer that has the name of an address.
func (q *query) pointer(name string, found bool) ([]byte, error) {
	if !found {
		return q.reply(dnsmessage.RCodeNameError, "")
	}
	to, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return q.reply(dnsmessage.RCodeServerFailure, "")
	}
	return q.build("", func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
		if q.question.Type != dnsmessage.TypePTR {
			return nil
		}
		return b.PTRResource(h, dnsmessage.PTRResource{PTR: to})
	})
}

// build makes an answer that nobody keeps (a time to live of 0), for members come and go. Where a
// datagram has no room for it, it says so and is empty.
func (q *query) build(network string, answers func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error) ([]byte, error) {
	h := dnsmessage.Header{
		ID: q.header.ID, Response: true, Authoritative: true, RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
	}
	build := func(answers func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error) ([]byte, error) {
		b := dnsmessage.NewBuilder(nil, h)
		b.EnableCompression()
		err := errors.Join(b.StartQuestions(), b.Question(q.question), b.StartAnswers(),
			answers(&b, dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET}))
		if q.edns {
			err = errors.Join(err, b.StartAdditionals(), addOPT(&b, maxEDNS, dnsmessage.RCodeSuccess, q.dnssec, nil))
		}
		if err != nil {
			return nil, err
		}
		return b.Finish()
	}
	answer, err := build(answers)
	if err != nil || network != "udp" || len(answer) <= max(512, min(q.size, maxEDNS)) {
		return answer, err
	}
	h.Truncated = true
	return build(func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error { return nil })
}

// reverse reads the name of an address (RFC 1035, 3.5; RFC 3596, 2.5).
func reverse(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(digits, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil && a.Is4()
	}
	digits, ok := strings.CutSuffix(name, ".ip6.arpa")
	parts := strings.Split(digits, ".")
	if !ok || len(parts) != 32 {
		return netip.Addr{}, false
	}
	var text strings.Builder
	for i := range parts {
		text.WriteString(parts[31-i])
	}
	b, err := hex.DecodeString(text.String())
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b)), true
}
