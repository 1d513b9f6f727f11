// Command serve answers OpenAI's API with a local model. See README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"serve/egress"
	"serve/sandbox"
)

func main() {
	sandbox.Enter() // an engine's process, which goes on only in its sandbox
	egress.Enter()  // one that connects to this machine for another
	egress.TakeDefaults()

	// The first signal drains; the second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
