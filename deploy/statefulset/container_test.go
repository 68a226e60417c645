package statefulset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// container is a run of the pod's program.
type container struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid once done is closed
}

// start starts the pod's program.
func (p *pod) start() (*container, error) {
	image, spec := p.set.image, &p.spec().Containers[0]
	argv := append(append([]string{}, image.entrypoint...), image.command...)
	if len(spec.Command) > 0 {
		argv = expandAll(append(append([]string{}, spec.Command...), spec.Args...), p.env)
	} else if len(spec.Args) > 0 {
		argv = append(append([]string{}, image.entrypoint...), expandAll(spec.Args, p.env)...)
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd, err := p.command(context.Background(), argv)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := p.host.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %q: %w", argv, err)
	}
	c := &container{cmd: cmd, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// command is a program inside of the pod. Its file system is the pod's, its
// user the one of the security context.
func (p *pod) command(ctx context.Context, argv []string) (*exec.Cmd, error) {
	path, err := p.find(argv[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Env, cmd.Dir = []string{}, "/"
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root, Setpgid: true}
	if s := p.spec().SecurityContext; os.Geteuid() == 0 && s != nil && s.RunAsUser != nil {
		user := &syscall.Credential{Uid: uint32(*s.RunAsUser)}
		if s.RunAsGroup != nil {
			user.Gid = uint32(*s.RunAsGroup)
		}
		if s.FSGroup != nil {
			user.Groups = []uint32{uint32(*s.FSGroup)}
		}
		cmd.SysProcAttr.Credential = user
	}
	return cmd, nil
}

// find looks for a program on the pod's PATH.
func (p *pod) find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(p.env["PATH"], ":") {
		path := filepath.Join("/", dir, name)
		if _, err := os.Stat(filepath.Join(p.root, path)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the image has no %s on its PATH %q", name, p.env["PATH"])
}

// minimumGrace is what a program has after SIGTERM, however long preStop took.
const minimumGrace = 2 * time.Second

// stop runs preStop, sends SIGTERM and, when the grace period is over, SIGKILL.
// It returns what is wrong with how the program ended.
func (p *pod) stop(c *container, grace time.Duration) error {
	if grace == 0 {
		p.kill(c)
		return nil
	}
	deadline := time.Now().Add(grace)
	hook := p.preStop(c, deadline)
	rest := time.NewTimer(max(time.Until(deadline), minimumGrace))
	defer rest.Stop()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	select {
	case <-c.done:
		if c.err != nil {
			return errors.Join(hook, fmt.Errorf("after SIGTERM: %w", c.err))
		}
		return hook
	case <-rest.C:
		p.kill(c)
		return errors.Join(hook, fmt.Errorf("killed: it had not ended after %s", grace))
	case <-p.forced:
		p.kill(c)
		return nil
	}
}

// kill ends every process of the container at once.
func (p *pod) kill(c *container) {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // fails only when all have ended
	<-c.done
}

// preStop runs the hook, no longer than the container lives.
func (p *pod) preStop(c *container, deadline time.Time) error {
	l := p.spec().Containers[0].Lifecycle
	if l == nil || l.PreStop == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.handle(ctx, *l.PreStop) }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("preStop: %w", err)
		}
	case <-c.done:
	case <-p.forced:
	}
	return nil
}
