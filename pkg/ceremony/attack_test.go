package ceremony

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"

	"rawstone/pkg/wire"
)

// load returns a transcript's files in their order.
func load(t testing.TB, c *Ceremony, dir string) (files []*file) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		f, err := c.read(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// chain writes files into a new directory as an attacker would who mends every name, sequence, hash and predecessor.
func chain(t *testing.T, files []*file) string {
	t.Helper()
	dir := t.TempDir()
	var last *file
	for _, f := range files {
		f := *f
		if last != nil {
			f.previous = last.id
			f.seq = 0
			if last.phase == f.phase {
				f.seq = last.seq + 1
			}
			if f.phase != phaseSeal {
				f.before = last.after
			}
		}
		b := f.encode()
		f.id, last = wire.ID(b), &f
		if err := os.WriteFile(filepath.Join(dir, f.name()), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func clone(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Attacks by somebody who mends the chain of hashes: only the mathematics is left to tell.
func TestForgedChain(t *testing.T) {
	c := small(t, 7)
	dir, _, _ := sealed(t, c, 2)
	otherDir, _, _ := sealed(t, c, 2)
	const p1, p2 = 1, 4 // index of the first contribution in each phase
	edit := func(i int, f func(*file)) func(fs, other []*file) []*file {
		return func(fs, _ []*file) []*file { f(fs[i]); return fs }
	}
	graft := func(i, from int) func(fs, other []*file) []*file {
		return func(fs, other []*file) []*file { fs[i].after = other[from].after; return fs }
	}
	drop := func(i int) func(fs, other []*file) []*file {
		return func(fs, _ []*file) []*file { return append(fs[:i:i], fs[i+1:]...) }
	}
	replay := func(i int) func(fs, other []*file) []*file {
		return func(fs, _ []*file) []*file { return append(fs[:i+1:i+1], fs[i:]...) }
	}
	const follow, begins = "does not follow from its predecessor", "not the one with which the phase begins"
	for name, a := range map[string]struct {
		forge    func(fs, other []*file) []*file
		sentence string
	}{
		"nothing":                              {func(fs, _ []*file) []*file { return fs }, ""},
		"skip one in phase 1":                  {drop(p1), follow},
		"skip one in phase 2":                  {drop(p2), follow},
		"drop the last of phase 1":             {drop(p1 + 1), begins},
		"drop the last of phase 2":             {drop(p2 + 1), "names other keys"},
		"replay in phase 1":                    {replay(p1), follow},
		"replay in phase 2":                    {replay(p2), follow},
		"another predecessor in phase 1":       {graft(p1+1, p1+1), follow},
		"another predecessor in phase 2":       {graft(p2+1, p2+1), follow},
		"another beginning of phase 1":         {graft(0, 0), ""}, // there is only one
		"phase 1 begins with known powers":     {func(fs, _ []*file) []*file { fs[0].after = known(t, c); return fs }, begins},
		"another beginning of phase 2":         {graft(3, 3), begins},
		"phase 1's beacon changed":             {edit(3, func(f *file) { f.beacon = beacon(9) }), begins},
		"phase 2's beacon changed":             {edit(6, func(f *file) { f.beacon = beacon(9) }), "names other keys"},
		"one beacon for both phases":           {edit(6, func(f *file) { f.beacon = beacon(1) }), "the same beacon"},
		"seal of another ceremony":             {graft(6, 6), "names other keys"},
		"no contribution in phase 2":           {func(fs, _ []*file) []*file { return append(fs[:4:4], fs[6]) }, "what can follow is phase2-001.mpc;"},
		"secret zero in phase 1":               {edit(p1, func(f *file) { zero(f.after[:288]) }), follow},
		"secret zero in phase 2":               {edit(p2, func(f *file) { zero(f.after[len(f.after)-33-g1-g2:][:g1+g2]) }), follow},
		"challenge of another state":           {edit(p1, func(f *file) { f.after[len(f.after)-1] ^= 1 }), follow},
		"proof of knowledge of another secret": {func(fs, o []*file) []*file { copy(fs[p1].after[:288], o[p1].after); return fs }, follow},
		"phase 2 divided by nothing":           {edit(p2, func(f *file) { copy(f.after[2:2+g1+4+c.private*g1], f.before[2:]) }), follow},
		"phase 2's δ in the one group only":    {edit(p2, func(f *file) { d2 := len(f.after) - 33 - g1 - 2*g2; copy(f.after[d2:d2+g2], f.before[d2:]) }), follow},
		"a power of τ of another series": {func(fs, o []*file) []*file {
			n := 288 + 8 + g2 + 5*g1
			copy(fs[p1].after[n:n+g1], o[p1].after[n:])
			return fs
		}, follow},
		"a contribution's state is its successor": {graft(p1, p1+1), follow},
	} {
		t.Run(name, func(t *testing.T) {
			forged := chain(t, a.forge(load(t, c, dir), load(t, c, otherDir)))
			_, err := c.Verify(forged, "")
			if a.sentence == "" {
				if err != nil {
					t.Errorf("the unforged chain: %v", err)
				}
				return
			}
			want(t, err, a.sentence)
		})
	}
}

// zero makes every point in b the one at infinity.
func zero(b []byte) {
	for len(b) > 0 {
		clear(b[:g1+g2])
		b[0], b[g1] = 0x40, 0x40
		b = b[g1+g2:]
	}
}

// known returns a state of phase 1 whose secret its maker could know, dressed as a beginning: proofs and challenge taken off.
func known(t *testing.T, c *Ceremony) []byte {
	t.Helper()
	p := mpcsetup.NewPhase1(uint64(c.domain))
	p.Contribute()
	p.Challenge = nil
	b, err := encode(p)
	if err != nil {
		t.Fatal(err)
	}
	zero(b[:288])
	return b
}

// Attacks on the files of a transcript, as they are.
func TestTampering(t *testing.T) {
	c, other := small(t, 7), small(t, 15)
	dir, _, _ := sealed(t, c, 2)
	branch := t.TempDir() // another contribution to the same beginning
	begin(t, c, branch, 2)
	large := t.TempDir()
	begin(t, other, large, 1)
	if c.domain != 8 || other.domain != 16 {
		t.Fatalf("domains %d and %d", c.domain, other.domain)
	}
	names := []string{"phase1-000.mpc", "phase1-001.mpc", "phase1-002.mpc", "phase2-000.mpc", "phase2-001.mpc", "phase2-002.mpc", "seal.mpc"}
	attack := func(name, sentence string, tamper func(dir string) error) {
		t.Run(name, func(t *testing.T) {
			dir := clone(t, dir)
			if err := tamper(dir); err != nil {
				t.Fatal(err)
			}
			_, err := c.Verify(dir, "")
			want(t, err, sentence)
		})
	}
	for i, name := range names {
		if i < len(names)-1 {
			attack(name+" missing", "restore what is missing", func(dir string) error { return os.Remove(filepath.Join(dir, name)) })
		}
		attack(name+" renamed", "restore ", func(dir string) error {
			return os.Rename(filepath.Join(dir, name), filepath.Join(dir, "phase1-777.mpc"))
		})
		attack(name+" swapped with its neighbour", "restore its name", func(dir string) error {
			next := names[(i+1)%len(names)]
			a, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if err := os.Rename(filepath.Join(dir, next), filepath.Join(dir, name)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, next), a, 0o644)
		})
		for _, cut := range []int{1, 33, 100, -1} { // the last one is a byte too many
			attack(name+" cut short", "cut short", func(dir string) error {
				info, err := os.Stat(filepath.Join(dir, name))
				if err != nil {
					return err
				}
				return os.Truncate(filepath.Join(dir, name), info.Size()-int64(cut))
			})
		}
	}
	copyFile := func(from, to string) error {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	}
	attack("replayed as the next", "restore its name", func(dir string) error {
		return copyFile(filepath.Join(dir, names[2]), filepath.Join(dir, "phase1-003.mpc"))
	})
	attack("built on another predecessor", "it follows a file of SHA-256", func(dir string) error {
		return copyFile(filepath.Join(branch, names[2]), filepath.Join(dir, names[2]))
	})
	attack("other contribution to the same predecessor", "it follows a file of SHA-256", func(dir string) error {
		return copyFile(filepath.Join(branch, names[1]), filepath.Join(dir, names[1]))
	})
	attack("phase 1 of another size", "for a domain of 16 points, the circuit's has 8", func(dir string) error {
		return copyFile(filepath.Join(large, names[0]), filepath.Join(dir, names[0]))
	})
	attack("a stranger's file", "it is cut short", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("hello"), 0o644)
	})
	attack("a directory", "not a regular file", func(dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o755) })
	attack("another predecessor carried", "the predecessor that it carries is not the file before it", func(dir string) error {
		f, err := c.read(filepath.Join(branch, names[2]))
		if err != nil {
			return err
		}
		first, err := c.read(filepath.Join(dir, names[1]))
		if err != nil {
			return err
		}
		f.previous = first.id
		return os.WriteFile(filepath.Join(dir, names[2]), f.encode(), 0o644)
	})
}

// One bit flipped anywhere in the newest file is found, where no hash of a later file tells.
func TestFlippedBit(t *testing.T) {
	c := small(t, 7)
	for n, made := range map[string]func(dir string){
		"phase 1":              func(dir string) { begin(t, c, dir, 2) },
		"beginning of phase 2": func(dir string) { begin(t, c, dir, 1); c.EndPhase1(dir, beacon(1), 1) },
		"phase 2": func(dir string) {
			begin(t, c, dir, 1)
			c.EndPhase1(dir, beacon(1), 1)
			contribute(t, c, dir, 2, 1)
		},
	} {
		t.Run(n, func(t *testing.T) {
			dir := t.TempDir()
			made(dir)
			files := load(t, c, dir)
			newest := filepath.Join(dir, files[len(files)-1].name())
			good, err := os.ReadFile(newest)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(good); i++ {
				if i > headLen+40 && i%67 != 0 {
					continue
				}
				bad := append([]byte(nil), good...)
				bad[i] ^= 1 << (i % 8)
				if err := os.WriteFile(newest, bad, 0o644); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Verify(dir, ""); err == nil {
					t.Errorf("byte %d of %d", i, len(good))
				}
			}
		})
	}
}

// A contributor is warned of a bad file by that file alone, and writes nothing.
func TestContributeRefuses(t *testing.T) {
	c := small(t, 7)
	dir, _, _ := sealed(t, c, 2)
	files := load(t, c, dir)
	offCurve := func(b []byte) {
		for err := error(nil); err == nil; b[g1-1]++ {
			_, err = new(bn254.G1Affine).SetBytes(b[:g1])
		}
		b[g1-1]--
	}
	for name, a := range map[string]struct {
		index    int
		forge    func(f *file)
		sentence string
	}{
		"other predecessor in phase 1": {2, func(f *file) { f.before = files[2].after }, "does not follow"},
		"other predecessor in phase 2": {5, func(f *file) { f.before = files[5].after }, "does not follow"},
		"other beginning of phase 2":   {3, func(f *file) { f.beacon = beacon(7) }, "not the one with which the phase begins"},
		"other beginning of phase 1":   {0, func(f *file) { f.after = known(t, c) }, "not the one with which the phase begins"},
		"point off the curve":          {1, func(f *file) { offCurve(f.after[288+8+g2:]) }, "holds no points"},
		"field element not canonical":  {1, func(f *file) { p := f.after[288+8+g2:]; fill(p[:g1]) }, "holds no points"},
		"other domain inside":          {1, func(f *file) { binary.BigEndian.PutUint64(f.after[288:], 1<<40) }, "not laid out"},
		"uncompressed point":           {1, func(f *file) { f.after[0] &= 0x3f }, "not laid out"},
		"commitments in phase 2":       {4, func(f *file) { f.after[0] = 255 }, "not laid out"},
		"other number of wires":        {4, func(f *file) { f.after[2+g1] = 2 }, "not laid out"},
		"other circuit":                {1, func(f *file) { f.circuit[0] ^= 1 }, "this program's is"},
		"other domain":                 {1, func(f *file) { f.domain = 1 << 30 }, "for a domain of 1073741824 points"},
		"beacon out of place":          {1, func(f *file) { f.beacon = beacon(1) }, "a beacon of 32 bytes"},
		"no beacon":                    {3, func(f *file) { f.beacon = nil }, "a beacon of 0 bytes"},
		"unknown phase":                {1, func(f *file) { f.phase = 4 }, "no step 1 in phase 4"},
		"phase 0":                      {1, func(f *file) { f.phase = 0 }, "no step 1 in phase 0"},
		"step beyond the last":         {1, func(f *file) { f.seq = maxSeq + 1 }, "no step 1000"},
		"last step":                    {2, func(f *file) { f.seq = maxSeq }, "at most 999 contributions"},
		"first file with predecessor":  {0, func(f *file) { f.previous[0] = 1 }, "no predecessor"},
	} {
		t.Run(name, func(t *testing.T) {
			f := *files[a.index]
			f.before, f.after = append([]byte(nil), f.before...), append([]byte(nil), f.after...)
			a.forge(&f)
			path, out := filepath.Join(t.TempDir(), "in"), t.TempDir()
			if err := os.WriteFile(path, f.encode(), 0o644); err != nil {
				t.Fatal(err)
			}
			var err error
			if got := allocated(func() { _, err = c.Contribute(path, out) }); got > 16<<20 {
				t.Errorf("%d bytes allocated", got)
			}
			want(t, err, a.sentence)
			if entries, _ := os.ReadDir(out); len(entries) != 0 {
				t.Errorf("wrote %v", entries)
			}
		})
	}
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xbf
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Lengths in hostile files are never believed: not in short ones, not in ones of the right length.
func TestHostileLengths(t *testing.T) {
	c := small(t, 7)
	path := filepath.Join(t.TempDir(), "in")
	hostile := make([]byte, 164)
	fill(hostile)
	f := &file{phase: 2, seq: 1, circuit: c.circuit, domain: uint32(c.domain), previous: wire.Hash{1}}
	_, after := f.lengths(c)
	before, _ := f.lengths(c)
	f.before, f.after = make([]byte, before), make([]byte, after)
	fill(f.before)
	for _, b := range [][]byte{nil, hostile, append([]byte(magic), hostile...), f.encode(), f.encode()[:164]} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		var err error
		if got := allocated(func() { _, err = c.Contribute(path, t.TempDir()) }); got > 1<<20 {
			t.Errorf("%d hostile bytes allocate %d", len(b), got)
		}
		if err == nil {
			t.Errorf("%d hostile bytes accepted", len(b))
		}
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	if got := allocated(func() { _, err := c.Contribute(path, t.TempDir()); want(t, err, "regular file of at most") }); got > 1<<20 {
		t.Errorf("a long file allocates %d", got)
	}
}

func FuzzParse(f *testing.F) {
	c := small(f, 7)
	dir, _, _ := sealed(f, c, 1)
	for _, g := range load(f, c, dir) {
		f.Add(g.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := c.parse(b)
		if err != nil {
			return
		}
		if string(g.encode()) != string(b) {
			t.Error("it re-encodes differently")
		}
		s := new(state)
		var ok error
		if got := allocated(func() {
			if ok = s.load(c, g); ok == nil && g.phase != phaseSeal {
				ok = s.advance(c, g)
			}
		}); got > 64<<20 {
			t.Errorf("%d bytes allocate %d", len(b), got)
		}
	})
}

// The layouts are gnark's, to the byte.
func TestLayouts(t *testing.T) {
	if g1 != bn254.SizeOfG1AffineCompressed || g2 != 2*g1 {
		t.Fatal("sizes of points")
	}
	c := small(t, 7)
	dir, _, _ := sealed(t, c, 2)
	for _, f := range load(t, c, dir) {
		var err error
		switch f.phase {
		case 1:
			_, err = c.decode1(f.after, f.seq > 0)
		case 2:
			_, err = c.decode2(f.after, f.seq > 0)
		}
		if err != nil {
			t.Errorf("%s: %v", f.name(), err)
		}
	}
}
