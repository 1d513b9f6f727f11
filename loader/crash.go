package loader

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

// CrashFolder is the folder for crash reports, below the home folder.
const CrashFolder = "crashes"

// maxReports is how many crash reports are kept.
const maxReports = 20

var unsafeInNames = regexp.MustCompile(`[^0-9A-Za-z._-]+`)

// crashReport is a report about an engine that died. It has the shapes of what was computed, but
// no text of users.
type crashReport struct {
	Time     time.Time      `json:"time"`
	Model    string         `json:"model"`
	Version  string         `json:"version"`
	How      string         `json:"how"`
	Stalled  string         `json:"stalled,omitempty"`
	Wire     string         `json:"wire,omitempty"`
	Lived    string         `json:"lived"`
	Restarts int            `json:"restarts_before"`
	Batch    []remote.Share `json:"batch,omitempty"`
	Embeds   []int          `json:"embedding_inputs,omitempty"`
	Calls    []string       `json:"calls,omitempty"`
	Log      []string       `json:"log"`
}

// reportCrash writes a crash report and prints its path.
func (l *Loader) reportCrash(model string, c remote.Crash) {
	r := crashReport{
		Time:     time.Now(),
		Model:    model,
		Version:  l.o.Version,
		How:      c.Exit.How,
		Lived:    c.Lived.String(),
		Restarts: c.Restarts,
		Batch:    c.Batch,
		Embeds:   c.Embeds,
		Calls:    c.Calls,
		Log:      slices.Concat(c.Exit.Log, c.Exit.Stacks),
	}
	if c.Stalled > 0 {
		r.Stalled = c.Stalled.String()
	}
	if c.Wire != nil {
		r.Wire = c.Wire.Error()
	}

	path, err := r.write(filepath.Join(l.o.Store.Home, CrashFolder))
	if err != nil {
		l.o.Reporter.Error("the engine of %s died (%s), and no crash report could be written: %v", model, c.Exit.How, err)
		return
	}
	l.o.Reporter.Error("the engine of %s died (%s) and is being restarted; crash report: %s", model, c.Exit.How, path)
}

// write writes the report to a folder, and removes the oldest reports there.
func (r *crashReport) write(folder string) (string, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}

	when := r.Time.UTC().Format("20060102T150405.000000")
	name := fmt.Sprintf("%s-%s.json", when, unsafeInNames.ReplaceAllString(r.Model, "_"))
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
