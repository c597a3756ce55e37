package config

import (
	"encoding"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// maxKeyLen bounds a key in bytes: it stands in the path of everything beneath it.
const maxKeyLen = 256

// decode reads the document into c. Each value that cannot be read leaves what was there.
func (f *Faults) decode(c Config, root ast.Node) {
	if empty(root) {
		return
	}
	v := reflect.ValueOf(c)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic("config: the target is no pointer") // the program's own text
	}
	f.value("$", v.Elem(), root, root.GetToken())
}

// empty reports whether a node holds nothing, which leaves the default.
func empty(n ast.Node) bool { return n == nil || n.Type() == ast.NullType }

// value reads a node into dst; at is where its value, or that of which it is a part, begins.
func (f *Faults) value(path string, dst reflect.Value, n ast.Node, at *token.Token) {
	if !empty(n) {
		at = begin(n, at)
	}
	f.places[path] = at
	if empty(n) {
		return
	}
	switch kind := dst.Kind(); {
	case decodesItself(dst):
		f.leaf(path, dst, n)
	case kind == reflect.Pointer:
		v := reflect.New(dst.Type().Elem())
		if !dst.IsNil() {
			v.Elem().Set(dst.Elem())
		}
		f.value(path, v.Elem(), n, at)
		if !slices.Contains(f.bad, path) {
			dst.Set(v)
		}
	case kind == reflect.Struct:
		if m, ok := n.(ast.MapNode); ok {
			f.object(path, dst, m)
			return
		}
		f.mismatch(path, dst, n)
	case kind == reflect.Map && dst.Type().Key().Kind() == reflect.String:
		if m, ok := n.(ast.MapNode); ok {
			f.mapping(path, dst, m)
			return
		}
		f.mismatch(path, dst, n)
	case kind == reflect.Slice:
		if list, ok := n.(*ast.SequenceNode); ok {
			s := reflect.MakeSlice(dst.Type(), len(list.Values), len(list.Values))
			for i, entry := range list.Values {
				f.value(path+"["+strconv.Itoa(i)+"]", s.Index(i), entry, at)
			}
			dst.Set(s)
			return
		}
		f.mismatch(path, dst, n)
	default:
		f.leaf(path, dst, n)
	}
}

// begin returns the first token of a node's value.
func begin(n ast.Node, otherwise *token.Token) *token.Token {
	t := n.GetToken()
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			t = n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		t = n.Key.GetToken()
	}
	if t == nil || t.Position == nil {
		return otherwise
	}
	return t
}

// entries calls fn with each key of a mapping that stands there for the first time, and reports the others.
func (f *Faults) entries(path string, m ast.MapNode, fn func(key, path string, at *token.Token, value ast.Node)) {
	seen := make(map[string]bool)
	for it := m.MapRange(); it.Next(); {
		at := begin(it.Key(), nil)
		key, ok := text(it.Key())
		under := path + "." + key
		switch {
		case !ok:
			f.add(at, path, "a key here is no plain text")
		case len(key) > maxKeyLen:
			f.add(at, path, fmt.Sprintf("a key here is longer than %d bytes", maxKeyLen))
		case strings.ContainsFunc(key, func(r rune) bool { return !strconv.IsPrint(r) }):
			f.add(at, path, fmt.Sprintf("key %q is no plain text", key))
		case seen[key]:
			f.add(at, under, "the key is repeated: leave one")
		default:
			seen[key] = true
			fn(key, under, at, it.Value())
		}
	}
}

// text returns the text of a plain or quoted scalar.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		// As it is written: 0x10 and 6.10 stay what they are.
		return n.GetToken().Value, true
	}
	return "", false
}

func (f *Faults) object(path string, dst reflect.Value, m ast.MapNode) {
	known := make(map[string]reflect.Value)
	fields(dst, known)
	f.entries(path, m, func(key, path string, at *token.Token, value ast.Node) {
		field, ok := known[key]
		if !ok {
			f.add(at, path, "unknown key; the keys here are "+strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			return
		}
		f.value(path, field, value, at)
	})
}

// fields finds the fields of a struct by key, those of inline structs included.
func fields(v reflect.Value, known map[string]reflect.Value) {
	var inline []reflect.Value
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case !field.IsExported() || key == "-":
		case slices.Contains(strings.Split(options, ","), "inline") && field.Type.Kind() == reflect.Struct:
			inline = append(inline, v.Field(i))
		case key == "":
			known[strings.ToLower(field.Name)] = v.Field(i)
		default:
			known[key] = v.Field(i)
		}
	}
	for _, in := range inline {
		under := make(map[string]reflect.Value)
		fields(in, under)
		for key, field := range under {
			if _, hidden := known[key]; !hidden {
				known[key] = field
			}
		}
	}
}

func (f *Faults) mapping(path string, dst reflect.Value, m ast.MapNode) {
	made := reflect.MakeMap(dst.Type())
	f.entries(path, m, func(key, path string, at *token.Token, value ast.Node) {
		v := reflect.New(dst.Type().Elem()).Elem()
		f.value(path, v, value, at)
		made.SetMapIndex(reflect.ValueOf(key).Convert(dst.Type().Key()), v)
	})
	dst.Set(made)
}

// decodesItself reports whether dst has its own way to read a scalar.
func decodesItself(dst reflect.Value) bool {
	switch dst.Addr().Interface().(type) {
	case *time.Duration, encoding.TextUnmarshaler:
		return true
	}
	return false
}

// leaf reads a scalar.
func (f *Faults) leaf(path string, dst reflect.Value, n ast.Node) {
	s, ok := text(n)
	fresh := reflect.New(dst.Type())
	switch v := fresh.Interface().(type) {
	case *time.Duration:
		if ok {
			d, err := time.ParseDuration(s)
			*v, ok = d, err == nil
		}
	case encoding.TextUnmarshaler:
		if ok {
			if err := v.UnmarshalText([]byte(s)); err != nil {
				f.reject(path, err.Error())
				return
			}
		}
	default:
		ok = ok && scalar(fresh, n, s)
	}
	if !ok {
		f.mismatch(path, dst, n)
		return
	}
	dst.Set(fresh.Elem())
}

// scalar reads a scalar whose text is s into a basic type. A string takes the text of any plain scalar; nothing else is converted.
func scalar(v reflect.Value, n ast.Node, s string) bool {
	of := n.Type()
	switch kind := v.Elem().Kind(); {
	case kind == reflect.String:
		v.Elem().SetString(s)
		return true
	case kind == reflect.Bool && of == ast.BoolType, reflect.Int <= kind && kind <= reflect.Uint64 && of == ast.IntegerType:
		return yaml.NodeToValue(n, v.Interface(), yaml.Strict()) == nil
	// The library takes 1e-6 for a plain string.
	case kind == reflect.Float64 && (of == ast.IntegerType || of == ast.FloatType || n.GetToken().Type == token.StringType):
		err := yaml.NodeToValue(n, v.Interface(), yaml.Strict())
		return err == nil && !math.IsNaN(v.Elem().Float()) && !math.IsInf(v.Elem().Float(), 0)
	}
	return false
}

func (f *Faults) mismatch(path string, dst reflect.Value, n ast.Node) {
	f.reject(path, "want "+want(dst.Type())+", have "+have(n))
}

// reject reports a value that cannot be decoded and remembers its path.
func (f *Faults) reject(path, reason string) {
	f.bad = append(f.bad, path)
	f.add(f.places[path], path, reason)
}

// want describes what a type takes.
func want(t reflect.Type) string {
	switch kind := t.Kind(); {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 1m30s"
	case kind == reflect.Struct, kind == reflect.Map:
		return "a mapping of keys"
	case kind == reflect.Slice:
		return "a list"
	case kind == reflect.String:
		return "text"
	case kind == reflect.Bool:
		return "true or false"
	case reflect.Int <= kind && kind <= reflect.Int64:
		return fmt.Sprintf("a whole number from %d to %d", int64(-1)<<(t.Bits()-1), uint64(1)<<(t.Bits()-1)-1)
	case reflect.Uint <= kind && kind <= reflect.Uint64:
		return fmt.Sprintf("a whole number from 0 to %d", ^uint64(0)>>(64-t.Bits()))
	case kind == reflect.Float64:
		return "a number"
	}
	return "a value of type " + t.String()
}

// have describes a node.
func have(n ast.Node) string {
	switch n.(type) {
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	s, _ := text(n)
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return strconv.Quote(s)
}
