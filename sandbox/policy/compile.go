package policy

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Offsets in struct seccomp_data: nr, arch, instruction pointer, six arguments.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

const x32Bit = 0x40000000 // of a call's number: the x32 ABI, under amd64's own arch

// assemble makes the program of v for the machine arch and those beside it:
//
//	ld arch; one section for each machine; any other kills
//	section: ld nr; a binary search over ranges of numbers with one verdict
//	verdict: return, or tests of arguments and then return
//
// A foreign arch is a way round the table (int 0x80 from 64-bit code), so it
// kills the process; x32 numbers are not calls at all.
func assemble(v *verdicts, machines []machine) ([]byte, error) {
	var p program
	p.rets = map[uint32]label{}
	entry := p.ret(actKillProcess)
	for i := len(machines) - 1; i >= 0; i-- { // the first machine is asked for first
		ranges := rangesOf(v, machines[i])
		start, err := p.section(ranges)
		if err != nil {
			return nil, err
		}
		entry = p.branch(opEQ, machines[i].audit, start, entry)
	}
	p.load(dataArch, entry)
	if len(p.rev) > maxProgram {
		return nil, errTooLong()
	}
	return p.bytes(), nil
}

func errTooLong() error { return fmt.Errorf("more than %d instructions", maxProgram) }

// A numberRange is a run of call numbers, from first to the next range, with one verdict.
type numberRange struct {
	first   uint32
	verdict verdict
	key     string // equal for equal verdicts
}

func rangesOf(v *verdicts, m machine) []numberRange {
	table := syscallsOf(m.arch)
	var ranges []numberRange
	add := func(first int, said verdict) {
		key := said.key()
		if n := len(ranges); n == 0 || ranges[n-1].key != key {
			ranges = append(ranges, numberRange{uint32(first), said, key})
		}
	}
	for nr, said := range v.byNumber(table) {
		add(nr, said)
	}
	add(len(table), v.of("", true))
	if m.arch == "amd64" {
		add(x32Bit, deny(enosys))
	}
	return ranges
}

// key writes a verdict as a string, so that equal ones share their instructions.
func (v verdict) key() string {
	b := binary.LittleEndian.AppendUint32(nil, v.last)
	for _, r := range v.rules {
		b = binary.LittleEndian.AppendUint32(b, r.action)
		b = append(b, byte(len(r.tests)))
		for _, t := range r.tests {
			b = append(b, byte(t.arg), byte(t.op))
			b = binary.LittleEndian.AppendUint64(b, t.value)
			b = binary.LittleEndian.AppendUint64(b, t.value2)
		}
	}
	return string(b)
}

func (p *program) section(ranges []numberRange) (label, error) {
	tests := map[string]label{}
	for _, r := range ranges {
		if _, ok := tests[r.key]; ok || len(r.verdict.rules) == 0 {
			continue
		}
		tests[r.key] = p.verdict(r.verdict)
		if len(p.rev) > maxProgram {
			return 0, errTooLong()
		}
	}
	return p.load(dataNr, p.search(ranges, tests)), nil
}

// search leads to the verdict of the range that holds the number in the accumulator.
func (p *program) search(ranges []numberRange, tests map[string]label) label {
	if len(ranges) == 1 {
		if l, ok := tests[ranges[0].key]; ok {
			return l
		}
		return p.ret(ranges[0].verdict.last)
	}
	middle := len(ranges) / 2
	above := p.search(ranges[middle:], tests)
	below := p.search(ranges[:middle], tests)
	return p.branch(opGE, ranges[middle].first, above, below)
}

func (p *program) verdict(v verdict) label {
	next := p.ret(v.last)
	for i := len(v.rules) - 1; i >= 0; i-- {
		r := v.rules[i]
		holds := p.ret(r.action)
		for n := len(r.tests) - 1; n >= 0; n-- {
			holds = p.test(r.tests[n], holds, next)
		}
		next = holds
		if len(p.rev) > maxProgram {
			break // section reports it
		}
	}
	return next
}

// test compares one argument, 64 bits in two halves: the upper one decides unless it is equal.
func (p *program) test(t test, yes, no label) label {
	value, mask := t.value, uint64(math.MaxUint64)
	switch t.op {
	case opArgEQ:
		return p.equal(t.arg, value, mask, yes, no)
	case opArgNE:
		return p.equal(t.arg, value, mask, no, yes)
	case opArgMasked:
		return p.equal(t.arg, t.value2, t.value, yes, no)
	case opArgGT:
		return p.greater(opGT, t.arg, value, yes, no)
	case opArgGE:
		return p.greater(opGE, t.arg, value, yes, no)
	case opArgLE:
		return p.greater(opGT, t.arg, value, no, yes)
	case opArgLT:
		return p.greater(opGE, t.arg, value, no, yes)
	}
	panic(fmt.Sprintf("bug: seccomp test with operator %d", t.op))
}

func (p *program) equal(arg int, value, mask uint64, yes, no label) label {
	if value&^mask != 0 {
		return no // arg & mask has none of these bits
	}
	lower, upper := dataArgs+8*uint32(arg), dataArgs+8*uint32(arg)+4
	l := p.half(lower, uint32(value), uint32(mask), yes, no)
	return p.half(upper, uint32(value>>32), uint32(mask>>32), l, no)
}

func (p *program) half(offset, value, mask uint32, yes, no label) label {
	if mask == 0 {
		return yes // and value is 0: see equal
	}
	l := p.branch(opEQ, value, yes, no)
	if mask != math.MaxUint32 {
		l = p.and(mask, l)
	}
	return p.load(offset, l)
}

func (p *program) greater(op uint16, arg int, value uint64, yes, no label) label {
	lower, upper := dataArgs+8*uint32(arg), dataArgs+8*uint32(arg)+4
	l := p.load(lower, p.branch(op, uint32(value), yes, no))
	l = p.branch(opEQ, uint32(value>>32), l, no)
	l = p.branch(opGT, uint32(value>>32), yes, l)
	return p.load(upper, l)
}
