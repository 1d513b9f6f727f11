package ops

import (
	"serve/engine"
	"serve/pool"
)

// NamesVLLM has /metrics tell what it has under vLLM's names, too, for autoscalers and dashboards that know no others.
const NamesVLLM = "vllm"

// vllmMetrics are the metrics of a model that vLLM has, too, by its names. Only values of the same meaning are here:
// what has no counterpart is missing, not made up.
var vllmMetrics = []metric{
	{
		name: "vllm:num_requests_running",
		help: "Choices in the batch.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.Running) },
	},
	{
		name: "vllm:num_requests_waiting",
		help: "Requests in the queue.",
		kind: gauge,
		read: func(c *pool.Counts) []sample { return one(c.Queued) },
	},
	{
		name: "vllm:kv_cache_usage_perc",
		help: "Fraction of the KV cells that running choices use, from 0 to 1.",
		kind: gauge,
		read: usedCells,
	},
	{
		name:   "vllm:cache_config_info",
		help:   "KV cells, as blocks of the tokens that a prefix has to have to be reused. Always 1.",
		note:   "Absent while the model is not loaded.",
		kind:   gauge,
		labels: []string{"block_size", "num_gpu_blocks"},
		read:   cacheInfo,
	},
	{
		name: "vllm:prefix_cache_queries_total",
		help: "Prompt tokens that were looked up in the prefix cache: all of them.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Prompt + c.Cached) },
	},
	{
		name: "vllm:prefix_cache_hits_total",
		help: "Prompt tokens that were found there.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Cached) },
	},
	{
		name: "vllm:prompt_tokens_total",
		help: "Prompt tokens, computed and reused.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Prompt + c.Cached) },
	},
	{
		name: "vllm:generation_tokens_total",
		help: "Tokens of answers.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Tokens) },
	},
	{
		name: "vllm:num_preemptions_total",
		help: "Preempted choices, whose KV cells are computed again.",
		kind: counter,
		read: func(c *pool.Counts) []sample { return one(c.Preempted) },
	},
	{
		name:   "vllm:request_success_total",
		help:   "Choices that ended, by reason.",
		note:   "`abort` is for those that clients gave up, and those whose deadline or wait was over.",
		kind:   counter,
		labels: []string{"finished_reason"},
		read:   finishedReasons,
	},
	{
		name:      "vllm:time_to_first_token_seconds",
		help:      "Time from a choice's arrival to its first token.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.FirstToken },
	},
	{
		name:      "vllm:inter_token_latency_seconds",
		help:      "Time between two consecutive tokens of a choice.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Gap },
	},
	{
		name:      "vllm:request_queue_time_seconds",
		help:      "Time from a choice's arrival until it is added to the batch.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Queue },
	},
	{
		name:      "vllm:e2e_request_latency_seconds",
		help:      "Time from a choice's arrival to its end.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Whole },
	},
	{
		name:      "vllm:request_prompt_tokens",
		help:      "Tokens of a request's prompt.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Prompts },
	},
	{
		name:      "vllm:request_generation_tokens",
		help:      "Tokens of a choice's answer.",
		kind:      histogram,
		histogram: func(c *pool.Counts) *engine.Histogram { return &c.Answers },
	},
}

// finishedReasons counts the choices that ended by vLLM's names of their outcomes.
func finishedReasons(c *pool.Counts) []sample {
	reasons := map[string]uint64{"stop": 0, "length": 0, "abort": 0, "error": 0}
	for outcome, n := range c.Outcomes {
		name := string(outcome)
		if _, same := reasons[name]; !same {
			name = "abort"
		}
		reasons[name] += n
	}
	return byLabel(reasons)
}
