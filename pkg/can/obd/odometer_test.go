package obd_test

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"rawstone/pkg/can"
	"rawstone/pkg/can/isotp"
	"rawstone/pkg/can/obd"
	"rawstone/pkg/capturetest"
)

// ford404C is a maker's own identifier: 24 bits of 0.1 km.
func ford404C() obd.Layout { return obd.Layout{Length: 3, Scale: 0.1, Unit: "km"} }

// TestRecordedOdometers decodes what a Ford F-150 answered, frame by frame, through the transport.
func TestRecordedOdometers(t *testing.T) {
	t.Parallel()
	file, err := os.Open(capturetest.Find(t, "obd-odometer.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	size := func(service uint8, id uint16) int {
		if service == obd.ServiceReadData && id == 0x404C {
			return ford404C().Length
		}
		return obd.StandardSize(service, id)
	}
	kinds := make(map[string]int)
	for i, row := range rows[1:] {
		rx, err := strconv.ParseUint(row[1], 16, 11)
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(row[2])
		if err != nil {
			t.Fatal(err)
		}
		want, err := strconv.ParseFloat(row[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		var answer obd.Answer
		messages := 0
		conn, err := isotp.New(isotp.Config{
			Tx: can.ID(rx) &^ 8, Rx: can.ID(rx), Listen: true,
			Deliver: func(msg []byte) {
				messages++
				if err := answer.Parse(msg, size); err != nil {
					t.Errorf("row %d: %v", i+2, err)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		f := can.Frame{ID: can.ID(rx)}
		if !f.SetPayload(data) {
			t.Fatalf("row %d has %d bytes", i+2, len(data))
		}
		if err := conn.Handle(context.Background(), &f); err != nil {
			t.Fatal(err)
		}
		if messages != 1 || answer.Kind != obd.Positive || len(answer.Records) != 1 {
			t.Errorf("row %d: %d messages, %s", i+2, messages, &answer)
			continue
		}
		r := answer.Records[0]
		var v obd.Value
		var asked string
		if p, ok := obd.PID(uint8(r.ID)); ok && answer.Service == obd.ServiceCurrentData {
			v, asked = p.Decode(r.Data), "obd pid "+strings.ToUpper(strconv.FormatUint(uint64(r.ID), 16))
		} else if p, ok := obd.DID(r.ID); ok && answer.Service == obd.ServiceReadData {
			v, asked = p.Decode(r.Data), "uds did "+strings.ToUpper(strconv.FormatUint(uint64(r.ID), 16))
		} else {
			v, asked = ford404C().Decode(r.Data), "uds did 404C"
		}
		kinds[asked]++
		if asked != row[0] || !v.Available || math.Round(v.Physical*10) != math.Round(want*10) || v.Raw != uint64(math.Round(want*10)) {
			t.Errorf("row %d: %s is %+v, want %s of %v km", i+2, asked, v, row[0], want)
		}
	}
	if kinds["obd pid A6"]+kinds["uds did F4A6"]+kinds["uds did 404C"] != 130 || len(kinds) != 3 {
		t.Errorf("rows by request: %v, want 130 of three", kinds)
	}
}

// Answers of several frames: six parameters, and an identifier of 20 bytes with a number within.
func TestMultiFrame(t *testing.T) {
	t.Parallel()
	var answer obd.Answer
	var size obd.Sizes = obd.StandardSize
	conn, err := isotp.New(isotp.Config{Tx: 0x7E0, Rx: 0x7E8, Listen: true, Deliver: func(msg []byte) {
		if err := answer.Parse(append([]byte(nil), msg...), size); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	feed := func(frames ...string) {
		t.Helper()
		for _, s := range frames {
			data, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			f := can.Frame{ID: 0x7E8}
			f.SetPayload(data)
			if err := conn.Handle(t.Context(), &f); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed("10 12 41 0D 32 0C 1A F8", "21 31 01 02 A6 00 0A 00", "22 F4 2F 80 05 7B")
	want := map[uint16]float64{0x0D: 50, 0x0C: 1726, 0x31: 258, 0xA6: 65560.4, 0x2F: 128 * 100.0 / 255, 0x05: 83}
	if len(answer.Records) != len(want) {
		t.Fatalf("%s, want 6 records", &answer)
	}
	for _, r := range answer.Records {
		p, ok := obd.PID(uint8(r.ID))
		if v := p.Decode(r.Data); !ok || !v.Available || math.Abs(v.Physical-want[r.ID]) > 1e-9 {
			t.Errorf("PID %02X is %+v, want %v", r.ID, v, want[r.ID])
		}
	}
	size = func(_ uint8, id uint16) int {
		if id == 0xDD01 {
			return 20
		}
		return obd.StandardSize(obd.ServiceReadData, id)
	}
	feed("10 1D 62 DD 01 00 01 02", "21 03 04 05 06 07 FF FF", "22 D8 F0 0C 0D 0E 0F 10", "23 11 12 13 F4 A6 00 00", "24 C8 EF AA AA AA AA AA")
	if len(answer.Records) != 2 || answer.Records[0].ID != 0xDD01 || len(answer.Records[0].Data) != 20 {
		t.Fatalf("%s, want 2 records", &answer)
	}
	signed := obd.Layout{Offset: 8, Length: 4, Signed: true, Scale: 0.5, Add: 1, Unit: "m"}
	if v := signed.Decode(answer.Records[0].Data); v != (obd.Value{Raw: 0xFFFFD8F0, Physical: -4999, Available: true}) {
		t.Errorf("within DD01: %+v", v)
	}
	p, _ := obd.DID(answer.Records[1].ID)
	if v := p.Decode(answer.Records[1].Data); math.Round(v.Physical*10) != 51439 {
		t.Errorf("F4A6: %+v", v)
	}
}
