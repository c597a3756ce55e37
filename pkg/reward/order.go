package reward

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"runtime"
	"slices"
	"sync"

	"rawstone/pkg/wire"
)

// SetHash returns the hash and total weight of a set of leaves whatever their order: SHA-256 over a tag, the number of leaves and each
// leaf in ascending order of pseudonyms. It refuses a leaf without weight, two of one pseudonym, and a total beyond 64 bits.
func SetHash(leaves []Leaf) (h wire.Hash, sum uint64, err error) {
	order := arrange(len(leaves),
		func(i int) uint64 { return binary.BigEndian.Uint64(leaves[i].Pseudonym[:]) },
		func(a, b int) int { return bytes.Compare(leaves[a].Pseudonym[:], leaves[b].Pseudonym[:]) })
	d := sha256.New()
	d.Write(append([]byte(tagSet), number(uint64(len(leaves)))...))
	var before wire.Hash
	var buf [len(before) + 8]byte
	for i, at := range order {
		l := &leaves[at]
		if l.Weight == 0 {
			return h, 0, errors.New("cannot use leaves: one has no weight")
		}
		if i > 0 && l.Pseudonym == before {
			return h, 0, errors.New("cannot use leaves: two have the same pseudonym")
		}
		if sum, err = add(sum, l.Weight); err != nil {
			return h, 0, err
		}
		before = l.Pseudonym
		binary.BigEndian.PutUint64(buf[copy(buf[:], before[:]):], l.Weight)
		d.Write(buf[:])
	}
	d.Sum(h[:0])
	return h, sum, nil
}

// Order returns the leaves in the order of the day's draw: ascending H(tag ‖ seed ‖ pseudonym). The seed must be later than the set of
// leaves, so that nobody can place an account.
func Order(seed wire.Hash, leaves []Leaf) []Leaf {
	key := func(i int) wire.Hash {
		var b [len(tagOrder) + 2*len(seed)]byte
		n := copy(b[:], tagOrder)
		n += copy(b[n:], seed[:])
		copy(b[n:], leaves[i].Pseudonym[:])
		return sha256.Sum256(b[:])
	}
	order := arrange(len(leaves),
		func(i int) uint64 { k := key(i); return binary.BigEndian.Uint64(k[:]) },
		func(a, b int) int {
			ka, kb := key(a), key(b)
			return cmp.Or(bytes.Compare(ka[:], kb[:]), bytes.Compare(leaves[a].Pseudonym[:], leaves[b].Pseudonym[:]))
		})
	ordered := make([]Leaf, len(leaves))
	spread(len(order), func(from, to int) {
		for i, at := range order[from:to] {
			ordered[from+i] = leaves[at]
		}
	})
	return ordered
}

// arrange returns the numbers 0 to n−1 in ascending order of their prefixes; tie compares two whose prefixes are equal. Prefixes are
// digits of a hash, so they spread evenly over buckets by their first bits, which makes the time linear; whatever they are, the result
// is right.
func arrange(n int, prefix func(int) uint64, tie func(a, b int) int) []int {
	type key struct {
		prefix uint64
		at     int
	}
	keys, sorted := make([]key, n), make([]key, n)
	spread(n, func(from, to int) {
		for i := from; i < to; i++ {
			keys[i] = key{prefix(i), i}
		}
	})
	// Eight to a bucket on average, and no more buckets than a cache holds places for.
	shift := 64 - min(max(bits.Len(uint(n))-4, 0), 18)
	ends := make([]int, 1<<(64-shift)+1)
	for _, k := range keys {
		ends[k.prefix>>shift+1]++
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	// Each start moves to its bucket's end, which is the next one's start.
	for _, k := range keys {
		b := k.prefix >> shift
		sorted[ends[b]] = k
		ends[b]++
	}
	order := make([]int, n)
	spread(len(ends)-1, func(from, to int) {
		begin := 0
		if from > 0 {
			begin = ends[from-1]
		}
		for _, end := range ends[from:to] {
			slices.SortFunc(sorted[begin:end], func(a, b key) int {
				if a.prefix != b.prefix {
					return cmp.Compare(a.prefix, b.prefix)
				}
				return tie(a.at, b.at)
			})
			for i := begin; i < end; i++ {
				order[i] = sorted[i].at
			}
			begin = end
		}
	})
	return order
}

// grain is how many hashes are worth a goroutine.
const grain = 512

// spread calls work on consecutive parts of [0, n), at once on all cores, and returns when all have returned. The parts write to
// places of their own, so that the result is that of one call.
func spread(n int, work func(from, to int)) {
	parts := min(runtime.GOMAXPROCS(0), n/grain)
	if parts < 2 {
		work(0, n)
		return
	}
	var wg sync.WaitGroup
	for p := range parts {
		wg.Go(func() { work(n/parts*p+n%parts*p/parts, n/parts*(p+1)+n%parts*(p+1)/parts) })
	}
	wg.Wait()
}
