// Package problem is how the accounts' API says no: problem details for HTTP (RFC 9457), each of a kind that has a stable URI, a title, a status
// and a remedy.
//
// A kind's URI is a path of the API itself, under which its meaning can be read; it never changes once it was served. The detail is one
// sentence about this request. What went wrong inside the collector is for its log: the package has no place for it.
package problem

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Path is where the kinds are explained; a kind's URI is Path and its name.
const Path = "/v1/problems/"

// ContentType is that of a problem.
const ContentType = "application/problem+json"

// A Kind is a kind of problem, one of those of Kinds.
type Kind struct {
	name, title, remedy string
	status              int
}

// Name returns the last part of the kind's URI.
func (k Kind) Name() string { return k.name }

// Type returns the kind's URI.
func (k Kind) Type() string { return Path + k.name }

// Title returns what is wrong, in words that do not change from one occurrence to the next.
func (k Kind) Title() string { return k.title }

// Status returns the HTTP status that goes with the kind.
func (k Kind) Status() int { return k.status }

// Remedy returns what to do about it.
func (k Kind) Remedy() string { return k.remedy }

// A Problem is one occurrence of a kind. It is an error, so that a transaction can end with it.
type Problem struct {
	Kind Kind
	// Detail is a sentence about this request.
	Detail string
}

// New returns a problem.
func New(k Kind, detail string) *Problem { return &Problem{k, detail} }

// Sentence turns an error into one.
func Sentence(err error) string {
	s := err.Error()
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// Error implements error.
func (p *Problem) Error() string { return p.Kind.title + ": " + p.Detail }

// A document is what goes over the wire.
type document struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy"`
}

// Encode returns the problem as JSON.
func (p *Problem) Encode() []byte { return encode(p.Kind, p.Detail) }

// Explain returns what the kind's URI shows.
func (k Kind) Explain() []byte { return encode(k, "") }

func encode(k Kind, detail string) []byte {
	b, err := json.Marshal(document{k.Type(), k.title, k.status, detail, k.remedy})
	if err != nil {
		panic("problem: " + err.Error()) // strings and a number: unreachable
	}
	return append(b, '\n')
}

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ContentType)
	w.WriteHeader(p.Kind.status)
	w.Write(p.Encode())
}
