package doctor

import (
	"context"
	"fmt"

	"serve/loader"
	"serve/sandbox"
)

// openNetwork is the advice where --offline is not enforced.
const openNetwork = "use Linux with seccomp (3.17 or later; amd64 or arm64), or keep the machine, or the service, " +
	"from the network by its own means: docs/security.md"

// Egress tries to reach sockets of this process from a server that is restricted by --offline, and from its engine, and
// returns what came of each way.
func Egress(ctx context.Context, o Options) (list []Finding) {
	if o.Store == nil {
		return one("egress", Broken, fmt.Sprint(o.NoStore), "make SERVE_HOME usable, or set it to another folder")
	}
	workers := loader.NewWorkers(o.Hardware, o.Environ, o.Store.Home)
	r, err := workers.CheckEgress(ctx)
	if err != nil {
		return one("egress", Broken, fmt.Sprintf("a restricted process cannot be tried: %v", err), openNetwork)
	}

	f := Finding{About: "offline", Severity: Fine, Seen: "the kernel enforces --offline by a filter on system calls " +
		"(seccomp) of all threads, which processes that they start inherit"}
	if r.Unenforced != "" {
		f = Finding{"offline", Broken, "the kernel does not enforce --offline: " + r.Unenforced, openNetwork}
	}
	list = append(list, f)
	for _, way := range r.Server {
		list = append(list, outcome(way, r))
	}

	f = Finding{About: "clients", Severity: Fine, Seen: "the restricted server answers who connects to it"}
	if !r.Answered {
		f = Finding{"clients", Broken, "the restricted server did not answer a client", openNetwork}
	}
	list = append(list, f)
	f = Finding{About: "arrivals", Severity: Fine, Seen: "nothing arrived at the sockets that it tried to reach"}
	if r.Arrived > 0 {
		f = Finding{"arrivals", Broken, fmt.Sprintf("%d attempts arrived", r.Arrived), openNetwork}
	}
	return append(list, f)
}

// offline reports whether the kernel enforces --offline.
func (e *examination) offline(ctx context.Context) []Finding {
	unenforced, err := e.workers.CheckOffline(ctx)
	if err != nil {
		unenforced = err.Error()
	}
	if unenforced != "" {
		return one("offline", Warning, "the kernel does not enforce --offline, only serve itself does: "+unenforced,
			openNetwork)
	}
	return one("offline", Fine, "the kernel enforces --offline; serve doctor --egress tries it", "")
}

// outcome says what came of a way.
func outcome(server sandbox.Result, r loader.EgressReport) Finding {
	free := resultOf(server.Act, r.Free)
	engine := resultOf(server.Act, r.Engine)
	f := Finding{About: "egress", Severity: Fine}
	f.Seen = fmt.Sprintf("%s: server: %s; engine: %s; without --offline: %s",
		server.Act, said(&server), said(engine), said(free))
	if !server.Refused || engine != nil && !engine.Refused {
		f.Severity = Broken
		f.Do = openNetwork
	}
	return f
}

// resultOf returns the result of an act; nil if it was not tried.
func resultOf(act string, results []sandbox.Result) *sandbox.Result {
	for i := range results {
		if results[i].Act == act {
			return &results[i]
		}
	}
	return nil
}

// said says what came of an act.
func said(r *sandbox.Result) string {
	switch {
	case r == nil:
		return "not tried"
	case r.Refused:
		return "refused (" + r.Said + ")"
	case r.Said == "":
		return "done"
	}
	return "not refused (" + r.Said + ")"
}
