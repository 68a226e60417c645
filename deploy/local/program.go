package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ProgramOptions say how a server that has no function of its own here runs.
type ProgramOptions struct {
	Path string
	Args []string
	// Dir is where it runs and where its output goes, in a file named after
	// it; it is made when absent.
	Dir string
	Env []string
	// Ready reports whether it serves; nil: at once.
	Ready func(context.Context) bool
}

// StartProgram starts a server and returns when it is ready. It ends with Stop
// (SIGTERM), or with this process.
func StartProgram(ctx context.Context, o ProgramOptions) (*Process, error) {
	name := filepath.Base(o.Path)
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p, err := startProcess(command{
		path: o.Path, args: o.Args, dir: o.Dir, env: o.Env, stop: "TERM", log: filepath.Join(o.Dir, name+".log"),
	})
	if err != nil || o.Ready == nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.until(ctx, o.Ready); err != nil {
		p.Kill()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Answers is a ProgramOptions.Ready: 200 from a URL.
func Answers(url string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		ok, _ := ready(ctx, url)
		return ok
	}
}
