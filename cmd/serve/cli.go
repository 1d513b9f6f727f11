package main

import (
	"context"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"serve/dial"
	"serve/egress"
	"serve/hub"
	"serve/library"
	"serve/loader"
	"serve/models"
	"serve/provenance"
	"serve/registry"
	"serve/rpc"
	"serve/sandbox"
	"serve/terminal"
	"serve/tracing"
)

// needs is the annotation of commands with what they need of the network under --offline.
const needs = "network"

// cli is what every command has: the terminal, the environment, and the flags that every
// command takes.
type cli struct {
	t        *terminal.Terminal
	environ  []string
	offline  bool
	caFile   string
	logLevel string
	reach    dial.Flags // of commands that ask servers
	net      egress.Net // opens all connections
	manager  egress.Manager
	proving  bool // doctor tries what --offline refuses, and needs a connection to compare with
	rules    provenance.Rules
}

// dialer finds servers.
func (w *cli) dialer() *dial.Dialer {
	return &dial.Dialer{
		Terminal: w.t,
		Lookup:   w.lookup,
		Network:  w.network,
		Servers:  w.servers,
		Flags:    w.reach,
	}
}

// lookup returns a variable of the environment, or "".
func (w *cli) lookup(name string) string {
	value := ""
	for _, pair := range w.environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// network returns the options for outgoing connections.
func (w *cli) network() (hub.Options, error) {
	o, err := hub.FromEnvironment(w.lookup)
	o.Offline = o.Offline || w.offline
	o.CAFile = w.caFile
	o.Net = &w.net
	o.UserAgent = "serve/" + versionText()
	return o, err
}

// transport returns a transport for a flag that needs outgoing connections, in a way.
func (w *cli) transport(flag string, way *egress.Way) (*http.Transport, error) {
	network, err := w.network()
	if err != nil {
		return nil, err
	}
	if network.Offline {
		return nil, usagef("%s and --offline contradict each other", flag)
	}
	transport, err := hub.Transport(network, way)
	if err != nil {
		return nil, usageError{err}
	}
	return transport.(*http.Transport), nil // it refuses connections only if offline
}

// disconnect takes the means to connect from this process. Tests, which go on, replace it.
var disconnect = (*egress.Net).Disconnect

// goOffline has the kernel enforce --offline, before a command has read anything.
func (w *cli) goOffline(cmd *cobra.Command) {
	o, _ := w.network() // a command that needs it reports the error
	if !o.Offline || cmd.Name() == loader.EngineCommand || w.proving {
		return
	}
	disconnect(&w.net, cmd.Context(), egress.Disconnection{
		Needs:   cmd.Annotations[needs],
		Devices: len(hardware.Backends()) > 0,
		Environ: sandbox.Environ(os.Environ(), "", hardware.Variables...),
		Manager: &w.manager,
		Prepare: hardware.Nodes,
		Warn:    w.t.Warn,
	})
}

// store opens the models of this machine. It opens no connection.
func (w *cli) store() (*models.Store, error) {
	o, err := w.network()
	if err != nil {
		return nil, err
	}
	o.Progress = w.t.Progress()
	client, err := hub.New(o)
	if err != nil {
		return nil, usageError{err}
	}
	return &models.Store{Hub: client, Home: models.Home(w.lookup, o.Cache)}, nil
}

// tracer sends spans to an OpenTelemetry collector, until it is stopped.
func (w *cli) tracer(ctx context.Context, endpoint string) (tracer trace.Tracer, stop func(), err error) {
	collector, err := tracing.ParseCollector(endpoint)
	if err != nil {
		return nil, nil, usagef("--otlp-endpoint: %w", err)
	}
	way := egress.NewWay("traces", "sends traces to a collector").Allow("--otlp-endpoint", collector.String())
	transport, err := w.transport("--otlp-endpoint", way)
	if err != nil {
		return nil, nil, err
	}

	w.t.Fact("traces", "sent to %s", collector.Redacted())
	return tracing.Start(ctx, tracing.Options{
		Collector: collector,
		Transport: transport,
		Version:   versionText(),
		Warn:      w.t.Warn,
	})
}

// servers returns the servers that run on this machine.
func (w *cli) servers() ([]registry.Server, error) {
	store, err := w.store()
	if err != nil {
		return nil, err
	}
	return registry.List(store.Home)
}

// library opens the models of this machine, for commands that take names of models.
func (w *cli) library() (*library.Resolver, error) {
	store, err := w.store()
	if err != nil {
		return nil, err
	}
	store.Admit, err = w.rules.Admission(store.Home, w.t)
	return &library.Resolver{Store: store, Terminal: w.t, Lookup: w.lookup}, err
}

// workers connects to those of --rpc.
func (w *cli) workers() loader.Connect { return (&rpc.Dialer{Net: &w.net}).Connect }

// loaderOptions returns the loader's options from the configuration.
func (w *cli) loaderOptions(c *config, store *models.Store) loader.Options {
	return loader.Options{
		Model:    c.model,
		Engine:   c.engine,
		Isolate:  c.isolate,
		Stall:    c.server.Stall,
		Store:    store,
		Hardware: hardware,
		Connect:  w.workers(),
		Reporter: w.t,
		Environ:  os.Environ(),
		LogLevel: w.logLevel,
		Log:      w.t.Err,
		Version:  versionText(),
	}
}
