package ops

import (
	"strconv"

	"serve/engine"
	"serve/pool"
)

// httpRequests and httpTime are measured by the server itself.
var (
	httpRequests = metric{
		name:   "serve_http_requests_total",
		help:   "HTTP requests answered, by endpoint, method and status.",
		note:   "Without `model`.",
		kind:   counter,
		labels: []string{"endpoint", "method", "status"},
	}

	httpTime = metric{
		name:   "serve_http_request_seconds",
		help:   "Time from an HTTP request to the end of its answer.",
		note:   "Without `model`.",
		kind:   histogram,
		labels: []string{"endpoint"},
	}
)

// modelMetrics are the metrics of a model.
var modelMetrics = []metric{
	{
		name: "serve_choices_running",
		help: "Choices in the batch.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.Running) },
	},
	{
		name: "serve_choices_waiting",
		help: "Choices and embedding inputs in the queue.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.Waiting) },
	},
	{
		name: "serve_requests_waiting",
		help: "Requests in the queue.",
		note: "As `--max-waiting` counts them.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.Queued) },
	},
	{
		name: "serve_prompt_tokens_waiting",
		help: "Tokens of the prompts in the queue.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.WaitingTokens) },
	},
	{
		name:   "serve_refused_total",
		help:   "Requests that were refused instead of queued, by reason.",
		note:   "`full`: the queue was full; `share`: the client had its share of it; `wait`: the wait would be too long.",
		kind:   counter,
		labels: []string{"reason"},
		read:   func(c *pool.Counts) []sample { return byLabel(c.Refused) },
	},
	{
		name:   "serve_kv_cells",
		help:   "KV cells by state: used by running choices, kept for prompts with a common prefix, or free.",
		note:   "The states are `running`, `kept` and `free`.",
		kind:   gauge,
		labels: []string{"state"},
		read: func(c *pool.Counts) []sample {
			free := max(0, c.Cells-c.CellsUsed-c.CellsIdle)
			return []sample{
				value(c.CellsUsed, "running"),
				value(c.CellsIdle, "kept"),
				value(free, "free"),
			}
		},
	},
	{
		name: "serve_kv_usage_ratio",
		help: "Fraction of the KV cells that running choices use, from 0 to 1.",
		kind: gauge,
		read: usedCells,
	},
	{
		name: "serve_cache_info",
		help: "KV cells, as blocks of the tokens that a prefix has to have to be reused. Always 1.",
		note: "For endpoint pickers, which read its labels ([deployment](deployment.md#on-kubernetes)). Absent while the " +
			"model is not loaded.",
		kind:   gauge,
		labels: []string{"block_size", "num_blocks"},
		read:   cacheInfo,
	},
	{
		name:   "serve_prefix_reuse_total",
		help:   "Choices that were added to the batch, by result of the search for a cached prefix.",
		note:   "See below.",
		kind:   counter,
		labels: []string{"result"},
		read: func(c *pool.Counts) []sample {
			return byLabel(c.Reuse)
		},
	},
	{
		name: "serve_prefix_cache_bytes",
		help: "Host memory that saved prefixes take (--prefix-cache-memory).",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(float64(c.PrefixCache.Used)) },
	},
	{
		name: "serve_prefix_cache_limit_bytes",
		help: "Host memory that saved prefixes may take.",
		note: "0 if the model has no prefix cache beside its slots.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(float64(c.PrefixCache.Size)) },
	},
	{
		name: "serve_prefix_cache_entries",
		help: "Prefixes that are saved in host memory.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.PrefixCache.Entries) },
	},
	{
		name:   "serve_prefix_cache_tokens_total",
		help:   "Tokens of prefixes that were copied to host memory, or back into a slot.",
		note:   "The directions are `saved` and `restored`.",
		kind:   counter,
		labels: []string{"direction"},
		read:   transfers(func(t engine.Transfers) float64 { return float64(t.Tokens) }),
	},
	{
		name:   "serve_prefix_cache_seconds_total",
		help:   "Time that these copies took, while nothing else was computed.",
		kind:   counter,
		labels: []string{"direction"},
		read:   transfers(func(t engine.Transfers) float64 { return t.Seconds }),
	},
	{
		name:   "serve_prefix_cache_failures_total",
		help:   "Copies that failed; the prefix is computed again.",
		kind:   counter,
		labels: []string{"direction"},
		read:   transfers(func(t engine.Transfers) float64 { return float64(t.Failed) }),
	},
	{
		name: "serve_prefix_cache_skipped_total",
		help: "Prefixes that lost their slot and were not saved, by reason.",
		note: "`short`: as cheap to compute again; `pause`: running streams would have waited; `memory`: no room; " +
			"`failed`: the copy failed; `model`: a reproducible request of a model with a sliding window.",
		kind:   counter,
		labels: []string{"reason"},
		read: func(c *pool.Counts) (list []sample) {
			for _, reason := range engine.Skips {
				list = append(list, value(c.Skipped[reason], string(reason)))
			}
			return list
		},
	},
	{
		name: "serve_prefix_folder_bytes",
		help: "Disk space that the model's prefixes take (--prefix-cache-folder).",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(float64(c.Folder.Used)) },
	},
	{
		name: "serve_prefix_folder_limit_bytes",
		help: "Disk space that the prefixes of all models may take.",
		note: "0 if there is no folder.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(float64(c.Folder.Size)) },
	},
	{
		name: "serve_prefix_folder_entries",
		help: "Prefixes of the model in the folder.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.Folder.Entries) },
	},
	{
		name:   "serve_prefix_folder_tokens_total",
		help:   "Tokens of prefixes that were written to the folder, or read from it.",
		note:   "The directions are `written` and `read`.",
		kind:   counter,
		labels: []string{"direction"},
		read:   folderTransfers(func(t engine.Transfers) float64 { return float64(t.Tokens) }),
	},
	{
		name:   "serve_prefix_folder_seconds_total",
		help:   "Time that this took, in the background.",
		kind:   counter,
		labels: []string{"direction"},
		read:   folderTransfers(func(t engine.Transfers) float64 { return t.Seconds }),
	},
	{
		name:   "serve_prefix_folder_failures_total",
		help:   "Files that could not be written or read; the prefix is computed again.",
		kind:   counter,
		labels: []string{"direction"},
		read:   folderTransfers(func(t engine.Transfers) float64 { return float64(t.Failed) }),
	},
	{
		name: "serve_prefix_folder_removed_total",
		help: "Prefixes that were removed from the folder, by reason.",
		note: "`damaged`: not as it was written, or written with another key; `build`: written by another build of serve; " +
			"`setup`: of the same model with another layout, KV type or device; `room`: others needed it; `replaced`: a " +
			"longer one has all of it; `revoked`: its tenant was; `crash`: the engine crashed.",
		kind:   counter,
		labels: []string{"reason"},
		read:   func(c *pool.Counts) []sample { return byReason(engine.FolderRemovals, c.Folder.Removed) },
	},
	{
		name: "serve_prefix_folder_skipped_total",
		help: "Prefixes that were not written to the folder, by reason.",
		note: "`busy`: too many waited to be written; `gone`: the memory was needed before; `large`: it is larger than the " +
			"folder; `disk`: writing failed.",
		kind:   counter,
		labels: []string{"reason"},
		read:   func(c *pool.Counts) []sample { return byReason(engine.FolderSkips, c.Folder.Skipped) },
	},
	{
		name:   "serve_drafted_tokens_total",
		help:   "Tokens that steps computed as guesses of what an answer goes on with (--speculation), by kind.",
		note:   "`ngram`: from earlier in the same prompt and answer; `prediction`: from the request's `prediction`.",
		kind:   counter,
		labels: []string{"kind"},
		read:   drafts(func(d engine.DraftCount) uint64 { return d.Drafted }),
	},
	{
		name:   "serve_accepted_tokens_total",
		help:   "Guesses that were right: tokens of answers that took no step of their own.",
		kind:   counter,
		labels: []string{"kind"},
		read:   drafts(func(d engine.DraftCount) uint64 { return d.Accepted }),
	},
	{
		name:      "serve_time_to_first_token_seconds",
		help:      "Time from a choice's arrival to its first token.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.FirstToken },
	},
	{
		name:      "serve_inter_token_seconds",
		help:      "Time between two consecutive tokens of a choice.",
		note:      "Includes preemptions and the processing of other prompts.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Gap },
	},
	{
		name:      "serve_queue_seconds",
		help:      "Time from a choice's arrival until it is added to the batch.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Queue },
	},
	{
		name:      "serve_choice_seconds",
		help:      "Time from a choice's arrival to its end.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Whole },
	},
	{
		name:      "serve_prompt_tokens",
		help:      "Tokens of a request's prompt.",
		note:      "Counted when it ends.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Prompts },
	},
	{
		name:      "serve_answer_tokens",
		help:      "Tokens of a choice's answer.",
		note:      "Counted when it ends.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Answers },
	},
	{
		name:      "serve_step_sequences",
		help:      "Sequences for which a step sampled tokens.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Rows },
	},
	{
		name:   "serve_prompt_tokens_total",
		help:   "Prompt tokens, computed or reused from the KV cells of an earlier prompt.",
		note:   "The sources are `computed` and `reused`.",
		kind:   counter,
		labels: []string{"source"},
		read: func(c *pool.Counts) []sample {
			return []sample{value(c.Prompt, "computed"), value(c.Cached, "reused")}
		},
	},
	{
		name: "serve_answer_tokens_total",
		help: "Tokens of answers.",
		note: "Includes unfinished answers.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Tokens) },
	},
	{
		name: "serve_sampled_tokens_total",
		help: "Tokens of answers, by where they were sampled.",
		note: "`backend`: on the device that computed the logits; `host`: on the processor, to which they were copied " +
			"(docs/architecture.md).",
		kind:   counter,
		labels: []string{"on"},
		read:   func(c *pool.Counts) []sample { return byLabel(c.Sampled) },
	},
	{
		name: "serve_ended_tokens_total",
		help: "Tokens of answers that ended, by outcome.",
		note: "The outcomes are those of `serve_choices_total`: tokens under outcomes other than `stop` and `length` " +
			"were wasted.",
		kind:   counter,
		labels: []string{"outcome"},
		read:   func(c *pool.Counts) []sample { return byLabel(c.Ended) },
	},
	{
		name:   "serve_choices_total",
		help:   "Choices that ended, by outcome.",
		note:   "The outcomes are `stop`, `length`, `cancelled`, `deadline`, `wait` (too long in the queue) and `error`.",
		kind:   counter,
		labels: []string{"outcome"},
		read:   func(c *pool.Counts) []sample { return byLabel(c.Outcomes) },
	},
	{
		name: "serve_steps_total",
		help: "Steps that the engine computed.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Steps) },
	},
	{
		name: "serve_preemptions_total",
		help: "Preempted choices, whose KV cells are computed again.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Preempted) },
	},
	{
		name: "serve_engine_restarts_total",
		help: "Number of times that the engine died and was restarted.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Restarts) },
	},
	{
		name: "serve_model_loaded",
		help: "Whether the model is in memory.",
		kind: gauge,
		read: func(c *pool.Counts) []sample {
			if c.Loaded {
				return one(1)
			}
			return one(0)
		},
	},
	{
		name: "serve_model_sleeping",
		help: "Whether the model is not in memory because nobody has used it for `--keep-alive`.",
		note: "Its process has ended and its GPU is free. The next request loads it.",
		kind: gauge,
		read: func(c *pool.Counts) []sample {
			if c.Asleep {
				return one(1)
			}
			return one(0)
		},
	},
	{
		name: "serve_model_memory_bytes",
		help: "Memory that the model was planned to use, while it is loaded.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.Bytes) },
	},
	{
		name: "serve_model_resident_bytes",
		help: "Memory that the model's process uses, including mapped weights.",
		note: "As reported by Linux: mapped weights count once they have been read. Excludes GPU memory. Absent with " +
			"`--isolate=false`.",
		kind: gauge,
		read: func(c *pool.Counts) []sample {
			if c.Process.Resident == 0 {
				return nil
			}
			return one(c.Process.Resident)
		},
	},
	{
		name:   "serve_model_kernels",
		help:   "CPU kernels that the model uses. Always 1.",
		note:   "See [kernels](kernels.md).",
		kind:   gauge,
		labels: []string{"kernels"},
		read: func(c *pool.Counts) []sample {
			if c.Kernels.Name == "" {
				return nil
			}
			return []sample{value(1, c.Kernels.Name)}
		},
	},
	{
		name:   "serve_kernels_refused",
		help:   "Kernels that failed on this CPU and are no longer used. Always 1.",
		kind:   gauge,
		labels: []string{"kernels"},
		read: func(c *pool.Counts) []sample {
			var list []sample
			for name := range c.Kernels.Refused {
				list = append(list, value(1, name))
			}
			return list
		},
	},
	{
		name:   "serve_model_device",
		help:   "Devices that compute the model. Always 1.",
		note:   "Such as `CUDA0` or `CPU`. Absent while the model is not loaded.",
		kind:   gauge,
		labels: []string{"device"},
		read: func(c *pool.Counts) (list []sample) {
			for _, d := range c.Devices {
				list = append(list, value(1, d.Name))
			}
			return list
		},
	},
	{
		name: "serve_model_gpu_unused",
		help: "Whether the model runs on the CPU although the machine has a GPU.",
		note: "The reason can be `--gpu-layers 0`, a build without a GPU backend, a driver that reports no GPU, or too " +
			"little memory for a layer. `/status` says which.",
		kind: gauge,
		read: func(c *pool.Counts) []sample {
			if c.WhyProcessor != "" {
				return one(1)
			}
			return one(0)
		},
	},
	{
		name:   "serve_model_planned_bytes",
		help:   "Memory that the model was planned to use on each device, while it is loaded.",
		note:   "The device is `host`, or a GPU that reports its memory ([models.md](models.md), \"Memory\").",
		kind:   gauge,
		labels: []string{"device"},
		read: func(c *pool.Counts) []sample {
			return byDevice(c, func(d pool.MemoryUse) uint64 { return d.Planned })
		},
	},
	{
		name: "serve_model_taken_bytes",
		help: "Memory that the model uses on each device: on the host now, on a GPU after loading.",
		note: "For `host`, this is `serve_model_resident_bytes`; for a GPU, the decrease of its free memory while the " +
			"model was loaded. Absent if unknown.",
		kind:   gauge,
		labels: []string{"device"},
		read: func(c *pool.Counts) []sample {
			return byDevice(c, func(d pool.MemoryUse) uint64 { return d.Taken })
		},
	},
	{
		name: "serve_model_loads_total",
		help: "Number of times that the model was loaded.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Loads) },
	},
	{
		name: "serve_model_load_seconds",
		help: "Duration of the last load, including the wait for memory.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.LoadTime.Seconds()) },
	},
}

func usedCells(c *pool.Counts) []sample { return one(float64(c.CellsUsed) / float64(max(1, c.Cells))) }

// cacheBlock is the size of the blocks in which endpoint pickers count cells and compare prompts, in tokens. Cells have
// no blocks here: it is the shortest prefix that is worth being sent to where it is (engine.reuse calls it a hit).
const cacheBlock = 16

// cacheInfo describes the KV cells in its labels.
func cacheInfo(c *pool.Counts) []sample {
	if !c.Loaded {
		return nil
	}
	return []sample{value(1, strconv.Itoa(cacheBlock), strconv.Itoa(c.Cells/cacheBlock))}
}

// transfers reads something of the copies in both directions.
func transfers(what func(engine.Transfers) float64) func(*pool.Counts) []sample {
	return func(c *pool.Counts) []sample {
		return []sample{value(what(c.Saved), "saved"), value(what(c.Restored), "restored")}
	}
}

// folderTransfers reads something of what was written to the folder, and read from it.
func folderTransfers(what func(engine.Transfers) float64) func(*pool.Counts) []sample {
	return func(c *pool.Counts) []sample {
		return []sample{value(what(c.Folder.Written), "written"), value(what(c.Folder.Read), "read")}
	}
}

// drafts reads something of the drafts of each kind.
func drafts(what func(engine.DraftCount) uint64) func(*pool.Counts) []sample {
	return func(c *pool.Counts) (list []sample) {
		for _, kind := range engine.DraftKinds {
			list = append(list, value(what(c.Drafts[kind]), string(kind)))
		}
		return list
	}
}

func byLabel[L ~string](counts map[L]uint64) []sample {
	list := make([]sample, 0, len(counts))
	for label, n := range counts {
		list = append(list, value(n, string(label)))
	}
	return list
}

// byReason returns a sample for each of the reasons, also where nothing was counted.
func byReason(reasons []string, counts map[string]uint64) (list []sample) {
	for _, reason := range reasons {
		list = append(list, value(counts[reason], reason))
	}
	return list
}

// byDevice returns a sample for each device, except where the value is unknown.
func byDevice(c *pool.Counts, bytes func(pool.MemoryUse) uint64) (list []sample) {
	for _, d := range c.Memory {
		if n := bytes(d); n > 0 {
			list = append(list, value(n, d.Device))
		}
	}
	return list
}

// number is what values are made of.
type number interface{ int | uint64 | float64 }

// value returns a value for labels, in the order in which the metric declares them.
func value[N number](n N, labels ...string) sample { return sample{labels: labels, n: float64(n)} }

// one returns the only value of a metric without labels of its own.
func one[N number](n N) []sample { return []sample{value(n)} }
