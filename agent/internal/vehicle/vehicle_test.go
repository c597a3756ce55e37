package vehicle

import (
	"io/fs"
	"testing"

	"rawstone/agent/internal/signalmap"
	"rawstone/pkg/can/dbc"
)

// decode reads a map out of memory; its DBC files are the ones given, by path.
func decode(text string, files map[string]string) (*Map, error) {
	return signalmap.Decode("/map.yaml", []byte(text), func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	})
}

// compile makes a Reader of a map and of its DBC file /x.dbc.
func compile(t testing.TB, text string, file ...string) *Reader {
	t.Helper()
	files := map[string]string{}
	if len(file) > 0 {
		files["/x.dbc"] = file[0]
	}
	m, err := decode(text, files)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Compile(m, numbered(m), func(w dbc.Warning) { t.Error(w) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const carDBC = `BO_ 256 Car: 8 X
 SG_ Odometer : 0|24@1+ (0.1,0) [0|0] "km" X
 SG_ Miles : 24|1@1+ (1,0) [0|1] "" X
 SG_ Quality : 32|2@1+ (1,0) [0|3] "" X
 SG_ Count : 40|8@1+ (0.2,0) [0|50.8] "m" X
 SG_ Gear : 48|4@1+ (1,0) [0|15] "" X
BO_ 257 Other: 8 X
 SG_ Unit : 0|8@1+ (1,0) [0|0] "" X
 SG_ Count16 : 8|16@1+ (0.25,0) [0|0] "m" X
 SG_ Signed : 24|8@1- (1,0) [0|0] "m" X
 SG_ Third : 32|8@1+ (0.333,0) [0|0] "m" X
 SG_ Odometer : 40|24@1+ (1,0) [0|0] "km" X
BO_ 2566844926 CCVS: 8 X
 SG_ Speed : 8|16@1+ (0.00390625,0) [0|250.996] "km/h" X
 SG_ SpeedOK : 0|2@1+ (1,0) [0|3] "" X
BO_ 258 Floats: 8 X
 SG_ Float : 0|32@1- (1,0) [0|0] "km" X
SIG_VALTYPE_ 258 Float : 1;
`

const header = "vss: '6.0'\nbuses:\n  - {name: can0, dbc: x.dbc}\n  - {name: can1}\nsignals:\n"
