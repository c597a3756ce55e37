package decode

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"rawstone/agent/internal/decode/tally"
	"rawstone/agent/internal/vehicle"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
)

// vehicleMap decodes by a vehicle's signal map. It listens only: what others ask for and get is decoded, nothing is sent.
type vehicleMap struct {
	reader *vehicle.Reader
	names  []string // of the map's buses
	at     []int    // the map's bus by the capture's, -1 for one it does not have
	cols   []column
	ratios []ratio
	frame  can.Frame
}

// ratio turns an integer sample into the path's unit.
type ratio struct{ num, den float64 }

func openMap(o *Options) (*vehicleMap, error) {
	m, err := vehicle.Load(o.Map)
	if err != nil {
		return nil, err
	}
	v := &vehicleMap{}
	for _, b := range m.Buses {
		v.names = append(v.names, b.Name)
	}
	said := 0
	v.reader, err = vehicle.Compile(m, func(name string) (uint8, bool) {
		i := slices.Index(v.names, name)
		return uint8(max(i, 0)), i >= 0
	}, func(w dbc.Warning) {
		if said++; said <= maxWarnings {
			fmt.Fprintln(o.Diagnostics, w)
		}
	})
	if err != nil {
		return nil, err
	}
	if said > maxWarnings {
		fmt.Fprintf(o.Diagnostics, "%s: its DBC files have %d more warnings, which are not listed\n", o.Map, said-maxWarnings)
	}
	for _, s := range v.reader.Signals() {
		spec, err := vss.Lookup(s.Path, m.VSS)
		if err != nil {
			return nil, err
		}
		unit, err := vss.ParseUnit(spec.Role, spec.Unit)
		if err != nil {
			return nil, err
		}
		num, den := float(unit.Factor().Denom()), float(unit.Factor().Num())
		v.cols = append(v.cols, column{name: s.Path, long: s.Path + " from " + s.Name})
		v.ratios = append(v.ratios, ratio{num, den})
	}
	return v, nil
}

func float(i *big.Int) float64 {
	f, _ := new(big.Float).SetInt(i).Float64()
	return f
}

func (v *vehicleMap) columns() []column { return v.cols }

func (v *vehicleMap) buses() []string { return v.names }

func (v *vehicleMap) summary() []tally.Database { return nil }

func (v *vehicleMap) begin(bus string) { v.at = append(v.at, slices.Index(v.names, bus)) }

func (v *vehicleMap) read(ctx context.Context, f *can.Frame, emit func(*value)) error {
	bus := v.at[f.Bus]
	if bus < 0 {
		return nil
	}
	v.frame = *f
	v.frame.Bus = uint8(bus)
	return v.reader.Read(ctx, &v.frame, func(s vss.Sample) {
		r := v.ratios[s.Signal]
		emit(&value{column: s.Signal, time: s.Time, number: float64(float64(s.Value)*r.num) / r.den, raw: uint64(s.Value), signed: true, available: s.Available})
	})
}
