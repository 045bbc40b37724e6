// Command onefile makes one executable of several.
//
//	onefile OUT PROGRAM [NAME[,NAME...]=PROGRAM ...]
//
// OUT is the first program, with the segments of the others beside its own. Its first
// instructions look at argv[0], and go on in the program that a NAME is given for, or in the
// first. So the kernel maps whichever is asked for out of one file, and reads of it what is
// used; a program that is embedded as data has to be copied to memory first.
//
// The programs are static and not position-independent, and were linked to different
// addresses (go build -ldflags '-T ADDRESS'), the first to the lowest.
package main

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: onefile OUT PROGRAM [NAME[,NAME...]=PROGRAM ...]")
		os.Exit(2)
	}
	if err := join(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "onefile:", err)
		os.Exit(1)
	}
}

// align is enough for every page size that Go knows.
const align = 64 << 10

// stubAddress is where the first instructions are: between the first program and the others.
const stubAddress = 0x8000000

func join(out, first string, others []string) error {
	file, err := os.ReadFile(first)
	if err != nil {
		return err
	}
	main, err := parse(file)
	if err != nil {
		return fmt.Errorf("%s: %w", first, err)
	}
	code, ok := stubs[main.machine]
	if !ok {
		return fmt.Errorf("%s: no first instructions for %v", first, main.machine)
	}
	var table []byte
	segments := main.segments
	for _, arg := range others {
		names, path, _ := strings.Cut(arg, "=")
		program, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p, err := parse(program)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for name := range strings.SplitSeq(names, ",") {
			if len(name) < 7 { // and a NUL
				return fmt.Errorf("%s: too short a name", name)
			}
			var key [8]byte
			copy(key[:], name)
			table = binary.LittleEndian.AppendUint64(append(table, key[:]...), p.entry)
		}
		for _, s := range p.segments {
			if elf.ProgType(s.Type) != elf.PT_LOAD {
				continue
			}
			from := s.Off
			s.Off = at(&file, s.Vaddr)
			file = append(file, program[from:from+s.Filesz]...)
			segments = append(segments, s)
		}
	}
	table = binary.LittleEndian.AppendUint64(append(table, make([]byte, 8)...), main.entry)
	stub := append(code, table...)
	segments = append(segments, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: at(&file, stubAddress), Vaddr: stubAddress, Paddr: stubAddress,
		Filesz: uint64(len(stub)), Memsz: uint64(len(stub)), Align: align,
	})
	file = append(file, stub...)
	if err := order(segments); err != nil {
		return err
	}
	return os.WriteFile(out, header(file, segments), 0o755)
}

// at pads the file to an offset that the kernel can map to address.
func at(file *[]byte, address uint64) uint64 {
	for uint64(len(*file))%align != address%align {
		*file = append(*file, 0)
	}
	return uint64(len(*file))
}

type program struct {
	machine  elf.Machine
	entry    uint64
	segments []elf.Prog64
}

func parse(file []byte) (*program, error) {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("neither 64 bits, nor little endian, nor of a fixed address: %v %v %v", f.Class, f.Data, f.Type)
	}
	p := &program{f.Machine, f.Entry, nil}
	for _, s := range f.Progs {
		if s.Type == elf.PT_PHDR { // the table moves
			continue
		}
		p.segments = append(p.segments, elf.Prog64{
			Type: uint32(s.Type), Flags: uint32(s.Flags), Off: s.Off, Vaddr: s.Vaddr, Paddr: s.Paddr,
			Filesz: s.Filesz, Memsz: s.Memsz, Align: s.Align,
		})
	}
	return p, nil
}

// order sorts what is loaded by address, as the kernel wants it, before the rest, as those who
// read such files do.
func order(segments []elf.Prog64) error {
	load := func(s elf.Prog64) bool { return elf.ProgType(s.Type) == elf.PT_LOAD }
	slices.SortStableFunc(segments, func(a, b elf.Prog64) int {
		switch {
		case load(a) && load(b):
			return cmp.Compare(a.Vaddr, b.Vaddr)
		case load(a):
			return -1
		case load(b):
			return 1
		}
		return 0
	})
	end := uint64(0)
	for _, s := range segments {
		if load(s) && s.Vaddr < end {
			return fmt.Errorf("segments overlap at %#x", s.Vaddr)
		}
		end = max(end, s.Vaddr+s.Memsz)
	}
	return nil
}

// header puts the table of segments behind file, and makes its header say so.
func header(file []byte, segments []elf.Prog64) []byte {
	const entry, phoff, phnum = 24, 32, 56 // Elf64_Ehdr, elf(5)
	offset := at(&file, 0)
	table := new(bytes.Buffer)
	binary.Write(table, binary.LittleEndian, segments)
	binary.LittleEndian.PutUint64(file[entry:], stubAddress)
	binary.LittleEndian.PutUint64(file[phoff:], offset)
	binary.LittleEndian.PutUint16(file[phnum:], uint16(len(segments)))
	return append(file, table.Bytes()...)
}
