// Package doctor finds problems with this machine that would prevent serve from working well, and
// says what to do about them. It opens no connections.
package doctor

import (
	"context"
	"fmt"

	"serve/loader"
	"serve/models"
)

// Severity is how bad a finding is.
type Severity string

// Severities.
const (
	Fine    Severity = "ok"
	Warning Severity = "warning" // serve works, but not as well as it could
	Broken  Severity = "error"   // serve does not work
)

// Finding is the result of one check.
type Finding struct {
	About    string   `json:"about"`
	Severity Severity `json:"severity"`
	Seen     string   `json:"seen"`
	Do       string   `json:"do,omitempty"` // what to do about it
}

// AllKernels is the value of Options.Kernels that also checks kernels that no model uses.
const AllKernels = "all"

// Options are the options of Examine.
type Options struct {
	Host string
	Port int

	// Kernels selects the kernels to check: loader.AutoKernels for those that models use on this
	// machine, AllKernels, or a name.
	Kernels string

	Store    *models.Store // nil if it cannot be opened, which NoStore then explains
	NoStore  error
	Hardware *loader.Hardware
	Environ  []string // environment of the processes that are started

	// Owner returns the process of a serve that listens on the port, if there is one.
	Owner func(port int) (pid int, found bool)
}

// examination runs the checks.
type examination struct {
	Options
	workers *loader.Workers
}

// Examine runs all checks, and returns the findings in a fixed order.
func Examine(ctx context.Context, o Options) (list []Finding) {
	e := &examination{Options: o}
	checks := []func(context.Context) []Finding{e.processor, e.memory, e.limits, e.cache, e.port, e.cryptography}
	if o.Store != nil {
		e.workers = loader.NewWorkers(o.Hardware, o.Environ, o.Store.Home)
		checks = []func(context.Context) []Finding{
			e.processor, e.kernels, e.results, e.devices, e.memory, e.limits, e.cache, e.home, e.port, e.sandbox,
			e.offline, e.cryptography,
		}
	}

	for _, check := range checks {
		list = append(list, check(ctx)...)
	}
	return list
}

// one returns a list of one finding.
func one(about string, severity Severity, seen, do string) []Finding {
	return []Finding{{about, severity, seen, do}}
}

// Table returns rows of findings, each with its advice below.
func Table(list []Finding) [][]string {
	rows := [][]string{}
	for _, f := range list {
		rows = append(rows, []string{string(f.Severity), f.About, f.Seen})
		if f.Do != "" {
			rows = append(rows, []string{"", "", "hint: " + f.Do})
		}
	}
	return rows
}

// Failed returns an error if something is broken.
func Failed(list []Finding) error {
	problems := 0
	for _, f := range list {
		if f.Severity == Broken {
			problems++
		}
	}
	if problems > 0 {
		return fmt.Errorf("%d of %d checks failed", problems, len(list))
	}
	return nil
}
