//go:build !hot

package slirp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	"sbx/slirp/egress"
)

// nameTime is how long a flow may take to say by which name it goes.
const nameTime = 10 * time.Second

// judge decides on a flow, and notes the verdict. A refused one is at its end.
func (s *Stack) judge(f *flow, protocol string, dst netip.AddrPort) egress.Verdict {
	p := &s.config.Policy
	if p.Empty() && f == nil {
		return egress.Verdict{Allowed: true}
	}
	names := s.pins.names(dst.Addr())
	v := p.Flow(protocol, dst, names)
	if denied, no := s.deniesInner(protocol, dst); no {
		v = denied
	}
	if v.Name == "" && len(names) > 0 {
		v.Name = names[0]
	}
	f.note(func(r *record) { r.Rule, r.Name = v.Rule, v.Name })
	if !v.Allowed {
		s.denied.Add(1)
		f.refuse(because(v))
		return v
	}
	f.note(func(r *record) { r.Verdict = "allowed" })
	return v
}

// deniesInner: what is denied is also denied by way of a translator.
func (s *Stack) deniesInner(protocol string, dst netip.AddrPort) (egress.Verdict, bool) {
	for _, inner := range embedded(dst.Addr()) {
		if v, no := s.config.Policy.DeniesAddress(protocol, netip.AddrPortFrom(inner, dst.Port())); no {
			return v, true
		}
	}
	return egress.Verdict{}, false
}

// refused notes that an address which the rules would let out to is nobody's business, or that
// nobody answers there.
func (s *Stack) refused(f *flow, err error) {
	if errors.Is(err, errReserved) {
		s.denied.Add(1)
		f.refuse(errReserved.Error())
		return
	}
	f.fail(err)
	f.end()
}

// dialNamed waits for the name that the first bytes of a flow say, and connects to whoever that is,
// as far as the rules allow. It returns what has been read meanwhile.
func (s *Stack) dialNamed(f *flow, inside *endpoint, dst netip.AddrPort, v egress.Verdict) (*net.TCPConn, []byte, error) {
	if !s.unnamed.take() {
		f.refuse(errTooMany)
		return nil, nil, errReserved
	}
	first, name, nameErr := inside.firstName(s.ctx)
	s.unnamed.give()
	if nameErr != nil && !(nameless(nameErr) && v.Peek == egress.Unnamed) {
		s.denied.Add(1)
		f.note(func(r *record) { r.Name, r.Rule = "", "" })
		f.refuse(nameErr.Error())
		return nil, nil, nameErr
	}
	by := s.config.Policy.Named(v.Peek, name, dst.Port())
	if by.Allowed && v.Peek == egress.Unnamed {
		by = s.judgeUnnamed(by, name, dst)
	}
	f.note(func(r *record) {
		if by.Name != "" {
			r.Name = by.Name
		}
		if by.Rule != "" || !by.Allowed {
			r.Rule = by.Rule
		}
	})
	if !by.Allowed {
		s.denied.Add(1)
		f.refuse(because(by))
		return nil, nil, errReserved
	}
	if v.Peek == egress.Unnamed {
		conn, err := s.dialTCP(dst)
		return conn, first, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	err := errors.New("the name has no address")
	for _, a := range nearest(s.addressesOf(ctx, name), dst.Addr()) {
		to := netip.AddrPortFrom(a, dst.Port())
		if denied, no := s.config.Policy.DeniesAddress("tcp", to); no {
			f.note(func(r *record) { r.Rule = denied.Rule })
			err = errReserved
			continue
		}
		if denied, no := s.deniesInner("tcp", to); no {
			f.note(func(r *record) { r.Rule = denied.Rule })
			err = errReserved
			continue
		}
		var conn *net.TCPConn
		if conn, err = s.dialTCP(to); err == nil {
			if a != dst.Addr() {
				f.note(func(r *record) { r.Connected = a.String() })
			}
			return conn, first, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil, err
}

// judgeUnnamed judges a flow to an address that a denied name has, too: it must go by another name which
// that address really has. v is its verdict but for that.
func (s *Stack) judgeUnnamed(v egress.Verdict, name string, dst netip.AddrPort) egress.Verdict {
	for _, other := range s.pins.names(dst.Addr()) {
		denied := s.config.Policy.Named(egress.Unnamed, other, dst.Port())
		if denied.Allowed || name == other {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
		defer cancel()
		if name != "" && slices.Contains(s.addressesOf(ctx, name), dst.Addr()) {
			return v
		}
		return denied
	}
	return v
}

// firstName reads from the sandbox until it knows by which name the flow goes, or that there
// is none.
func (e *endpoint) firstName(ctx context.Context) (first []byte, name string, err error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	timer := time.NewTimer(nameTime)
	defer timer.Stop()
	for {
		n := len(first)
		first = append(first, make([]byte, min(2<<10, maxFirst-n))...)
		read, readErr := e.fill(first[n:])
		first = first[:n+read]
		if read > 0 {
			if name, err = nameOf(first); err != errMore {
				return first, name, err
			}
		}
		switch readErr.(type) {
		case nil:
			continue
		case *tcpip.ErrWouldBlock:
		default:
			return first, "", errMore
		}
		select {
		case <-ready:
		case <-timer.C:
			return first, "", errors.New("the flow does not say by which name it goes")
		case <-ctx.Done():
			return first, "", ctx.Err()
		}
	}
}
