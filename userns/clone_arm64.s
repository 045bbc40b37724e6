#include "textflag.h"

// func cloneShared(flags uintptr, stack *byte, pidfd *int32, calls []call, report int) (pid, errno uintptr)
//
// The child has the registers of the parent but for the stack pointer.
TEXT ·cloneShared(SB),NOSPLIT,$0-72
	MOVD	flags+0(FP), R0
	MOVD	stack+8(FP), R1
	MOVD	pidfd+16(FP), R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	calls_base+24(FP), R9
	MOVD	calls_len+32(FP), R10
	MOVD	report+48(FP), R11
	MOVD	$220, R8 // SYS_clone
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCC	ok
	MOVD	$-1, R4
	MOVD	R4, pid+56(FP)
	NEG	R0, R0
	MOVD	R0, errno+64(FP)
	RET
ok:
	MOVD	R0, pid+56(FP)
	MOVD	ZR, errno+64(FP)
	RET
child:
	SUB	$48, RSP
	MOVD	R9, 8(RSP) // above the place of the link register
	MOVD	R10, 16(RSP)
	MOVD	R10, 24(RSP)
	MOVD	R11, 32(RSP)
	MOVD	$·live(SB), R0 // not called by name: the linker takes it for endless recursion
	CALL	(R0)
	BRK
