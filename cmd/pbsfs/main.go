// Command pbsfs shows a Proxmox Backup Server datastore as a tree of files.
//
// Each command is a file of its own: a constructor, its options, and a function
// that runs it. What a command answers with is an error; exit.go alone knows
// which exit code that is.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

// run runs one command line and returns the exit code.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	cmd := newRootCommand(app)
	cmd.SetArgs(args)
	return app.report(cmd.ExecuteContext(ctx))
}
