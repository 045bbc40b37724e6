package policy

import "encoding/binary"

// A program is classic BPF (filter.h, struct sock_filter), built from its end:
// every jump goes forward, so what it jumps to already stands when it is written.
// No second pass patches offsets, and an equal tail is written once.
type program struct {
	rev  []instruction // the last instruction first
	rets map[uint32]label
}

type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// A label is a place in a program, counted from its end: the instruction at
// label l has l-1 instructions after it.
type label int

// Opcodes: linux/bpf_common.h. Only what the kernel also understands when it
// looks ahead for calls that are always allowed (seccomp_is_const_allow, Linux
// 5.11): those then cost no program at all.
const (
	opLoad = 0x20 // BPF_LD  | BPF_W   | BPF_ABS
	opAnd  = 0x54 // BPF_ALU | BPF_AND | BPF_K
	opJump = 0x05 // BPF_JMP | BPF_JA
	opEQ   = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	opGT   = 0x25 // BPF_JMP | BPF_JGT | BPF_K
	opGE   = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	opRet  = 0x06 // BPF_RET | BPF_K
)

// maxProgram is the kernel's BPF_MAXINSNS.
const maxProgram = 4096

const farthest = 255 // a conditional jump's reach: jt and jf are bytes

func (p *program) push(i instruction) label {
	p.rev = append(p.rev, i)
	return label(len(p.rev))
}

// here is the label of the instruction written last: the one a new instruction falls into.
func (p *program) here() label { return label(len(p.rev)) }

// near returns a label for target that a conditional jump can reach even after
// spare more instructions.
func (p *program) near(target label, spare int) label {
	if len(p.rev)+spare-int(target) <= farthest {
		return target
	}
	return p.jump(target)
}

func (p *program) jump(target label) label {
	return p.push(instruction{code: opJump, k: uint32(len(p.rev) - int(target))})
}

// ret returns the label of a return of action, one in reach if there is one.
func (p *program) ret(action uint32) label {
	if l, ok := p.rets[action]; ok && len(p.rev)-int(l) < farthest {
		return l
	}
	l := p.push(instruction{code: opRet, k: action})
	if p.rets == nil {
		p.rets = map[uint32]label{}
	}
	p.rets[action] = l
	return l
}

// branch compares the accumulator with k.
func (p *program) branch(op uint16, k uint32, yes, no label) label {
	if yes == no {
		return yes
	}
	// The second jump may push the first target out of reach: hence the spare one.
	no = p.near(no, 1)
	yes = p.near(yes, 0)
	n := len(p.rev)
	return p.push(instruction{op, uint8(n - int(yes)), uint8(n - int(no)), k})
}

// then writes an instruction that falls into next.
func (p *program) then(i instruction, next label) label {
	if next != p.here() {
		p.jump(next)
	}
	return p.push(i)
}

func (p *program) load(offset uint32, next label) label {
	return p.then(instruction{code: opLoad, k: offset}, next)
}

func (p *program) and(mask uint32, next label) label {
	return p.then(instruction{code: opAnd, k: mask}, next)
}

// bytes is the program as the kernel reads it. Little-endian: so are all
// machines that have a table here.
func (p *program) bytes() []byte {
	out := make([]byte, 0, 8*len(p.rev))
	for n := len(p.rev) - 1; n >= 0; n-- {
		i := p.rev[n]
		out = binary.LittleEndian.AppendUint16(out, i.code)
		out = append(out, i.jt, i.jf)
		out = binary.LittleEndian.AppendUint32(out, i.k)
	}
	return out
}
