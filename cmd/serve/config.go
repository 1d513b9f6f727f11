package main

import (
	"time"

	"github.com/spf13/pflag"

	"serve/archive"
	"serve/auditor"
	"serve/engine"
	"serve/flagset"
	"serve/host"
	"serve/loader"
	"serve/server"
	"serve/server/ops"
)

// config holds the values of serve's flags and environment variables. The functions below are the only
// place where the default, bounds and help of each are declared.
type config struct {
	modelConfig

	host         string
	port         int
	ollamaPort   int
	protection   host.Protection
	aliases      []string
	lazy         bool
	isolate      bool
	drainTimeout time.Duration

	keysFile string
	audit    auditor.Flags

	dataDir       string
	keepResponses time.Duration
	stored        archive.Limits
	strictFields  string
	otlpEndpoint  string

	engine      engine.Options
	server      server.Options
	connections host.ConnectionLimits

	ready func(url string) // called with the address when ready; if nil, the address is printed
}

// strictOff is the value of --strict-fields that accepts unknown fields.
const strictOff = "off"

// modelConfig holds the flags of every command that loads models.
type modelConfig struct {
	model  loader.ModelOptions
	mmproj []string
}

// defaultConfig returns the configuration without any flag.
func defaultConfig() *config {
	c := new(config)
	c.declare(flagset.Of(pflag.NewFlagSet("", pflag.ContinueOnError)))
	return c
}

// declare declares the flags of serve, in the order of its help.
func (c *config) declare(f flagset.Set) {
	f.Text(&c.host, "host", defaultHost, "`address` to listen on")
	f.Toggle(&c.protection.AllowAnonymous, "allow-anonymous", false,
		"let anybody who reaches the server use it, without a key, also from other machines")
	f.Text(&c.keysFile, "keys", "", "`file` of API keys, one of which every client needs (serve key create); by default "+
		"keys.json in serve's own data folder, if there is one")
	c.protection.OIDC.Declare(f)
	port(f, &c.port, "port to listen on; 0 for any free port")
	flagset.Number(f, &c.ollamaPort, "ollama-port", 0, flagset.Within(0, 1<<16-1),
		"additional port for Ollama's clients, which expect 11434; 0 for none")
	c.declareTLS(f)
	c.audit.Declare(f)
	c.modelConfig.declare(f)

	f.List(
		&c.aliases,
		"alias",
		"`alias` for a model: gpt-4o=mistral-7b, or gpt-4o for the first model; * matches all other names",
	)
	f.Toggle(&c.lazy, "lazy", false, "load each model on its first request instead of at startup")
	f.Duration(&c.server.KeepAlive, "keep-alive", 0, flagset.AtLeast(0),
		"end a model's process once it has been idle for this long, so that its GPU sleeps; the next request loads it; "+
			"0 to keep it until its memory is needed")
	f.Duration(&c.server.LoadWait, "load-timeout", 5*time.Minute, flagset.AtLeast(0),
		"how long a request waits for its model to load")
	f.List(&c.server.AllowedOrigins, "allow-origin",
		"`origin` of web pages that may call the API (CORS); chrome-extension://* for all extensions, * for all origins")
	f.List(&c.server.Hosts, "allow-host",
		"host `name` by which clients may call the server, besides its addresses, localhost and the machine's own names; "+
			"*.example.com for all names below one, * for any")
	c.declareLimits(f)
	c.declareEngine(f)

	f.Text(&c.dataDir, "data-dir", "",
		"`folder` to store responses, files and batches in; by default, only recent responses are kept, in memory")
	f.Duration(&c.keepResponses, "keep-responses", 30*24*time.Hour, flagset.AtLeast(0),
		"how long to keep stored responses; 0 to keep them forever")
	flagset.Size(f, &c.stored.Bytes, "data-max", 16<<30, flagset.Within[int64](1, 1<<50),
		"maximum size of all stored responses, conversations and files together")
	flagset.Size(f, &c.stored.ClientBytes, "data-max-client", 0, flagset.Within[int64](0, 1<<50),
		"maximum size of what one client (an API key, or an address) has stored; 0 for a quarter of --data-max")
	f.Text(&c.server.Moderator, "moderation", "", "`name` of a served Llama Guard model that answers /v1/moderations")
	f.List(&c.server.ImageHosts, "image-host",
		"`host` that images in requests may be fetched from, by https; with host:port or http://host:port, also elsewhere. "+
			"Data URLs are always accepted")
	f.Toggle(&c.server.PrivateImageHosts, "image-host-private", false,
		"let the names in --image-host lead to addresses of this machine or of a private network")
	f.Text(&c.otlpEndpoint, "otlp-endpoint", "",
		"`URL` of an OpenTelemetry collector for traces, such as http://localhost:4318; no prompts or answers are sent")
	f.Choice(&c.server.MetricNames, "metrics-names", "serve", []string{"serve", ops.NamesVLLM},
		"names of the metrics: serve's own, or vLLM's, too, for dashboards and autoscalers that know no others")
	f.Duration(&c.drainTimeout, "drain-timeout", 30*time.Second, flagset.AtLeast(0),
		"how long running requests may continue after a signal to stop")
}

// declareTLS declares the flags that protect connections.
func (c *config) declareTLS(f flagset.Set) {
	p := &c.protection
	t := &p.Certificate
	f.Text(&t.CertFile, "tls-cert", "",
		"PEM `file` with the server's certificate, and those between it and the root; it is loaded again when it changes")
	f.Text(&t.KeyFile, "tls-key", "", "PEM `file` with the key of --tls-cert, which others must not be able to read")
	f.Toggle(&t.SelfSigned, "tls-self-signed", false, "make a certificate that clients trust with --ca-file, for a lab")
	f.Text(&t.ClientCA, "tls-client-ca", "",
		"PEM `file` of the authorities of clients' certificates, which every client must then have")
	f.Toggle(&p.AllowPlainHTTP, "allow-plain-http", false,
		"listen without TLS where other machines reach the server")
	f.List(&p.Proxies, "trust-proxy",
		"`address` or network (CIDR) of proxies that tell where requests come from, and that encrypt")
}

// declareLimits declares the flags that bound what clients may ask for.
func (c *config) declareLimits(f flagset.Set) {
	flagset.Number(f, &c.engine.MaxWaiting, "max-waiting", 512, flagset.Within(1, 1<<20),
		"maximum queued requests per model; one client may take at most 4/5 of them")
	flagset.Number(f, &c.engine.MaxWaitingTokens, "max-waiting-tokens", 1<<20, flagset.Within(1, 1<<40),
		"maximum prompt tokens in a model's queue")
	f.Duration(&c.engine.MaxWait, "max-wait", 5*time.Minute, flagset.AtLeast(0),
		"maximum time in the queue; a request that would wait longer is refused at once; 0 for no limit")

	f.Choice(&c.strictFields, "strict-fields", "on", []string{"on", strictOff},
		"what to do with unknown request fields: refuse the request (on), or ignore the fields and list them in "+
			"X-Ignored-Fields (off)")
	flagset.Size(f, &c.server.MaxBody, "max-body", 32<<20, flagset.Within[int64](0, 1<<40),
		"maximum size of a request body; at most 4 MiB where no images can be in it")
	flagset.Size(f, &c.server.BodyMemory, "body-memory", 0, flagset.Within[int64](0, 1<<50),
		"memory for the bodies of all requests; one client may take at most 4/5; "+
			"0 for 1/32 of this machine's or control group's memory")
	flagset.Number(f, &c.server.MaxReading, "max-reading", 1024, flagset.Within(1, 1<<20),
		"maximum requests whose bodies are being received; one client may have at most 4/5")
	f.Duration(&c.server.MaxCPU, "max-cpu", time.Second, flagset.AtLeast(time.Millisecond),
		"CPU time that the decoding of a request may take")

	flagset.Number(f, &c.connections.All, "max-connections", 4096, flagset.Within(0, 1<<20),
		"maximum open connections; 0 for no limit")
	flagset.Number(f, &c.connections.PerAddress, "max-client-connections", 1024, flagset.Within(0, 1<<20),
		"maximum open connections from one address, except those that --trust-proxy names; 0 for no limit")

	f.Duration(&c.server.ReadStall, "read-timeout", 30*time.Second, flagset.AtLeast(time.Millisecond),
		"how long a client may send nothing of a request's body")
	f.Duration(&c.server.WriteStall, "write-timeout", 2*time.Minute, flagset.AtLeast(time.Millisecond),
		"how long a client may accept nothing of an answer")

	flagset.Size(f, &c.server.MaxFile, "max-file", 512<<20, flagset.Within[int64](1, 1<<40),
		"maximum size of a file that a client stores")
}

// declareEngine declares the flags of engines.
func (c *config) declareEngine(f flagset.Set) {
	f.Duration(&c.engine.Gap, "stream-gap", 50*time.Millisecond, flagset.Within(0, time.Minute),
		"maximum pause between a stream's tokens for others' prompts, or 2.5 decoding steps if that is longer")
	f.Choice(&c.engine.Speculation, "speculation", "off", []string{engine.SpeculationAuto, "off"},
		"auto computes guesses of an answer's next tokens with it, where that makes answers faster (docs/performance.md)")
	f.Toggle(&c.isolate, "isolate", true, "run each model in its own process, which is restarted when it dies")
	f.Duration(&c.server.Stall, "stall-timeout", 2*time.Minute, flagset.AtLeast(1),
		"how long a step may take before the engine is considered stalled and is restarted")
}

// declare declares the flags of commands that load models.
func (c *modelConfig) declare(f flagset.Set) {
	c.model.Declare(f)
	f.List(&c.mmproj, "mmproj",
		"multimodal projector for image input: `FILE`, MODEL=FILE or none; by default the model's own")
}
