//go:build !hot

package slirp

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sbx/slirp/egress"
)

// maxEDNS is the longest answer over UDP that a server is asked for (RFC 9715 has less, but
// between sbx and its resolver nothing is lost).
const maxEDNS = 4096

// errQuestion is what is no question that could be answered under rules: one with another section
// filled in, or with two questions, of which two readers could see one each.
var errQuestion = errors.New("not one question")

// query is a question as it was understood. What is sent on is made of this, and so is nothing
// that was not.
type query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	name     string // as egress.Name has it; "" if it is none
	edns     bool
	size     int // of the answer over UDP
	dnssec   bool
}

func readQuery(b []byte) (q query, err error) {
	var p dnsmessage.Parser
	if q.header, err = p.Start(b); err != nil || q.header.Response {
		return q, errors.New("not a question")
	}
	counts := [3]uint16{binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[8:])}
	if q.question, err = p.Question(); err != nil || counts != [3]uint16{1, 0, 0} || q.header.OpCode != 0 {
		return q, errQuestion
	}
	q.name, _ = egress.Name(q.question.Name.String())
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q, errQuestion
	}
	for {
		h, err := p.AdditionalHeader()
		switch {
		case errors.Is(err, dnsmessage.ErrSectionDone):
			return q, nil
		case err != nil || p.SkipAdditional() != nil:
			return q, errQuestion
		case h.Type == dnsmessage.TypeOPT:
			q.edns, q.size, q.dnssec = true, int(h.Class), h.DNSSECAllowed()
		}
	}
}

// pack writes the question.
func (q *query) pack() ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: q.header.ID, RecursionDesired: q.header.RecursionDesired, AuthenticData: q.header.AuthenticData, CheckingDisabled: q.header.CheckingDisabled,
	})
	err := errors.Join(b.StartQuestions(), b.Question(q.question))
	if q.edns {
		err = errors.Join(err, b.StartAdditionals(), addOPT(&b, min(q.size, maxEDNS), dnsmessage.RCodeSuccess, q.dnssec, nil))
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

func addOPT(b *dnsmessage.Builder, size int, code dnsmessage.RCode, dnssec bool, options []dnsmessage.Option) error {
	var h dnsmessage.ResourceHeader
	return errors.Join(h.SetEDNS0(max(size, 512), code, dnssec), b.OPTResource(h, dnsmessage.OPTResource{Options: options}))
}

// blocked is an Extended DNS Error (RFC 8914): it is in the way of whoever runs the server.
const (
	optionEDE = 15
	blocked   = 15
)

// reply is an answer of our own, with nothing in it but a code, and why where the question can have that.
func (q *query) reply(code dnsmessage.RCode, why string) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: code,
	})
	var err error
	if q.question.Name.Length > 0 {
		err = errors.Join(b.StartQuestions(), b.Question(q.question))
	}
	if q.edns {
		var options []dnsmessage.Option
		if why != "" {
			options = []dnsmessage.Option{{Code: optionEDE, Data: append([]byte{0, blocked}, why...)}}
		}
		err = errors.Join(err, b.StartAdditionals(), addOPT(&b, maxEDNS, code, q.dnssec, options))
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// answer answers one question from the sandbox, as far as the rules let it, and notes for whom
// the addresses are that it tells. The error is for what is no question at all.
func (s *Stack) answer(question []byte, network string) ([]byte, error) {
	if answer, err, done := s.answerMember(question, network); done {
		return answer, err
	}
	if s.config.Policy.Empty() && s.log == nil {
		return s.dns.exchange(s.ctx, question, network)
	}
	q, err := readQuery(question)
	if err != nil && err != errQuestion {
		return nil, err
	}
	f := s.log.begin(network, netip.AddrPort{})
	f.note(func(r *record) {
		r.Event, r.Address, r.Port, r.Type = "dns", "", dnsPort, typeText(q.question.Type)
		r.Name = strings.TrimSuffix(q.question.Name.String(), ".")
	})
	f.addSent(len(question))
	answer, err := s.answerQuery(f, &q, question, err, network)
	f.addReceived(len(answer))
	f.end()
	return answer, err
}

func (s *Stack) answerQuery(f *flow, q *query, question []byte, malformed error, network string) ([]byte, error) {
	if s.config.Policy.Empty() {
		f.note(func(r *record) { r.Verdict = "allowed" })
		answer, err := s.dns.exchange(s.ctx, question, network)
		if err == nil && malformed == nil && q.name != "" {
			s.pin(q, answer) // for the log: by which name a flow goes
		}
		return answer, err
	}
	refuse := func(rule, why string) ([]byte, error) {
		s.deniedNames.Add(1)
		f.note(func(r *record) { r.Rule = rule; r.Reason = why })
		if rule != "" {
			why = "--deny " + rule
		}
		return q.reply(dnsmessage.RCodeRefused, "sbx: "+why)
	}
	switch {
	case malformed != nil:
		return refuse("", malformed.Error())
	case q.name == "":
		return refuse("", egress.ErrName.Error())
	case q.question.Class != dnsmessage.ClassINET, q.question.Type > 250 && q.question.Type < 256: // transfers, ANY
		return refuse("", "not a question about one kind of records")
	}
	v := s.config.Policy.Question(q.name)
	if !v.Allowed {
		return refuse(v.Rule, because(v))
	}
	f.note(func(r *record) { r.Verdict, r.Rule = "allowed", v.Rule })
	if q.question.Type == dnsmessage.TypeSVCB || q.question.Type == dnsmessage.TypeHTTPS {
		// They bring addresses that are nobody's answer, and keys that encrypt the name in a handshake.
		f.note(func(r *record) { r.Reason = "answered with none" })
		return q.reply(dnsmessage.RCodeSuccess, "")
	}
	answer, err := s.lookUp(s.ctx, q, network)
	if err != nil {
		f.fail(err)
		return q.reply(dnsmessage.RCodeServerFailure, "")
	}
	return answer, nil
}

// because is why a verdict without a rule is what it is.
func because(v egress.Verdict) string {
	if v.Rule != "" {
		return ""
	}
	return "no rule allows it"
}

// lookUp asks the host's resolvers, and pins the addresses that they answer with.
func (s *Stack) lookUp(ctx context.Context, q *query, network string) ([]byte, error) {
	question, err := q.pack()
	if err != nil {
		return nil, err
	}
	answer, err := s.dns.exchange(ctx, question, network)
	if err != nil {
		return nil, err
	}
	return answer, s.pin(q, answer)
}

var errAnswer = errors.New("the resolver's answer is to another question, or is broken")

// pin notes the addresses of an answer: those of the name that was asked for, and of what it is
// another name for (CNAME).
func (s *Stack) pin(q *query, answer []byte) error {
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	if err != nil || !h.Response || h.ID != q.header.ID {
		return errAnswer
	}
	asked, err := p.AllQuestions()
	if err != nil || len(asked) != 1 || asked[0].Type != q.question.Type || asked[0].Class != q.question.Class || !sameName(asked[0].Name, q.question.Name) {
		return errAnswer
	}
	type found struct {
		address netip.Addr
		ttl     uint32
	}
	addresses, aliases := map[string][]found{}, map[string]string{}
	aliasTTL := map[string]uint32{}
	for {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return errAnswer
		}
		owner := strings.ToLower(rh.Name.String())
		switch {
		case rh.Class == dnsmessage.ClassINET && rh.Type == dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return errAnswer
			}
			addresses[owner] = append(addresses[owner], found{netip.AddrFrom4(r.A), rh.TTL})
		case rh.Class == dnsmessage.ClassINET && rh.Type == dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return errAnswer
			}
			addresses[owner] = append(addresses[owner], found{netip.AddrFrom16(r.AAAA), rh.TTL})
		case rh.Class == dnsmessage.ClassINET && rh.Type == dnsmessage.TypeCNAME:
			r, err := p.CNAMEResource()
			if err != nil {
				return errAnswer
			}
			aliases[owner], aliasTTL[owner] = strings.ToLower(r.CNAME.String()), rh.TTL
		default:
			if p.SkipAnswer() != nil {
				return errAnswer
			}
		}
	}
	owner, ttl := strings.ToLower(q.question.Name.String()), ^uint32(0)
	for range maxAliases {
		for _, a := range addresses[owner] {
			s.pins.add(q.name, a.address, time.Duration(min(ttl, a.ttl))*time.Second)
		}
		next, ok := aliases[owner]
		if !ok {
			break
		}
		owner, ttl = next, min(ttl, aliasTTL[owner])
	}
	return nil
}

const maxAliases = 16 // one after the other

func sameName(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }

// addressesOf are those of a name by which a flow goes, asked for where none is known.
func (s *Stack) addressesOf(ctx context.Context, name string) []netip.Addr {
	if known := s.pins.addresses(name); len(known) > 0 {
		return known
	}
	text, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil
	}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		q := query{
			header: dnsmessage.Header{RecursionDesired: true}, name: name, edns: true, size: maxEDNS,
			question: dnsmessage.Question{Name: text, Type: kind, Class: dnsmessage.ClassINET},
		}
		s.lookUp(ctx, &q, "udp")
	}
	return s.pins.addresses(name)
}

// typeText is what a kind of records is called.
func typeText(t dnsmessage.Type) string {
	if name, ok := strings.CutPrefix(t.String(), "Type"); ok {
		return name
	}
	return "TYPE" + strconv.Itoa(int(t)) // RFC 3597
}
