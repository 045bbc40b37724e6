//go:build !hot

package slirp

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// put makes b what it is after a frame has been read, and returns the size of that.
func (b *frameBuffer) put(frame []byte) (n int) {
	n = vnetHeader + copy(b.head[:], frame)
	for i := range b.bodies {
		b.bodies[i] = buffer.NewViewSize(frameBody)
		if at := frameHead + i*frameBody; at < len(frame) {
			n += copy(b.bodies[i].AsSlice(), frame[at:])
		}
	}
	return n
}

// streamFrame is a segment of TCP over IPv4 that has options as long as said, with FIN, PSH and CWR.
func streamFrame(options int, payload []byte) []byte {
	size := header.TCPMinimumSize + options
	b := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+size, 1<<19)
	header.Ethernet(b).Encode(&header.EthernetFields{DstAddr: tcpip.LinkAddress(stackMAC[:]), Type: header.IPv4ProtocolNumber})
	total := header.IPv4MinimumSize + size + len(payload)
	if total > 0xffff {
		total = 0
	}
	ip := header.IPv4(b[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(total), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 2, 100}), DstAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 20}),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	header.TCP(ip[header.IPv4MinimumSize:]).Encode(&header.TCPFields{
		SeqNum: 0xffff0000, DataOffset: uint8(size), Flags: header.TCPFlagAck | header.TCPFlagFin | header.TCPFlagPsh | header.TCPFlagCwr,
	})
	return append(b, payload...)
}

// packets are the frames that the stack gets.
func (b *frameBuffer) packets(n int) (frames [][]byte, ok bool) {
	ok = b.each(n, func(pkt *stack.PacketBuffer) {
		view := pkt.ToView()
		frames = append(frames, bytes.Clone(view.AsSlice()))
		view.Release()
		pkt.DecRef()
	})
	return frames, ok
}

func TestLongFrame(t *testing.T) {
	payload := make([]byte, longFrame+frameHead)
	for i := range payload {
		payload[i] = byte(i * 7 % 251)
	}
	for _, options := range []int{0, 12, 40} {
		headers := header.EthernetMinimumSize + header.IPv4MinimumSize + header.TCPMinimumSize + options
		for size, want := range map[int]int{
			1: 1, 1000: 1, 65535 + 14 - headers: 1, 65535 + 15 - headers: 2, frameHead + frameBody - headers: 1,
			frameHead + 2*frameBody - headers: 2, frameHead + 2*frameBody + 1 - headers: 3, longFrame - headers: 4,
			frameHead + 4*frameBody - headers: 0,
		} {
			var b frameBuffer
			got, ok := b.packets(b.put(streamFrame(options, payload[:size])))
			if ok != (want > 0) || len(got) != want {
				t.Errorf("%d bytes and %d of options: %v, %d packets, not %d", size, options, ok, len(got), want)
			} else if ok {
				checkStream(t, got, payload[:size])
			}
		}
	}
}

// checkStream: frames are whole segments, one after the other, of what was sent.
func checkStream(t *testing.T, frames [][]byte, payload []byte) {
	t.Helper()
	var got []byte
	for i, one := range frames {
		ip := header.IPv4(one[header.EthernetMinimumSize:])
		tcp := header.TCP(ip[ip.HeaderLength():])
		if int(ip.TotalLength()) != len(ip) || !ip.IsChecksumValid() || tcp.SequenceNumber() != 0xffff0000+uint32(len(got)) {
			t.Errorf("packet %d of %d: length %d, not %d, sequence number %x", i, len(frames), ip.TotalLength(), len(ip), tcp.SequenceNumber())
		}
		want := header.TCPFlagAck
		if i == 0 {
			want |= header.TCPFlagCwr
		}
		if i == len(frames)-1 {
			want |= header.TCPFlagFin | header.TCPFlagPsh
		}
		if tcp.Flags() != want {
			t.Errorf("packet %d of %d: flags %v, not %v", i, len(frames), tcp.Flags(), want)
		}
		got = append(got, tcp[tcp.DataOffset():]...)
	}
	if !bytes.Equal(got, payload) {
		t.Errorf("%d bytes came of %d, or others", len(got), len(payload))
	}
}

// FuzzLongFrame: whatever the headers are, what comes out are packets as long as they say.
func FuzzLongFrame(f *testing.F) {
	f.Add(streamFrame(12, nil), uint32(100000))
	f.Add(streamFrame(40, nil), uint32(longFrame))
	f.Add(udpFrame(40, nil), uint32(70000))
	f.Fuzz(func(t *testing.T, head []byte, size uint32) {
		frame := append(head, make([]byte, size%(1<<19))...)
		var b frameBuffer
		n := b.put(frame)
		if !b.forStack(n) {
			return
		}
		got, _ := b.packets(n)
		for _, one := range got[:max(0, len(got)-1)] {
			if ip := header.IPv4(one[header.EthernetMinimumSize:]); int(ip.TotalLength()) != len(ip) || !ip.IsChecksumValid() {
				t.Fatalf("a packet of %d bytes: %x", len(ip), one[:frameHead])
			}
		}
	})
}
