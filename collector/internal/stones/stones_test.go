package stones

import (
	"path/filepath"
	"testing"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// TestSupplyOf counts the height only up where a block issues something. What is read from full records is tested with the settler.
func TestSupplyOf(t *testing.T) {
	if s := SupplyOf(ledger.Block{}); s != (Supply{Most: reward.MinedSupply}) {
		t.Errorf("before the first block: %+v", s)
	}
	for weight, height := range map[uint64]uint64{0: 5, 1: 6} {
		want := Supply{Issued: 77, Scheduled: reward.Emission(height), Most: reward.MinedSupply, Height: height}
		if s := SupplyOf(ledger.Block{Height: 5, Supply: 77, Weight: weight}); s != want {
			t.Errorf("weight %d: %+v, want %+v", weight, s, want)
		}
	}
}

func TestEmptyRecords(t *testing.T) {
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if drops, err := Drops(t.Context(), db, 3); err != nil || len(drops) != 0 {
		t.Errorf("drops %v, %v", drops, err)
	}
	if o, err := Openings(t.Context(), db); err != nil || o == nil {
		t.Errorf("openings %v, %v", o, err)
	}
}
