package announce

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rawstone/collector/internal/offering"
	"rawstone/pkg/reward/cultivation"
)

//go:embed page.html.tmpl
var page string

//go:embed schema.json
var schema []byte

// SchemaFile is the name under which Write writes the JSON Schema of the data.
const SchemaFile = "announcement.schema.json"

// PageFile and DataFile return the names of what Write writes of a year.
func PageFile(year int) string { return fmt.Sprintf("announcement-%d.html", year) }

// DataFile returns the name of the machine-readable file.
func DataFile(year int) string { return fmt.Sprintf("announcement-%d.json", year) }

// Write writes the page, the machine-readable file and its schema into a directory, which it makes. Files of these names are replaced.
func (a *Announcement) Write(dir string) error {
	html, err := a.HTML()
	if err != nil {
		return err
	}
	data, err := a.JSON()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write announcement: %w", err)
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{SchemaFile, schema}, {DataFile(a.Year), data}, {PageFile(a.Year), html}} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.text, 0o644); err != nil {
			return fmt.Errorf("cannot write announcement: %w", err)
		}
	}
	return nil
}

// JSON returns the machine-readable form.
func (a *Announcement) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		return nil, fmt.Errorf("cannot write announcement: %w", err)
	}
	return append(b, '\n'), nil
}

// HTML returns the page, which needs nothing beside it.
func (a *Announcement) HTML() ([]byte, error) {
	t, err := template.New("page").Funcs(words()).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("cannot write announcement: %w", err)
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		*Announcement
		Data, Schema string
	}{a, DataFile(a.Year), SchemaFile})
	if err != nil {
		return nil, fmt.Errorf("cannot write announcement: %w", err)
	}
	return b.Bytes(), nil
}

// words returns what the page says of numbers.
func words() template.FuncMap {
	return template.FuncMap{
		"stones": func(milli uint64) string { return offering.Decimal(milli, 3) },
		"group":  func(n any) string { return group(fmt.Sprint(n)) },
		"yuan":   offering.Yuan,
		"prize": func(o offering.ShownOdds, items []offering.Item) string {
			for _, i := range items {
				if o.Goods == i.ID {
					return i.Title
				}
			}
			return offering.Words(cultivation.Prize{Milli: o.Milli, Crystals: o.Crystals})
		},
		"join":     func(list []string) string { return strings.Join(list, ", ") },
		"drops":    func(a Amount) uint64 { return a.ToDrop - a.FromDrop },
		"last":     func(to uint64) uint64 { return to - 1 },
		"decimal":  func(n any, places int) (string, error) { return decimal(fmt.Sprint(n), places) },
		"fraction": fraction,
		"table": func(name string, t offering.ShownTable, items []offering.Item) map[string]any {
			return map[string]any{"Name": name, "Table": t, "Items": items}
		},
		"credits":    func(p Policy) bool { return p.Tiers[0].Km > 0 },
		"extra":      extra,
		"kilometres": kilometres,
		"ordinal":    ordinal,
		"offset": func(s int64) string {
			sign := "+"
			if s < 0 {
				sign, s = "−", -s
			}
			return fmt.Sprintf("UTC%s%02d:%02d", sign, s/3600, s%3600/60)
		},
	}
}

// kilometres lists what tiers credit.
func kilometres(tiers []Tier) string {
	var km []string
	for _, t := range tiers {
		km = append(km, group(fmt.Sprint(t.Km)))
	}
	return strings.Join(km, ", ")
}

// further is what a mileage tier asks beside its distance, which is its first row.
type further struct {
	Tier int
	Rows []string
}

func extra(tiers []Tier) (rows []further) {
	for i, t := range tiers {
		if len(t.Rows) > 1 {
			rows = append(rows, further{i, t.Rows[1:]})
		}
	}
	return rows
}

// fraction groups both parts of a fraction.
func fraction(s string) string {
	a, b, whole := strings.Cut(s, "/")
	if !whole {
		return group(a)
	}
	return group(a) + "/" + group(b)
}

// decimal spells an integer in units of 10^-places.
func decimal(s string, places int) (string, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	return offering.Decimal(v, places), err
}

// group puts commas between the thousands of a decimal number.
func group(s string) string {
	whole, rest, point := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		return whole + "." + rest
	}
	return whole
}

func ordinal(n uint64) string {
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}
