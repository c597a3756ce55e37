package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to stop after SIGTERM.
const stopTimeout = 10 * time.Second

// maxLine bounds one log line of a process in bytes.
const maxLine = 64 << 10

// A process is one child with its log.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan error // receives the outcome of Wait, then is closed
}

// start runs a program and hands each line of its log to line, from one goroutine, until the program ends.
func start(name string, line func(source string, text []byte), argv ...string) (*process, error) {
	done := make(chan error, 1)
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: done}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	p.cmd.Stdout = os.Stdout
	// An own process group keeps the terminal's Ctrl-C away from the children, so that they are stopped in order; the death signal
	// ends them when this process is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		defer close(done) // not p.done: who watches the process puts a channel of its own there
		lines := bufio.NewScanner(stderr)
		lines.Buffer(make([]byte, 4<<10), maxLine)
		for lines.Scan() {
			line(name, lines.Bytes())
		}
		// A line beyond the bound ends the scan, not the program: the rest must still be read.
		_, copyErr := io.Copy(io.Discard, stderr)
		done <- errors.Join(lines.Err(), copyErr, p.cmd.Wait())
	}()
	return p, nil
}

// stop asks the process to end and waits; one that does not end in time is killed, which is an error.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot stop %s: %w", p.name, err)
	}
	select {
	case err := <-p.done:
		if err != nil {
			return fmt.Errorf("%s ended badly: %w", p.name, err)
		}
		return nil
	case <-time.After(stopTimeout):
		killErr := p.cmd.Process.Kill()
		<-p.done
		return errors.Join(fmt.Errorf("%s did not stop within %v and was killed", p.name, stopTimeout), killErr)
	}
}

// peakRSS returns the largest resident memory that the process has had, in KiB (VmHWM, proc(5)).
func (p *process) peakRSS() (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, fmt.Errorf("cannot read memory of %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("cannot read memory of %s: no VmHWM", p.name)
}

// run runs a program to its end and returns what it printed; a failure carries its last line.
func run(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(log.String())
		if i := strings.LastIndexByte(said, '\n'); i >= 0 {
			said = said[i+1:]
		}
		return "", fmt.Errorf("%s failed: %w: %s", strings.Join(argv, " "), err, said)
	}
	return strings.TrimSpace(out.String()), nil
}
