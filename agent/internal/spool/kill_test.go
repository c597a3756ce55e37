package spool

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

// kill lets a process live and kills it at an instant of chance: one in three while it opens the store, the others at work. It returns
// what the process said in whole lines. Without chance the process is killed once it is at work.
func kill(t *testing.T, dir string, chance *rand.Rand) []byte {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lifeEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	die := func(after time.Duration) {
		time.Sleep(after)
		cmd.Process.Kill()
	}
	upon, within := "ready\n", 400*time.Millisecond
	if chance != nil && chance.IntN(3) == 0 {
		upon, within = "begin\n", 40*time.Millisecond
	}
	wait := time.Duration(0)
	if chance != nil {
		wait = time.Duration(chance.Int64N(int64(within)))
	}
	var text bytes.Buffer
	buf, dying := make([]byte, 4096), false
	done := make(chan struct{})
	for {
		n, err := out.Read(buf)
		text.Write(buf[:n])
		if !dying && bytes.Contains(text.Bytes(), []byte(upon)) {
			dying = true
			go func() { defer close(done); die(wait) }()
		}
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if dying {
		<-done
	}
	cmd.Wait() // killed: always an error
	whole := bytes.LastIndexByte(text.Bytes(), '\n') + 1
	if !dying {
		t.Fatalf("a life ended by itself: %s", text.Bytes())
	}
	return text.Bytes()[:whole]
}
