package claim

import (
	"bytes"
	"math/rand/v2"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"testing"

	"rawstone/pkg/wire"
)

// mutationsEnv is the number of mutations to try, where 10,000 are too few.
const mutationsEnv = "RAWSTONE_MUTATIONS"

// maxCheckAlloc bounds the memory in bytes that checking one claim may allocate.
const maxCheckAlloc = 1 << 20

// TestRandomMutations alters a valid claim at random, 10,000 times or as often as RAWSTONE_MUTATIONS says: none is accepted, and none
// makes its verifier allocate more than 1 MiB.
func TestRandomMutations(t *testing.T) {
	n := 10_000
	if text := os.Getenv(mutationsEnv); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			t.Fatalf("%s=%q is no number of mutations", mutationsEnv, text)
		}
	}
	j, c := goodClaim(t)
	good := encoded(t, c)
	random := rand.New(rand.NewPCG(1, uint64(n)))
	var most uint64
	decoded, reached := 0, 0
	for range n {
		b := mutate(random, good)
		before := allocated()
		err := j.check(b)
		most = max(most, allocated()-before)
		if err == nil {
			t.Fatalf("accepted: %x", b)
		}
		if _, err := wire.DecodeClaim(b); err == nil {
			decoded++
		}
		if err.Error() == "cannot verify proof: it does not prove the statement" {
			reached++
		}
	}
	t.Logf("%d mutations: %d decoded, %d reached the pairing; at most %d bytes allocated", n, decoded, reached, most)
	if most > maxCheckAlloc {
		t.Errorf("a claim made its verifier allocate %d bytes, at most %d allowed", most, maxCheckAlloc)
	}
	if decoded < n/10 || reached < n/100 {
		t.Errorf("of %d mutations %d decoded and %d reached the pairing: they test little", n, decoded, reached)
	}
}

// allocated returns the bytes allocated on the heap so far. It is exact for what matters here, large objects.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// mutate returns the bytes altered in one to four places, never as they were.
func mutate(random *rand.Rand, good []byte) []byte {
	for {
		b := slices.Clone(good)
		for range 1 + random.IntN(4) {
			at := random.IntN(len(b))
			if random.IntN(2) == 0 {
				at = len(b) - 1 - random.IntN(min(len(b), 128)) // within the proof
			}
			end := min(len(b), at+1+random.IntN(32))
			switch random.IntN(8) {
			case 0, 1, 2:
				b[at] ^= 1 << random.IntN(8)
			case 3:
				b[at] = byte(random.Uint32())
			case 4: // a length or a head of another kind
				b[at] = []byte{0, 0x5b, 0x9b, 0xbb, 0x7f, 0xff, 0x80, 0xc2}[random.IntN(8)]
			case 5:
				for i := at; i < end; i++ {
					b[i] = byte(random.Uint32())
				}
			case 6:
				copy(b[at:end], good[random.IntN(len(good)):])
			case 7:
				if random.IntN(2) == 0 && len(b) > end-at {
					b = slices.Delete(b, at, end)
				} else {
					b = slices.Insert(b, at, slices.Clone(b[at:end])...)
				}
			}
		}
		if !bytes.Equal(b, good) {
			return b
		}
	}
}

// FuzzClaim feeds the whole check: what it accepts is the good claim, which the fuzzer cannot re-randomise.
func FuzzClaim(f *testing.F) {
	j, c := goodClaim(f)
	good := encoded(f, c)
	f.Add(good)
	for _, forged := range forgeries(f, c) {
		f.Add(forged.claim)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := j.check(b); err == nil && !bytes.Equal(b, good) {
			t.Errorf("accepted: %x", b)
		}
	})
}
