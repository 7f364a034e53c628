// Tenks makes clusters of virtual bare metal. This file turns signals into the
// end of a context and the result of the command line (package cli) into an
// exit status.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tenks/tenks/internal/cli"
)

// version is set by the linker (see Makefile).
var version = "development"

func main() { os.Exit(run()) }

// run is main with an exit status: 0, 1 for a failure, 2 for changes under
// plan --detailed-exitcode, 130 when a signal ended it.
func run() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		cancel(fmt.Errorf("%w (%s)", cli.ErrInterrupted, s))
		<-signals // the second one does not wait for running steps
		os.Exit(130)
	}()
	return cli.Run(ctx, version, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
