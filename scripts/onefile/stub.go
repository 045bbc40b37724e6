package main

import "debug/elf"

// stubs are the first instructions, by machine. A process begins with argc and argv on the
// stack; of argv[0] eight bytes are compared, which are there: the environment, or the name
// of the file, follows. Behind the code is a table of names and addresses; no name ends it, and
// its address is where everything else goes on.
var stubs = map[elf.Machine][]byte{
	elf.EM_X86_64: {
		0x48, 0x8d, 0x35, 0x29, 0x00, 0x00, 0x00, //       lea  rsi, [rip+table]
		0x48, 0x8b, 0x44, 0x24, 0x08, //                   mov  rax, [rsp+8]     argv[0]
		0x48, 0x85, 0xc0, //                               test rax, rax         execve(2) with no arguments
		0x74, 0x03, //                                     jz   next
		0x48, 0x8b, 0x00, //                               mov  rax, [rax]
		0x48, 0x8b, 0x0e, //                         next: mov  rcx, [rsi]
		0x48, 0x85, 0xc9, //                               test rcx, rcx
		0x74, 0x0b, //                                     jz   go
		0x48, 0x39, 0xc8, //                               cmp  rax, rcx
		0x74, 0x06, //                                     je   go
		0x48, 0x83, 0xc6, 0x10, //                         add  rsi, 16
		0xeb, 0xed, //                                     jmp  next
		0xff, 0x66, 0x08, //                         go:   jmp  [rsi+8]
		0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
	},
	elf.EM_AARCH64: words(
		0x10000181, //       adr  x1, table
		0xf94007e0, //       ldr  x0, [sp, #8]    argv[0]
		0xb4000040, //       cbz  x0, next
		0xf9400000, //       ldr  x0, [x0]
		0xf9400022, // next: ldr  x2, [x1]
		0xb40000a2, //       cbz  x2, go
		0xeb02001f, //       cmp  x0, x2
		0x54000060, //       b.eq go
		0x91004021, //       add  x1, x1, #16
		0x17fffffb, //       b    next
		0xf9400423, // go:   ldr  x3, [x1, #8]
		0xd61f0060, //       br   x3
	),
}

func words(instructions ...uint32) (code []byte) {
	for _, w := range instructions {
		code = append(code, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	return code
}
