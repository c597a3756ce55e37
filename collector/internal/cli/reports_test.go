package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"rawstone/collector/daemon"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// reports puts a number of usage reports of yesterday, all of them of 60 everywhere, into the records of ./collector.yaml: each of a vehicle
// of its own, of the model of CAR1.
func reports(number string) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	cfg, err := daemon.LoadFor("collector.yaml", 0)
	if err != nil {
		return err
	}
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		return err
	}
	db, err := store.Open(context.Background(), store.Config{Path: cfg.RecordsFile(), Role: store.Ingest | store.Admin})
	if err != nil {
		return err
	}
	vector := make([]byte, 0, 4*wire.VectorLen)
	for range wire.VectorLen {
		vector = binary.BigEndian.AppendUint32(vector, 60)
	}
	ctx, day := context.Background(), p.Timing.Day(time.Now())-1
	err = db.Update(ctx, func(tx *store.Tx) error {
		car, err := tx.Vehicle(ctx, "CAR1")
		for i := range n {
			v := store.Vehicle{ID: fmt.Sprint("R", i), Account: car.Account, Model: car.Model}
			err = errors.Join(err, tx.AddVehicle(ctx, v), tx.AddReport(ctx, store.Report{
				Vehicle: v.ID, Epoch: day, Families: wire.AllFamilies, Vector: vector, Charter: p.CharterID, Charge: wire.NewCharge(1, [32]byte{1}),
			}))
		}
		return err
	})
	return errors.Join(err, db.Close())
}
