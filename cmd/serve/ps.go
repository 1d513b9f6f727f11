package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"serve/machine"
	"serve/server"
)

// psOptions are the flags of ps.
type psOptions struct {
	urls []string
	json bool
}

func newPsCommand(w *workplace) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "show what runs: models, processes, memory, queues",
		Long: `ps shows every serve of yours on this machine, and what each of its models does:
its process, the devices that compute and the memory that it takes (of what was planned
for it), the KV cells that are held, the choices computed and the requests in the queue, and the tokens a
second of the last five.`,
		Args: arguments(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPs(cmd.Context(), w, o) },
	}
	cmd.Flags().StringSliceVar(&o.urls, "url", nil, "ask this server, and look for none")
	jsonFlag(cmd, &o.json)
	return cmd
}

// serverStatus is what a server says of itself, or why it says nothing.
type serverStatus struct {
	URL string `json:"url"`
	*server.Status
	Error string `json:"error,omitempty"`
}

func runPs(ctx context.Context, w *workplace, o psOptions) error {
	store, err := w.store()
	if err != nil {
		return err
	}
	urls := o.urls
	if len(urls) == 0 {
		found, err := instances(store.Home)
		if err != nil {
			return err
		}
		for _, in := range found {
			urls = append(urls, in.URL)
		}
	}
	list := []serverStatus{}
	for _, u := range urls {
		s := serverStatus{URL: u}
		if s.Status, err = w.askStatus(ctx, u); err != nil {
			if errors.Is(err, errUsage) {
				return err
			}
			s.Error = err.Error()
		}
		list = append(list, s)
	}
	if o.json {
		return w.t.printJSON(list)
	}
	if len(list) == 0 {
		w.t.note("no serve runs; serve MODEL starts one")
		return nil
	}
	rows := [][]string{{"ADDRESS", "PID", "MODEL", "STATE", "ENGINE", "DEVICE", "MEMORY", "KV CELLS", "RUNNING", "QUEUE", "TOKENS/S", "RESTARTS"}}
	for _, s := range list {
		if s.Status == nil {
			w.t.note("error: %s: %s", s.URL, s.Error)
			continue
		}
		for _, m := range s.Models {
			rows = append(rows, append([]string{strings.TrimPrefix(s.URL, "http://"), strconv.Itoa(s.PID)}, modelRow(&m)...))
		}
	}
	if len(rows) == 1 {
		return errors.New("no serve answers")
	}
	return w.t.table(rows)
}

// modelRow is a model's cells of the table.
func modelRow(m *server.ModelStatus) []string {
	row := []string{m.ID, m.State}
	if m.Slots == 0 { // it is not in memory
		return append(row, "-", "-", "-", "-", "-", "-", "-", strconv.FormatUint(m.Restarts, 10))
	}
	process := "in serve"
	if m.Process != 0 {
		process = strconv.Itoa(m.Process)
	}
	memory := memoryCell(m)
	return append(row, process, deviceCell(m), memory, fmt.Sprintf("%d of %d", m.KVUsed, m.KVCells), fmt.Sprintf("%d of %d", m.Running, m.Slots),
		strconv.Itoa(m.Queued), fmt.Sprintf("%.0f", m.TokensPerSecond), strconv.FormatUint(m.Restarts, 10))
}

// deviceCell names the devices that compute a model, and says so if it is the processor
// and the machine has a GPU.
func deviceCell(m *server.ModelStatus) string {
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

// memoryCell says what a model takes and what was planned, device by device where there are several.
func memoryCell(m *server.ModelStatus) string {
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
func (w *workplace) serverAddress(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(strings.TrimSuffix(address, "/"), "/v1"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: --url %q: like http://127.0.0.1:8080", errUsage, address)
	}
	if w.offline && !here(u) {
		return nil, fmt.Errorf("%w: --url %q is on another machine, and --offline was asked for", errUsage, address)
	}
	return u, nil
}

// here reports whether an address is this machine's own.
func here(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// maxStatus is the most that is read of a status.
const maxStatus = 4 << 20

// askStatus asks a server how it is.
func (w *workplace) askStatus(ctx context.Context, address string) (*server.Status, error) {
	u, err := w.serverAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("status").String(), nil)
	if err != nil {
		return nil, err
	}
	// A proxy has no business between two programs of one machine.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", res.Status)
	}
	status := new(server.Status)
	if err := json.NewDecoder(io.LimitReader(res.Body, maxStatus)).Decode(status); err != nil {
		return nil, fmt.Errorf("it is no serve: %w", err)
	}
	return status, nil
}
