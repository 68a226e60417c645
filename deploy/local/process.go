package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// watched replaces the shell by the program ("$@"), after it left a watcher
// behind that outlives it. The watcher reads standard input, a pipe that only
// the starter holds: a line tells it that the program has ended; the end of
// the file, that the starter has: then it signals the program and, when told
// to, removes the program's folder.
const watched = `
signal=$1 remove=$2; shift 2
exec 3<&0
running() { kill -0 $$ && ! grep -q '^State:.Z' /proc/$$/status; }
( ( read -r _ <&3 && exit 0
    kill -"$signal" $$
    n=0; while [ $n -lt 100 ] && running; do sleep 0.1; n=$((n+1)); done
    kill -KILL $$
    [ -z "$remove" ] || rm -rf -- "$remove"
  ) >/dev/null 2>&1 & )
exec "$@" </dev/null 3<&-`

// command says how to start a program.
type command struct {
	path string
	args []string
	dir  string
	env  []string
	// user to run as; nil for the present one.
	user *syscall.Credential
	// stop is the name of the signal that ends the program in order ("INT").
	stop string
	// remove is a folder to remove should the starter die first.
	remove string
	// log is the file that gets the program's output; it is appended to.
	log string
}

// under is the command run by another program, whose arguments end with it.
func (c command) under(program []string) command {
	if len(program) > 0 {
		c.args = slices.Concat(program[1:], []string{c.path}, c.args)
		c.path = program[0]
	}
	return c
}

// Process is a program that was started and ends, at the latest, with the
// process that started it.
type Process struct {
	name string
	cmd  *exec.Cmd
	stop syscall.Signal
	log  string
	done chan struct{}
	err  error // valid once done is closed

	mu    sync.Mutex
	alive io.WriteCloser // held open for the watcher
}

func startProcess(c command) (*Process, error) {
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own

	args := append([]string{"-c", watched, "sh", c.stop, c.remove, c.path}, c.args...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, out, out
	cmd.Env = append(os.Environ(), c.env...)
	// A group of its own: Ctrl-C in a terminal is the starter's to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.user}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	p := &Process{name: filepath.Base(c.path), cmd: cmd, stop: signals[c.stop], log: c.log, done: make(chan struct{}), alive: alive}
	go p.wait()
	return p, nil
}

var signals = map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}

func (p *Process) wait() {
	state, err := p.cmd.Process.Wait()
	if err == nil && !state.Success() {
		err = errors.New(state.String())
	}
	p.mu.Lock()
	_, _ = io.WriteString(p.alive, "ended\n") // nobody reads it when the watcher was killed
	_ = p.alive.Close()
	p.mu.Unlock()
	p.err = err
	close(p.done)
}

// Pid is the process id of the program itself.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// LogFile is the file that has the program's output.
func (p *Process) LogFile() string { return p.log }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends the program a signal.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Stop asks the program to end and waits for it; when ctx ends first it is
// killed. Stopping what has ended does nothing.
func (p *Process) Stop(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	_ = p.Signal(p.stop) // fails only when it has just ended
	_ = p.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		_ = p.Signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("stop %s: killed: %w", p.name, ctx.Err())
	}
}

// Kill ends the program at once, as kill -9 does.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL) // fails only when it has ended
	<-p.done
}

// until calls ready every few milliseconds until it says yes, the program
// ends, or ctx does.
func (p *Process) until(ctx context.Context, ready func(context.Context) bool) error {
	for {
		if ready(ctx) {
			return nil
		}
		select {
		case <-p.done:
			if p.err == nil {
				return fmt.Errorf("%s ended early, its log ends with:\n%s", p.name, p.logTail())
			}
			return fmt.Errorf("%s ended early: %w, its log ends with:\n%s", p.name, p.err, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w, its log ends with:\n%s", p.name, ctx.Err(), p.logTail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Process) logTail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
