package source

import (
	"net"
	"testing"
)

type place string

func (p place) Network() string { return "tcp" }
func (p place) String() string  { return string(p) }

func TestOf(t *testing.T) {
	for _, c := range []struct {
		one, two string
		same     bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true}, {"192.0.2.1:1", "192.0.2.2:1", false}, {"192.0.2.1:1", "[::ffff:192.0.2.1]:2", true},
		{"[2001:db8::1]:1", "[2001:db8::2]:1", true}, {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false}, {"[fe80::1%a]:1", "[fe80::2%b]:1", true}, {"pipe", "@", true},
	} {
		if got := of(place(c.one)) == of(place(c.two)); got != c.same {
			t.Errorf("%s and %s are one source: %t", c.one, c.two, got)
		}
	}
}

// TestLimit: what comes beyond the bound is closed, and one that goes, though it is closed twice, makes place for one.
func TestLimit(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(inner, 2)
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	refused := func() {
		t.Helper()
		if _, err := dial().Read(make([]byte, 1)); err == nil {
			t.Error("more than the bound")
		}
	}
	dial()
	one := <-accepted
	dial()
	<-accepted
	refused()
	one.Close()
	one.Close()
	dial()
	<-accepted
	refused()
}
