package doctor

import (
	"context"
	"fmt"
	"strings"

	"serve/sandbox"
)

// newerKernel is the advice for what this kernel does not refuse.
const newerKernel = "use a kernel with seccomp and Landlock (Linux 5.13 or later; docs/robustness.md has what each " +
	"version adds), or see docs/operations for a container's or a service's own means"

// sandbox starts a process like an engine, which tries what the sandbox refuses, and reports what comes of it.
func (e *examination) sandbox(ctx context.Context) []Finding {
	r, err := e.workers.CheckSandbox(ctx)
	if err != nil {
		return one("engines", Broken, fmt.Sprintf("an engine's process cannot be started: %v", err),
			"start serve with --isolate=false, and report this message")
	}

	list := []Finding{landlock(sandbox.Version())}
	if r.Unconfined != "" {
		list = append(list, Finding{"sandbox", Warning, "engines are not fully confined: " + r.Unconfined, newerKernel})
	}
	list = append(list, groups(r.Results)...)
	if r.Cache != "" {
		list = append(list, Finding{About: "driver cache", Severity: Fine,
			Seen: "engines that use devices write only what drivers keep in " + r.Cache})
	}
	if r.NoCache != nil {
		list = append(list, Finding{"driver cache", Warning, r.NoCache.Error(),
			"make SERVE_HOME writable: without the folder, GPU drivers compile their code at every start"})
	}
	return list
}

// landlock reports the kernel's version of Landlock, and what later ones add.
func landlock(version int, err error) Finding {
	if err != nil {
		return Finding{"landlock", Warning, "engines can open any file: " + err.Error(), newerKernel}
	}
	f := Finding{About: "landlock", Severity: Fine, Seen: fmt.Sprintf("version %d", version)}
	if lacks := sandbox.Lacks(version); len(lacks) > 0 {
		f.Seen += "; a later kernel also restricts " + strings.Join(lacks, ", ")
	}
	return f
}

// groups reports the results of a probe, a finding for each group of acts.
func groups(results []sandbox.Result) (list []Finding) {
	refused := map[string][]string{}
	allowed := map[string][]string{}
	var order []string
	for _, r := range results {
		if len(refused[r.Group])+len(allowed[r.Group]) == 0 {
			order = append(order, r.Group)
		}
		switch {
		case r.Refused:
			refused[r.Group] = append(refused[r.Group], r.Act)
		case r.Granted:
			refused[r.Group] = append(refused[r.Group], r.Act+" (granted: drivers need it)")
		default:
			allowed[r.Group] = append(allowed[r.Group], r.Act)
		}
	}

	for _, group := range order {
		f := Finding{About: group, Severity: Fine, Seen: "engines are refused: " + strings.Join(refused[group], ", ")}
		if len(allowed[group]) > 0 {
			f = Finding{group, Warning, "engines are not refused: " + strings.Join(allowed[group], ", "), newerKernel}
		}
		list = append(list, f)
	}
	return list
}
