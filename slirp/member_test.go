//go:build !hot

package slirp

import (
	"fmt"
	"net/netip"
	"testing"
)

// Every address has a hardware address of its own, of which no bit of the first is left out, and
// that is nobody else's.
func TestHardwareAddresses(t *testing.T) {
	seen := map[[6]byte]string{stackMAC: "the stack's", sandboxMAC: "a lone sandbox's"}
	try := func(text string) {
		p := netip.MustParsePrefix(text)
		c := Config{IPv6: Family{Address: p}, Member: &Member{}}
		if p.Addr().Is4() {
			c = Config{IPv4: Family{Address: p}, Member: &Member{}}
		}
		mac := c.mac()
		if other, taken := seen[mac]; taken {
			t.Errorf("%x is that of %s and %s", mac, text, other)
		}
		if mac[0]&3 != 2 {
			t.Errorf("%s: %x is not one that is given locally, to one host", text, mac)
		}
		seen[mac] = text
	}
	for i := range 2000 {
		try(fmt.Sprintf("10.1.%d.%d/16", i/256, i%256))
		try(fmt.Sprintf("fd00::%x/64", i+1))
		try(fmt.Sprintf("fd00::%x:0:0:5/64", i+1))
		try(fmt.Sprintf("fd00:%x::5/16", i+1))
	}
}

// Two members whose hardware addresses are the same, which only a made-up one has, do not meet.
func TestHardwareAddressTaken(t *testing.T) {
	w := NewSwitch()
	if _, err := w.join(memberConfig(2)); err != nil {
		t.Fatal(err)
	}
	same := memberConfig(2)
	same.IPv6.Address = netip.MustParsePrefix("fd00::99/64")
	if _, err := w.join(same); err != errTaken {
		t.Errorf("%v", err)
	}
}
