package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"serve/machine"
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

	rows := [][]string{{
		"ADDRESS", "PID", "MODEL", "STATE", "ENGINE", "DEVICE",
		"MEMORY", "KV CELLS", "RUNNING", "QUEUE", "TOKENS/S", "RESTARTS",
	}}
	for _, s := range list {
		if s.Status == nil {
			w.t.Error("%s", s.Error)
			continue
		}
		for _, m := range s.Models {
			cells := []string{strings.TrimPrefix(s.URL, "http://"), strconv.Itoa(s.PID)}
			rows = append(rows, append(cells, modelRow(&m)...))
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

// modelRow returns a model's cells in the table.
func modelRow(m *ops.ModelStatus) []string {
	row := []string{m.ID, m.State}
	restarts := strconv.FormatUint(m.Restarts, 10)
	if m.Slots == 0 { // not in memory
		return append(row, "-", "-", "-", "-", "-", "-", "-", restarts)
	}

	process := "in serve"
	if m.Process != 0 {
		process = strconv.Itoa(m.Process)
	}
	return append(row,
		process,
		deviceCell(m),
		memoryCell(m),
		fmt.Sprintf("%d of %d", m.KVUsed, m.KVCells),
		fmt.Sprintf("%d of %d", m.Running, m.Slots),
		strconv.Itoa(m.Queued),
		fmt.Sprintf("%.0f", m.TokensPerSecond),
		restarts,
	)
}

// deviceCell names the devices that compute a model, and says so if it is the CPU and the machine
// has a GPU.
func deviceCell(m *ops.ModelStatus) string {
	var names []string
	for _, d := range m.Devices {
		names = append(names, d.Name)
	}
	cell := strings.Join(names, "+")
	if m.WhyProcessor != "" {
		cell += " (" + m.WhyProcessor + ")"
	}
	return cell
}

// memoryCell describes a model's memory in use and planned, for each device if there are several.
func memoryCell(m *ops.ModelStatus) string {
	var cells []string
	for _, d := range m.Memory {
		cell := machine.FormatSize(d.Planned) + " planned"
		if d.Taken > 0 {
			cell = fmt.Sprintf("%s (%s planned)", machine.FormatSize(d.Taken), machine.FormatSize(d.Planned))
		}
		if len(m.Memory) > 1 {
			cell = d.Device + " " + cell
		}
		cells = append(cells, cell)
	}
	if len(cells) == 0 {
		return machine.FormatSize(m.PlannedBytes) + " planned"
	}
	return strings.Join(cells, ", ")
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
	if err := registry.Ask(ctx, u, status); err != nil {
		return nil, noServer(address, err)
	}
	return status, nil
}
