package host

import (
	"fmt"
	"time"
)

// Commands to paste: curl with its options, the address, then the model's name.
const (
	tryChat = `%s %s/v1/chat/completions -H 'Content-Type: application/json'` +
		` -d '{"model":%q,"messages":[{"role":"user","content":"Hello"}]}'` + "\n"
	tryEmbedding = `%s %s/v1/embeddings -H 'Content-Type: application/json' -d '{"model":%q,"input":"Hello"}'` + "\n"
)

// ready tells that the server is: the caller, or else the user.
func (o *Options) ready() {
	address := o.entry().URL
	if o.Ready != nil {
		o.Ready(address)
		return
	}

	t := o.Terminal
	scheme := "http"
	curl := "curl"
	if o.Certificate == nil {
		address = "http://" + o.Listener.Addr().String()
	} else {
		scheme = "https"
		t.Fact("tls", "SHA-256 fingerprint %s", o.Certificate.Fingerprint())
		if file := o.Certificate.CAFile(); file != "" {
			t.Fact("ca file", "%s (for clients: --ca-file, curl --cacert)", file)
			curl = "curl --cacert " + file
		}
	}
	try := tryChat
	if o.Embeds {
		try = tryEmbedding
	}

	fmt.Fprintf(t.Out, try, curl, address, o.Models[0].ID)
	if o.Page {
		t.Fact("web UI", "%s/", address)
	}
	for _, l := range o.Also {
		t.Fact("ollama", "%s://%s", scheme, l.Addr())
	}
	t.Fact("ready", "%s/v1", address)
}

// stopping tells the user that the server begins to drain, unless the caller was told that it was ready.
func (o *Options) stopping() {
	if o.Ready == nil {
		o.Terminal.Note("stopping: running requests have %s to finish; send another signal to stop at once",
			o.DrainTimeout.Round(time.Millisecond))
	}
}
