package main

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"serve/registry"
	"serve/server/ops"
)

// psOptions are the flags of ps.
type psOptions struct {
	urls []string
	json bool
}

func newPsCommand(w *cli) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:        "ps",
		SuggestFor: []string{"status"},
		Short:      "list running servers and their models",
		Long: `ps lists your servers on this machine and the state of each model: its process,
devices, memory (in use and planned), KV cells in use, running and queued requests,
and tokens per second over the last five seconds.`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPs(cmd.Context(), w, o) },
	}

	f := flagsOf(cmd)
	w.declareKey(f)
	f.List(&o.urls, "url", "`URL` of a server to query, instead of looking for servers")
	f.JSON(&o.json)
	return cmd
}

// serverStatus is the status of a server, or the reason why there is none.
type serverStatus struct {
	URL string `json:"url"`
	*ops.Status
	Error string `json:"error,omitempty"`
	err   error
}

func runPs(ctx context.Context, w *cli, o psOptions) error {
	list, err := w.statuses(ctx, o.urls)
	if err != nil {
		return err
	}
	if o.json {
		return w.t.PrintJSON(list)
	}
	if len(list) == 0 {
		w.t.Note("no server is running; start one with serve MODEL")
		return nil
	}

	if len(list) == 1 && list[0].err != nil {
		return list[0].err
	}

	rows := [][]string{slices.Concat([]string{"ADDRESS", "PID"}, ops.Headings)}
	for _, s := range list {
		if s.Status == nil {
			w.t.Error("%s", s.Error)
			continue
		}
		for _, m := range s.Models {
			cells := []string{strings.TrimPrefix(s.URL, "http://"), strconv.Itoa(s.PID)}
			rows = append(rows, append(cells, m.Cells()...))
		}
	}
	if len(rows) == 1 {
		return errors.New("no server answered")
	}
	return w.t.Table(rows)
}

// statuses asks the servers named, or those that run on this machine.
func (w *cli) statuses(ctx context.Context, urls []string) ([]serverStatus, error) {
	if len(urls) == 0 {
		running, err := w.servers()
		if err != nil {
			return nil, err
		}
		for _, s := range running {
			urls = append(urls, s.URL)
		}
	}

	list := []serverStatus{}
	for _, u := range urls {
		status, err := w.askStatus(ctx, u)
		s := serverStatus{URL: u, Status: status}
		if errors.Is(err, errUsage) {
			return nil, err
		}
		if err != nil {
			s.Error = err.Error()
			s.err = err
		}
		list = append(list, s)
	}
	return list, nil
}

// serverAddress reads the address of a server, with /v1 or without.
func (w *cli) serverAddress(address string) (*url.URL, error) {
	u, err := registry.ParseURL(address)
	if err != nil {
		return nil, usagef("--url: %w", err)
	}
	if w.offline && !registry.IsLocal(u) {
		return nil, usagef("--url %q is on another machine, which --offline forbids", address)
	}
	return u, nil
}

// askStatus fetches a server's status.
func (w *cli) askStatus(ctx context.Context, address string) (*ops.Status, error) {
	u, err := w.serverAddress(address)
	if err != nil {
		return nil, err
	}
	status := new(ops.Status)
	key, err := w.apiKey()
	if err != nil {
		return nil, err
	}
	if err := registry.Ask(ctx, u, key, status); err != nil {
		return nil, noServer(address, err)
	}
	return status, nil
}
