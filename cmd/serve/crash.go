package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"serve/engine/remote"
	"serve/hub"
)

// maxReports is how many crash reports are kept.
const maxReports = 20

var unsafeInNames = regexp.MustCompile(`[^0-9A-Za-z._-]+`)

// crashReport is a file about an engine that died. It has the shapes of what was
// computed, and no text of anyone.
type crashReport struct {
	Time     time.Time     `json:"time"`
	Model    string        `json:"model"`
	Version  string        `json:"version"`
	How      string        `json:"how"`
	Stalled  string        `json:"stalled,omitempty"`
	Wire     string        `json:"wire,omitempty"`
	Lived    string        `json:"lived"`
	Restarts int           `json:"restarts_before"`
	Batch    []remote.Part `json:"batch,omitempty"`
	Embeds   []int         `json:"embedding_inputs,omitempty"`
	Calls    []string      `json:"calls,omitempty"`
	Log      []string      `json:"log"`
}

// report writes a crash report and says where it lies.
func (l *library) report(model string, c remote.Crash) {
	r := crashReport{Time: time.Now(), Model: model, Version: versionText(), How: c.Exit.How, Lived: c.Lived.String(), Restarts: c.Restarts,
		Batch: c.Batch, Embeds: c.Embeds, Calls: c.Calls, Log: c.Exit.Log}
	if c.Stalled > 0 {
		r.Stalled = c.Stalled.String()
	}
	if c.Wire != nil {
		r.Wire = c.Wire.Error()
	}
	path, err := r.write(filepath.Join(l.store.Home, "crashes"))
	if err != nil {
		l.w.t.note("error: the engine of %s died (%s), and no report could be written: %v", model, c.Exit.How, err)
		return
	}
	l.w.t.note("error: the engine of %s died (%s); it is started again. Report: %s", model, c.Exit.How, path)
}

func (r *crashReport) write(folder string) (string, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s.json", r.Time.UTC().Format("20060102T150405.000000"), unsafeInNames.ReplaceAllString(r.Model, "_"))
	path := filepath.Join(folder, name)
	if err := hub.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(folder) // by name, which is by time
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".json") })
	for i := 0; err == nil && i < len(entries)-maxReports; i++ {
		err = os.Remove(filepath.Join(folder, entries[i].Name()))
	}
	return path, nil
}
