package ops

import (
	"crypto/fips140"
	"net/http"
	"sync"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/kernels"
	"serve/machine"
	"serve/pool"
	"serve/server/wire"
)

// Status is the answer to GET /status: the models and their state. It contains nothing from
// requests.
type Status struct {
	Version string `json:"version"`
	FIPS140 string `json:"fips_140"` // the version of Go's FIPS 140-3 module, "" if that mode is off
	PID     int    `json:"pid"`
	// Processor is the kind of CPU: its name, and a hash of its instruction sets.
	Processor string        `json:"processor"`
	Started   time.Time     `json:"started"`
	Models    []ModelStatus `json:"models"`
	Audit     *AuditStatus  `json:"audit,omitempty"` // absent without an audit log
}

// AuditStatus is how the audit log is.
type AuditStatus struct {
	Records  int64  `json:"records"`
	Failing  string `json:"failing,omitempty"` // why records cannot be written
	Lost     int64  `json:"lost"`              // records that could not be written, since the start
	Continue bool   `json:"continue"`          // work goes on while records cannot be written
}

// auditStatus returns how the audit log is; nil if there is none.
func (o *Ops) auditStatus() *AuditStatus {
	if o.opts.Audit == nil {
		return nil
	}
	state := o.opts.Audit()
	s := &AuditStatus{Records: state.Records, Lost: state.Lost, Continue: state.Continues}
	if state.Failing != nil {
		s.Failing = state.Failing.Error()
	}
	return s
}

// ModelStatus is the state of a model. Most fields are zero if it is not in memory.
type ModelStatus struct {
	ID              string            `json:"id"`
	Aliases         []string          `json:"aliases"`
	State           string            `json:"state"`    // as /readyz has it
	AtStart         bool              `json:"at_start"` // the server was started with it: it cannot be removed
	Process         int               `json:"process"`
	ResidentBytes   uint64            `json:"resident_bytes"` // of its process, mapped weights included; 0 if unknown
	PlannedBytes    uint64            `json:"planned_bytes"`
	Devices         []pool.DeviceInfo `json:"devices"`       // that compute it
	WhyProcessor    string            `json:"why_processor"` // and not the machine's GPU; else empty
	Generates       *bool             `json:"generates"`     // writes text; null while it is not in memory
	SeesImages      *bool             `json:"sees_images"`   // null while it is not in memory
	Slots           int               `json:"slots"`
	Context         int               `json:"context"` // tokens of a request
	Running         int               `json:"running"` // choices
	Queued          int               `json:"queued"`  // requests
	KVUsed          int               `json:"kv_cells_used"`
	KVKept          int               `json:"kv_cells_kept"`
	KVCells         int               `json:"kv_cells"`
	PrefixCache     PrefixCacheStatus `json:"prefix_cache"`
	TokensPerSecond float64           `json:"tokens_per_second"`
	// Memory is what was planned and is taken of each device; null while it is not in memory.
	Memory []pool.MemoryUse `json:"memory"`
	// Kernels are those that compute it on the processor; null while it is not in memory.
	Kernels *kernels.Choice `json:"kernels"`
	// Engine is its build and kernels, as the audit log has them; empty while it is not in memory.
	Engine   string `json:"engine"`
	Restarts uint64 `json:"restarts"`
	Loads    int    `json:"loads"`
}

// processor returns the kind of CPU, which stays.
var processor = sync.OnceValue(machine.ProcessorName)

// PrefixCacheStatus is the host memory for prefixes that lost their slots.
type PrefixCacheStatus struct {
	UsedBytes  int64 `json:"used_bytes"`
	LimitBytes int64 `json:"limit_bytes"` // 0 if there is none
	Entries    int   `json:"entries"`
	Tokens     int   `json:"tokens"`
	// Folder is what is kept on disk.
	Folder PrefixFolderStatus `json:"folder"`
}

// PrefixFolderStatus is the folder for prefixes that outlive the process.
type PrefixFolderStatus struct {
	UsedBytes  int64 `json:"used_bytes"`  // of the model
	LimitBytes int64 `json:"limit_bytes"` // of all models; 0 if there is none
	Entries    int   `json:"entries"`
}

func prefixCacheStatus(c engine.PrefixCache, f engine.FolderStats) PrefixCacheStatus {
	return PrefixCacheStatus{
		UsedBytes:  c.Used,
		LimitBytes: c.Size,
		Entries:    c.Entries,
		Tokens:     c.Tokens,
		Folder:     PrefixFolderStatus{UsedBytes: f.Used, LimitBytes: f.Size, Entries: f.Entries},
	}
}

// status answers GET /status.
func (o *Ops) status(w http.ResponseWriter, r *http.Request) *fault.Error {
	status := Status{
		Version:   o.opts.Version,
		PID:       o.opts.PID,
		Processor: processor(),
		Started:   o.opts.Started,
		Models:    []ModelStatus{},
		Audit:     o.auditStatus(),
	}

	if fips140.Enabled() {
		status.FIPS140 = fips140.Version()
	}

	for _, m := range o.opts.Service.Models(r.Context()) {
		c := o.opts.Pool.Counts(m)
		ms := ModelStatus{
			ID:              m.ID,
			Aliases:         append([]string{}, m.Aliases...),
			State:           o.health(m),
			AtStart:         o.opts.Service.AtStart(m),
			Process:         c.Process.ID,
			ResidentBytes:   c.Process.Resident,
			PlannedBytes:    c.Bytes,
			Memory:          c.Memory,
			Running:         c.Running,
			Queued:          c.Queued,
			KVUsed:          c.CellsUsed,
			KVKept:          c.CellsIdle,
			KVCells:         c.Cells,
			PrefixCache:     prefixCacheStatus(c.PrefixCache, c.Folder),
			TokensPerSecond: c.Rate,
			Restarts:        c.Restarts,
			Loads:           c.Loads,
			Devices:         append([]pool.DeviceInfo{}, c.Devices...),
			WhyProcessor:    c.WhyProcessor,
		}
		if e, ok := o.opts.Pool.Loaded(m); ok {
			l := e.Limits()
			f := e.Model()
			ms.Generates = &f.Generates
			ms.SeesImages = &f.Vision
			ms.Slots = l.Sequences
			ms.Context = l.Context
			ms.Kernels = &c.Kernels
			ms.Engine = f.Build
		}
		status.Models = append(status.Models, ms)
	}

	return wire.WriteJSON(w, status)
}

// Stalled returns a model whose engine has had work for at least d without making a step, if there
// is one.
func (o *Ops) Stalled(d time.Duration) (model string, stalled bool) {
	for _, m := range o.opts.Service.All() {
		if e, ok := o.opts.Pool.Loaded(m); ok && e.Stats().Stalled(time.Now(), d) {
			return m.ID, true
		}
	}
	return "", false
}
