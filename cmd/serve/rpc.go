package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"serve/egress"
	"serve/loader"
	"serve/rpc"
)

func newRPCCommand(w *cli) *cobra.Command {
	var o loader.RPCOptions
	var address string
	cmd := &cobra.Command{
		Use:   "rpc",
		Short: "offer this machine's devices to serve --rpc on another",
		Long: `rpc lets serve --rpc HOST:PORT on another machine use the GPUs of this one, or
without any its CPU and main memory, by ggml's RPC protocol. It serves no API and has
no models: their weights come from there.

The protocol has no authentication and no encryption: whoever reaches the port can
read weights and what is computed, and take over the process that serves it, which
runs in a sandbox. So the address must be one of this machine or of a private network
that only trusted machines reach. Both ends must be of the same version.`,
		Example:     "  serve rpc --listen 10.0.0.7:50052 --memory 20GiB",
		Annotations: map[string]string{needs: egress.Listens},
		Args:        arguments(0, 0, "no arguments"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runRPC(cmd.Context(), w, address, o) },
	}

	f := flagsOf(cmd)
	f.Text(&address, "listen", "127.0.0.1:50052", "`address` to listen on; port 0 for any free port")
	o.Declare(f)
	return cmd
}

func runRPC(ctx context.Context, w *cli, address string, o loader.RPCOptions) error {
	store, err := w.store()
	if err != nil {
		return err
	}
	listener, warning, err := rpc.Listen(address)
	if err != nil {
		return usageError{err}
	}
	w.net.Listening()
	if warning != "" {
		w.t.Warn("%s", warning)
	}

	workers := loader.NewWorkers(hardware, os.Environ(), store.Home)
	offered, err := workers.Offered(ctx)
	if err != nil {
		listener.Close()
		return err
	}
	w.t.Fact("device", "%s", loader.DescribeDevices(offered))
	w.t.Fact("ready", "%s", listener.Addr())
	server := rpc.Server{Listener: listener, Work: func(ctx context.Context, connection *os.File) error {
		return workers.WorkRPC(ctx, connection, o, w.t.Err)
	}}
	return server.Run(ctx)
}
