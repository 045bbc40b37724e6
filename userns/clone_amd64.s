#include "textflag.h"

// func cloneShared(flags uintptr, stack *byte, pidfd *int32, calls []call, report int) (pid, errno uintptr)
//
// The child has the registers of the parent but for the stack pointer.
TEXT ·cloneShared(SB),NOSPLIT,$0-72
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	pidfd+16(FP), DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	calls_base+24(FP), R12
	MOVQ	calls_len+32(FP), R13
	MOVQ	report+48(FP), R9
	MOVQ	$56, AX // SYS_clone
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, pid+56(FP)
	NEGQ	AX
	MOVQ	AX, errno+64(FP)
	RET
ok:
	MOVQ	AX, pid+56(FP)
	MOVQ	$0, errno+64(FP)
	RET
child:
	PUSHQ	R9
	PUSHQ	R13
	PUSHQ	R13
	PUSHQ	R12
	MOVQ	$·live(SB), AX // not called by name: the linker takes it for endless recursion
	CALL	AX
	INT	$3
