package dp

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var (
	_ encoding.BinaryAppender    = (*Moments)(nil)
	_ encoding.BinaryUnmarshaler = (*Moments)(nil)
)

func moments(t testing.TB, dim int) *Moments {
	t.Helper()
	m, err := NewMoments(dim)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func add(t testing.TB, m *Moments, x ...int64) {
	t.Helper()
	if err := m.Add(x); err != nil {
		t.Fatal(err)
	}
}

func encoded(t testing.TB, m *Moments) []byte {
	t.Helper()
	b, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// releases draws up to 40 releases of dim coordinates, with the largest values among them.
func releases(dim int) *rapid.Generator[[][]int64] {
	value := rapid.OneOf(rapid.Int64Range(-1000, 1000), rapid.Int64Range(-MaxValue, MaxValue), rapid.SampledFrom([]int64{-MaxValue, MaxValue}))
	return rapid.SliceOfN(rapid.SliceOfN(value, dim, dim), 0, 40)
}

// TestMomentsExact compares every sum with arbitrary precision.
func TestMomentsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := releases(3).Draw(t, "releases")
		m, _ := NewMoments(3)
		var first, square, cross [3]big.Int
		totalSquare := new(big.Int)
		for _, x := range xs {
			if err := m.Add(x); err != nil {
				t.Fatal(err)
			}
			total := big.NewInt(x[0] + x[1] + x[2])
			totalSquare.Add(totalSquare, new(big.Int).Mul(total, total))
			for i, v := range x {
				b := big.NewInt(v)
				first[i].Add(&first[i], b)
				square[i].Add(&square[i], new(big.Int).Mul(b, b))
				cross[i].Add(&cross[i], new(big.Int).Mul(b, total))
			}
		}
		for i := range m.Dim() {
			a, b, c := m.sums.First(i), m.sums.Square(i), m.sums.Cross(i)
			if a.Cmp(&first[i]) != 0 || b.Cmp(&square[i]) != 0 || c.Cmp(&cross[i]) != 0 {
				t.Fatalf("coordinate %d: %s, %s, %s; want %s, %s, %s", i, a, b, c, &first[i], &square[i], &cross[i])
			}
		}
		if _, got := m.sums.Total(); got.Cmp(totalSquare) != 0 {
			t.Fatalf("ΣT² is %s, want %s", got, totalSquare)
		}
	})
}

// TestMergeAnyOrder: however the releases are split, ordered, merged and stored in between, the bytes are those of adding them all.
func TestMergeAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := releases(2).Draw(t, "releases")
		all, _ := NewMoments(2)
		for _, x := range xs {
			if err := all.Add(x); err != nil {
				t.Fatal(err)
			}
		}
		split := make([]*Moments, rapid.IntRange(1, 5).Draw(t, "parts"))
		for i := range split {
			split[i], _ = NewMoments(2)
		}
		for _, x := range rapid.Permutation(xs).Draw(t, "order") {
			if err := split[rapid.IntRange(0, len(split)-1).Draw(t, "part")].Add(x); err != nil {
				t.Fatal(err)
			}
		}
		merged, _ := NewMoments(2)
		for _, s := range rapid.Permutation(split).Draw(t, "merges") {
			before, _ := s.AppendBinary(nil)
			var back Moments
			if err := back.UnmarshalBinary(before); err != nil {
				t.Fatal(err)
			}
			if err := merged.Merge(&back); err != nil {
				t.Fatal(err)
			}
			if after, _ := back.AppendBinary(nil); !bytes.Equal(after, before) {
				t.Fatal("merging changed its argument")
			}
		}
		want, _ := all.AppendBinary([]byte("prefix"))
		if got, _ := merged.AppendBinary([]byte("prefix")); !bytes.Equal(got, want) || merged.N() != uint64(len(xs)) {
			t.Fatalf("merged to %x, want %x", got, want)
		}
	})
}

// TestMomentsLargest fills every limit at once: 2³² releases of MaxDim coordinates, all of the largest magnitude.
func TestMomentsLargest(t *testing.T) {
	for _, v := range []int64{MaxValue, -MaxValue} {
		m := moments(t, MaxDim)
		add(t, m, slices.Repeat([]int64{v}, MaxDim)...)
		for range 32 {
			if err := m.Merge(m); err != nil {
				t.Fatal(err)
			}
		}
		if m.N() != MaxReleases {
			t.Fatalf("n = %d", m.N())
		}
		a, b, c := m.sums.First(MaxDim-1), m.sums.Square(MaxDim-1), m.sums.Cross(MaxDim-1)
		first := new(big.Int).Lsh(big.NewInt(v), 32)
		square := new(big.Int).Lsh(big.NewInt(1), 41+41+32)
		cross := new(big.Int).Lsh(square, 12)
		if a.Cmp(first) != 0 || b.Cmp(square) != 0 || c.Cmp(cross) != 0 {
			t.Fatalf("sums %s, %s, %s", a, b, c)
		}
		before := encoded(t, m)
		if err := m.Add(make([]int64, MaxDim)); err == nil {
			t.Error("a release beyond the limit was added")
		}
		one := moments(t, MaxDim)
		add(t, one, make([]int64, MaxDim)...)
		if m.Merge(one) == nil || one.Merge(m) == nil || m.Merge(m) == nil {
			t.Error("releases beyond the limit were merged")
		}
		if !bytes.Equal(encoded(t, m), before) {
			t.Error("a refusal changed the moments")
		}
		var back Moments
		if err := back.UnmarshalBinary(before); err != nil {
			t.Errorf("the largest moments do not decode: %v", err)
		}
	}
}

func TestMomentsRefuse(t *testing.T) {
	for _, dim := range []int{-1, 0, MaxDim + 1} {
		if _, err := NewMoments(dim); err == nil {
			t.Errorf("dimension %d accepted", dim)
		}
	}
	m := moments(t, 2)
	for _, x := range [][]int64{nil, {1}, {1, 2, 3}, {0, MaxValue + 1}, {-MaxValue - 1, 0}, {math.MaxInt64, 0}, {0, math.MinInt64}} {
		if m.Add(x) == nil {
			t.Errorf("release %d accepted", x)
		}
	}
	if m.Merge(moments(t, 3)) == nil {
		t.Error("a wrong length was merged")
	}
	if !bytes.Equal(encoded(t, m), encoded(t, moments(t, 2))) {
		t.Error("a refused release left something behind")
	}
	nan, inf := math.NaN(), math.Inf(1)
	type arguments struct {
		i     int
		sigma float64
		scale int64
		per   float64
	}
	for name, a := range map[string]arguments{
		"negative index": {-1, 1, 1, 1},
		"index":          {2, 1, 1, 1},
		"zero sigma":     {0, 0, 1, 1},
		"negative sigma": {0, -1, 1, 1},
		"NaN sigma":      {0, nan, 1, 1},
		"infinite sigma": {0, inf, 1, 1},
		"zero scale":     {0, 1, 0, 1},
		"negative scale": {0, 1, math.MinInt64, 1},
		"small per":      {0, 1, 1, 0.99},
		"NaN per":        {0, 1, 1, nan},
		"infinite per":   {0, 1, 1, inf},
	} {
		for call, err := range map[string]error{
			"Clustered":      second(m.Clustered(a.i, a.sigma, a.scale, a.per)),
			"ClusteredShare": second(m.ClusteredShare(a.i, a.sigma, a.scale, a.per)),
			"Sum":            second(m.Sum(a.i, a.sigma, a.scale, a.per)),
		} {
			if err == nil {
				t.Errorf("%s: %s gave no error", name, call)
			}
		}
		if a.per == 1 && (second(m.Estimate(a.i, a.sigma, a.scale)) == nil || second(m.Share(a.i, a.sigma, a.scale)) == nil) {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := m.Total(2); err == nil {
		t.Error("a total of no coordinate")
	}
}

func second(_ Estimate, err error) error { return err }

// TestMomentsVector pins the encoding.
func TestMomentsVector(t *testing.T) {
	m := moments(t, 2)
	add(t, m, -3, 1)
	add(t, m, 2, 300)
	want := []byte{1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2}
	for _, v := range []int64{-3 + 2, 9 + 4, -3*-2 + 2*302, 1 + 300, 1 + 90000, 1*-2 + 300*302} {
		want = binary.BigEndian.AppendUint64(want, uint64(v>>63))
		want = binary.BigEndian.AppendUint64(want, uint64(v))
	}
	if got := encoded(t, m); !bytes.Equal(got, want) {
		t.Fatalf("got %x, want %x", got, want)
	}
	if got, err := m.Total(1); err != nil || got != 301 {
		t.Errorf("total %g, %v", got, err)
	}
}

func TestMomentsDecodeRefuses(t *testing.T) {
	m := moments(t, 2)
	add(t, m, -3, 1)
	add(t, m, 2, 300)
	good := encoded(t, m)
	const header, first, square, cross = 11, 11, 11 + 16, 11 + 32 // of coordinate 0
	edit := func(change func(b []byte)) []byte {
		b := slices.Clone(good)
		change(b)
		return b
	}
	// One coordinate, twice 2: Σx = 4 and Σx² = 8, and ΣT² = 1.
	total := []byte{1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2}
	for _, v := range []byte{4, 8, 1} {
		total = append(append(total, make([]byte, 15)...), v)
	}
	for name, b := range map[string][]byte{
		"empty":             nil,
		"header only":       good[:header],
		"short header":      good[:header-1],
		"short":             good[:len(good)-1],
		"long":              append(slices.Clone(good), 0),
		"version":           edit(func(b []byte) { b[0] = 2 }),
		"no coordinates":    {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
		"dimension":         edit(func(b []byte) { b[2] = 3 }),
		"huge dimension":    edit(func(b []byte) { b[1] = 0xff }),
		"too many releases": edit(func(b []byte) { b[6] = 2 }),
		"no releases":       edit(func(b []byte) { b[10] = 0 }),
		"first too large":   edit(func(b []byte) { b[first] = 0x20 }),
		"mean too large":    edit(func(b []byte) { b[first+14] = 0xfe }),
		"negative square":   edit(func(b []byte) { b[square] = 0x80 }),
		"square too large":  edit(func(b []byte) { b[square] = 0x01 }),
		"square too small":  edit(func(b []byte) { b[square+15] = 0 }),
		"cross too large":   edit(func(b []byte) { b[cross+8] = 1 }),
		"total too small":   total,
		"negative total":    edit(func(b []byte) { b[cross] = 0xff }),
	} {
		if err := m.UnmarshalBinary(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if !bytes.Equal(encoded(t, m), good) {
			t.Fatalf("%s: the refusal changed the moments", name)
		}
	}
}

func FuzzMomentsDecode(f *testing.F) {
	m := moments(f, 2)
	f.Add(encoded(f, m))
	add(f, m, -3, 1)
	add(f, m, MaxValue, 300)
	f.Add(encoded(f, m))
	f.Add([]byte{1, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Moments
		if m.UnmarshalBinary(b) != nil {
			return
		}
		if got := encoded(t, &m); !bytes.Equal(got, b) {
			t.Fatalf("%x encodes as %x", b, got)
		}
		for i := range m.Dim() {
			for _, e := range []func() (Estimate, error){
				func() (Estimate, error) { return m.Estimate(i, 1, 1) },
				func() (Estimate, error) { return m.Share(i, 1, 1) },
				func() (Estimate, error) { return m.Sum(i, 1, 1, 3) },
			} {
				got, err := e()
				if err != nil || got.Suppressed == "" && !(got.Low <= got.Mean && got.Mean <= got.High && got.Mean > 0) {
					t.Fatalf("%+v, %v", got, err)
				}
			}
		}
	})
}

// BenchmarkMomentsAddReport adds reports of five families with 64 values together.
func BenchmarkMomentsAddReport(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var families []*Moments
	for _, dim := range []int{24, 8, 8, 8, 16} {
		families = append(families, moments(b, dim))
	}
	x := make([]int64, 64)
	for i := range x {
		x[i] = rng.Int64N(20_000) - 10_000
	}
	b.ReportAllocs()
	for b.Loop() {
		at := 0
		for _, m := range families {
			add(b, m, x[at:at+m.Dim()]...)
			at += m.Dim()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
}

// BenchmarkChart merges 28 days of 16 models into one window of 64 coordinates and estimates means and shares.
func BenchmarkChart(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	cells := make([]*Moments, 28*16)
	x := make([]int64, 64)
	for i := range cells {
		cells[i] = moments(b, 64)
		for range 100 {
			for j := range x {
				x[j] = rng.Int64N(400) - 100
			}
			add(b, cells[i], x...)
		}
	}
	for b.Loop() {
		window := moments(b, 64)
		for _, c := range cells {
			if err := window.Merge(c); err != nil {
				b.Fatal(err)
			}
		}
		for i := range 64 {
			if e, err := window.Clustered(i, 10, 1, 4); err != nil || e.Suppressed != "" {
				b.Fatal(e, err)
			}
			if e, err := window.Share(i, 10, 1); err != nil || e.Suppressed != "" {
				b.Fatal(e, err)
			}
		}
	}
}
