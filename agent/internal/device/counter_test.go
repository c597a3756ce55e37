package device

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

func (e *emulator) index(index string) string { return "tpm://" + e.path + "?index=" + index }

func (e *emulator) counter(index string) *Counter {
	e.t.Helper()
	c, err := OpenCounter(e.index(index))
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// value holds that a counter was incremented before and returns its count.
func value(t *testing.T, c *Counter) uint64 {
	t.Helper()
	n, fresh, err := c.Value()
	if fresh || err != nil {
		t.Fatalf("value: %d, %v, %v", n, fresh, err)
	}
	return n
}

func increment(t *testing.T, c *Counter) {
	t.Helper()
	if err := c.Increment(); err != nil {
		t.Fatal(err)
	}
}

func TestCounter(t *testing.T) {
	e := newEmulator(t)
	c := e.counter("0x01810010")
	for range 2 {
		if n, fresh, err := c.Value(); n != 0 || !fresh || err != nil {
			t.Fatalf("a new one: %d, %v, %v", n, fresh, err)
		}
		c = e.counter("0x01810010") // opening it again changes nothing
	}
	increment(t, c)
	first := value(t, c)
	for i := range uint64(5) {
		if n := value(t, c); n != first+i {
			t.Fatalf("count %d, want %d", n, first+i)
		}
		increment(t, c)
	}
	e.restart()
	if n := value(t, c); n != first+5 { // opened before the power went
		t.Errorf("after a power cycle it is %d, want %d", n, first+5)
	}
	if n := value(t, e.counter("0x01810010")); n != first+5 {
		t.Errorf("opened again it is %d, want %d", n, first+5)
	}
	// Another index is another counter.
	other := e.counter("0x01810011")
	if _, fresh, err := other.Value(); !fresh || err != nil {
		t.Errorf("another index: %v, %v", fresh, err)
	}
	increment(t, other)
	if n := value(t, c); n != first+5 {
		t.Errorf("counted with another, to %d", n)
	}
	// One that was removed and made again says so, and never counts below what it was.
	e.undefine(t, 0x01810010)
	if _, _, err := c.Value(); err == nil {
		t.Error("a counter that was removed has a value")
	}
	if err := c.Increment(); err == nil {
		t.Error("a counter that was removed counts")
	}
	c = e.counter("0x01810010")
	if _, fresh, err := c.Value(); !fresh || err != nil {
		t.Errorf("made again: %v, %v", fresh, err)
	}
	increment(t, c)
	if n := value(t, c); n <= first+5 {
		t.Errorf("removed at %d and made again, it counts from %d", first+5, n)
	}
}

// TestCounterAndKeyTogether holds that the one does not disturb the other, also at the same time within one process.
func TestCounterAndKeyTogether(t *testing.T) {
	e := newEmulator(t)
	c := e.counter("0x01810010")
	increment(t, c)
	before := value(t, c)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 3 {
				if err := c.Increment(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	if n := value(t, c); n != before+12 {
		t.Errorf("count %d, want %d", n, before+12)
	}
	key, err := Create(e.place("0x81010001"))
	if err != nil {
		t.Fatal(err)
	}
	sign(t, key)
	if n := value(t, c); n != before+12 {
		t.Errorf("count %d, want %d", n, before+12)
	}
}

func TestCounterRefuses(t *testing.T) {
	e := newEmulator(t)
	// What others keep in non-volatile memory is neither used nor replaced.
	data := counterAt(0x01810020)
	data.Attributes.NT = tpm2.TPMNTOrdinary
	e.define(t, data)
	orderly := counterAt(0x01810021)
	orderly.Attributes.Orderly = true
	e.define(t, orderly)
	for _, index := range []string{"0x01810020", "0x01810021"} {
		if _, err := OpenCounter(e.index(index)); err == nil || !strings.Contains(err.Error(), "choose another index") {
			t.Errorf("%s: %v", index, err)
		}
	}
	c := e.counter("0x01810010")
	e.stop()
	if _, err := OpenCounter(e.index("0x01810010")); err == nil {
		t.Error("opened in a TPM that does not answer")
	}
	if err := os.RemoveAll(e.path); err != nil {
		t.Fatal(err)
	}
	if _, fresh, err := c.Value(); fresh || err == nil {
		t.Errorf("a TPM that is not there has a value: %v, %v", fresh, err)
	}
	if err := c.Increment(); err == nil {
		t.Error("a TPM that is not there counts")
	}
}

func TestCheckCounter(t *testing.T) {
	for _, where := range []string{"tpm:///dev/tpmrm0?index=0x01810010", "tpm:/dev/tpmrm0?index=0x1800000", "tpm:///dev/tpmrm0?index=0x01bfffff"} {
		if err := CheckCounter(where); err != nil {
			t.Error(err)
		}
	}
	for _, where := range []string{
		"", "counter", "/var/lib/counter", "tpm:", "tpm:///dev/tpmrm0", "tpm:///dev/tpmrm0?handle=0x01810010", "tpm:///dev/tpmrm0?index=",
		"tpm:///dev/tpmrm0?index=0x017fffff", "tpm:///dev/tpmrm0?index=0x01c00000", "tpm:///dev/tpmrm0?index=0x01810010&index=0x01810011",
		"tpm:///dev/tpmrm0?index=0x01810010&auth=secret", "tpm://host/dev/tpmrm0?index=0x01810010", "tpm:dev/tpmrm0?index=0x01810010",
		"tpm:///dev/tpmrm0?index=0x01810010#x", "/dev/tpmrm0?index=0x01810010",
	} {
		if err := CheckCounter(where); err == nil {
			t.Errorf("%q is accepted", where)
		}
		if _, err := OpenCounter(where); err == nil {
			t.Errorf("%q is opened", where)
		}
	}
}

// define makes something else at an index.
func (e *emulator) define(t *testing.T, public tpm2.TPMSNVPublic) {
	t.Helper()
	tpm, err := connect(e.path)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}

// undefine removes what is at an index.
func (e *emulator) undefine(t *testing.T, index uint32) {
	t.Helper()
	tpm, err := connect(e.path)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: &tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: r.NVName}}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}
