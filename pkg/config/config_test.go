package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type sample struct {
	Name string `yaml:"name"`
	MQTT struct {
		Listen string `yaml:"listen"`
		Port   int    `yaml:"port"`
	} `yaml:"mqtt"`
	List []struct {
		URL string `yaml:"url"`
	} `yaml:"list"`
}

func (s *sample) Validate(f *Faults) {
	if s.Name == "" {
		f.Add("$.name", "must be set")
	}
	if s.MQTT.Port > 10 {
		f.Add("$.mqtt.port", "%d is above 10", s.MQTT.Port)
	}
	for i, l := range s.List {
		if l.URL == "bad" {
			f.Add("$.list["+string(rune('0'+i))+"].url", "is bad")
		}
	}
}

func TestFaultsJoinedWithPositions(t *testing.T) {
	text := "mqtt:\n  listen: a\n  port: 11\nlist:\n  - url: good\n  - url: bad\n"
	err := Decode("f.yaml", []byte(text), new(sample))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"f.yaml: name: must be set", "f.yaml:3:9: mqtt.port: 11 is above 10", "f.yaml:6:10: list[1].url: is bad"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func TestStrict(t *testing.T) {
	for name, text := range map[string]string{
		"unknown key":   "name: a\nnmae: b\n",
		"repeated key":  "name: a\nname: b\n",
		"wrong type":    "name: a\nmqtt:\n  port: many\n",
		"two documents": "name: a\n---\nname: b\n",
		"broken":        "name: [a\n",
		"empty":         "",
	} {
		err := Decode("f.yaml", []byte(text), new(sample))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), "f.yaml") {
			t.Errorf("%s: does not name the file: %v", name, err)
		}
	}
}

func TestDefaultsStayAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("mqtt: {port: 3}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &sample{Name: "default"}
	s.MQTT.Listen = "here"
	if err := Load(path, s); err != nil {
		t.Fatal(err)
	}
	if s.Name != "default" || s.MQTT.Listen != "here" || s.MQTT.Port != 3 {
		t.Errorf("%+v", s)
	}
	if err := Load(path+"x", s); err == nil {
		t.Error("loaded a missing file")
	}
}

func TestResolve(t *testing.T) {
	rel, abs, none := "k/a", "/b", ""
	Resolve("/etc/rawstone/agent.yaml", &rel, &abs, &none)
	if rel != "/etc/rawstone/k/a" || abs != "/b" || none != "" {
		t.Errorf("%q %q %q", rel, abs, none)
	}
}
