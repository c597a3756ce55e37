package config

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth bounds how deep mappings and lists nest.
const maxDepth = 32

// parse returns the root of the text's one document, nil for an empty text, or adds what is wrong with its form.
func (f *Faults) parse(text []byte) ast.Node {
	if !utf8.Valid(text) {
		f.add(nil, "$", "is not UTF-8")
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if f.checkForm(tokens); len(f.faults) > 0 {
		return nil
	}
	// Repeated keys are this package's to find: the parser stops at the first.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, reason := explain(err)
		f.add(at, "$", reason)
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case root == nil:
			root = doc.Body
		default:
			f.add(doc.Body.GetToken(), "$", "begins a second document: a configuration is one")
		}
	}
	return root
}

// explain returns the position and the message of an error of the YAML library.
func explain(err error) (*token.Token, string) {
	var e yaml.Error
	if errors.As(err, &e) {
		if t := e.GetToken(); t != nil && t.Position != nil {
			return t, e.GetMessage()
		}
		return nil, e.GetMessage()
	}
	return nil, err.Error()
}

// checkForm refuses what the package does without, and nesting that would exhaust the parser's stack, before there is a tree.
func (f *Faults) checkForm(tokens token.Tokens) {
	const replace = ": write out what it stands for"
	var columns []int // of the blocks that the token is in
	flow, line, opens := 0, 0, false
	for _, t := range tokens {
		switch t.Type {
		case token.CommentType:
			continue
		case token.AnchorType, token.AliasType:
			f.add(t, "$", "anchors and aliases are not accepted"+replace)
		case token.MergeKeyType:
			f.add(t, "$", "merge keys are not accepted"+replace)
		case token.TagType, token.DirectiveType:
			f.add(t, "$", "tags and directives are not accepted: leave it out")
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		}
		if at := t.Position; at.Line != line || opens {
			for len(columns) > 0 && columns[len(columns)-1] >= at.Column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, at.Column)
			line = at.Line
		}
		opens = t.Type == token.SequenceEntryType || t.Type == token.MappingKeyType
		if len(columns)+flow > maxDepth {
			f.add(t, "$", fmt.Sprintf("nests deeper than %d", maxDepth))
			return
		}
	}
}
