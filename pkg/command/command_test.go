package command

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
)

func root(run func(cmd *cobra.Command) error) *cobra.Command {
	r := &cobra.Command{Use: "tool"}
	r.AddCommand(WithConfig(&cobra.Command{Use: "do", RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd) }}))
	return r
}

func TestExitCodes(t *testing.T) {
	var path string
	ok := func(cmd *cobra.Command) error {
		path = ConfigPath(cmd)
		l, err := Logger(cmd)
		if err == nil {
			l.Info("hello", "n", 1)
		}
		return err
	}
	for _, c := range []struct {
		name, stderr string
		args         []string
		run          func(*cobra.Command) error
		code         int
	}{
		{"json", `"msg":"hello","n":1`, []string{"do", "--config", "f"}, ok, 0},
		{"text", "msg=hello n=1", []string{"do", "--config", "f", "--log-format", "text"}, ok, 0},
		{"bad log", "xml", []string{"do", "--config", "f", "--log-format", "xml"}, ok, 1},
		{"no config", "config", []string{"do"}, ok, 1},
		{"unknown", "dont", []string{"dont"}, ok, 1},
		{"fails", "tool: cannot do it\n", []string{"do", "--config", "f"}, func(*cobra.Command) error { return errors.New("cannot do it") }, 1},
		{"interrupted", "", []string{"do", "--config", "f"}, func(cmd *cobra.Command) error {
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return nil
		}, 0},
	} {
		var out, log bytes.Buffer
		if code := Main(root(c.run), c.args, &out, &log); code != c.code || !strings.Contains(log.String(), c.stderr) {
			t.Errorf("%s: code %d, said %q", c.name, code, log.String())
		}
	}
	if path != "f" {
		t.Errorf("configuration %q", path)
	}
}
