// Package lang says things in the reader's language: English, or Chinese (simplified) from a catalogue whose keys are the English texts.
//
// A text without a translation is said in English: a page is never without words. Whoever has a catalogue tests that it is complete
// (Catalogue.Missing). Numbers and dates are formatted by whoever shows them.
//
// The package refuses catalogues with unknown fields of any kind: a text is a string, its translation another with the same verbs in the
// same order.
package lang

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Lang is a language that pages speak.
type Lang string

// The languages, by their BCP 47 tags.
const (
	English Lang = "en"
	Chinese Lang = "zh-Hans"
)

// All returns the languages, the default first.
func All() []Lang { return []Lang{English, Chinese} }

// Name returns the language's own name.
func (l Lang) Name() string {
	if l == Chinese {
		return "中文"
	}
	return "English"
}

// Choose returns the language that a reader has chosen, where it is one of All, and otherwise the one that the browser prefers: the value of
// Accept-Language (RFC 9110 §12.5.4), of which the primary subtags count. The default is English.
//
// golang.org/x/text/language knows every language there is, and would weigh as much in the agent as a page of it.
func Choose(chosen, acceptLanguage string) Lang {
	if l := Lang(chosen); slices.Contains(All(), l) {
		return l
	}
	best, weight := English, 0.0
	for part := range strings.SplitSeq(acceptLanguage[:min(len(acceptLanguage), maxHeader)], ",") {
		tag, parameter, _ := strings.Cut(part, ";")
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
				continue
			}
		}
		l, ok := map[string]Lang{"en": English, "zh": Chinese}[primary]
		if ok && q > weight {
			best, weight = l, q
		}
	}
	return best
}

// maxHeader bounds what is read of Accept-Language in bytes.
const maxHeader = 256

// A Catalogue holds the Chinese of English texts.
type Catalogue struct{ chinese map[string]string }

// Read reads a catalogue: a JSON object from English texts to Chinese ones. Errors name the text whose verbs differ.
func Read(b []byte) (*Catalogue, error) {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("cannot read catalogue: %w", err)
	}
	for english, chinese := range m {
		if english == "" || chinese == "" {
			return nil, fmt.Errorf("cannot read catalogue: %q is %q", english, chinese)
		}
		if !slices.Equal(verbs(english), verbs(chinese)) {
			return nil, fmt.Errorf("cannot read catalogue: %q has other verbs than %q", chinese, english)
		}
	}
	return &Catalogue{m}, nil
}

func verbs(text string) []string {
	return regexp.MustCompile(`%[-+# 0]*\d*(\.\d+)?(\[\d+\])?[a-zA-Z%]`).FindAllString(text, -1)
}

// Say returns a text in the language, with its arguments as fmt.Sprintf has them; without any the text stands as it is.
func (c *Catalogue) Say(l Lang, text string, args ...any) string {
	if l == Chinese {
		if chinese, ok := c.chinese[text]; ok {
			text = chinese
		}
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// Has reports whether the text has a translation.
func (c *Catalogue) Has(text string) bool { _, ok := c.chinese[text]; return ok }

// Said returns the texts that a template says: what follows {{t " or (t ", in the template language's quotes. It is for tests of complete
// catalogues.
func Said(template string) (texts []string) {
	for _, m := range regexp.MustCompile("[{( ]t (\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)").FindAllStringSubmatch(template, -1) {
		text := strings.Trim(m[1], "`")
		if m[1][0] == '"' {
			if err := json.Unmarshal([]byte(m[1]), &text); err != nil {
				text = m[1]
			}
		}
		texts = append(texts, text)
	}
	return texts
}

// Missing returns those of the texts that have no translation.
func (c *Catalogue) Missing(texts []string) (missing []string) {
	for _, text := range texts {
		if !c.Has(text) && !slices.Contains(missing, text) {
			missing = append(missing, text)
		}
	}
	return missing
}
