package llama

import (
	"slices"
	"strings"
	"testing"

	"serve/models"
)

// families says whose template the tests render for the models of the catalog that chat, by how their names begin: one
// of llama.cpp's tree, or one of demands. The longest beginning counts.
var families = map[string]string{
	"aya-expanse":       "system, then turns",
	"codestral":         "two roles",
	"deepseek-coder-":   "the rest is the assistant's",
	"deepseek-coder-v2": "three roles",
	"deepseek-ocr":      "three roles",
	"deepseek-r1-0528":  "llama-cpp-deepseek-r1",
	"deepseek-r1-14b":   "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
	"deepseek-r1-32b":   "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
	"deepseek-r1-70b":   "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
	"deepseek-r1-8b":    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
	"deepseek-v4":       "deepseek-ai-DeepSeek-V4-Flash-0731",
	"devstral":          "unsloth-mistral-Devstral-Small-2507",
	"ernie-4.5":         "Qwen-QwQ-32B",
	"eurollm":           "three roles",
	"falcon-3":          "three roles",
	"fara-1.5":          "Qwen3.5-4B",
	"gemma-2":           "google-gemma-2-2b-it",
	"gemma-3":           "system before the user",
	"gemma-4":           "google-gemma-4-31B-it",
	"glm-4.7-flash":     "GLM-4.7-Flash",
	"glm-ocr":           "GLM-4.6",
	"glm-z1":            "GLM-4.6",
	"gpt-oss":           "openai-gpt-oss-120b",
	"granite-3.3":       "ibm-granite-granite-3.3-2B-Instruct",
	"granite-4.0":       "ibm-granite-granite-4.0",
	"granite-4.1":       "ibm-granite-granite-4.1",
	"hy-mt2":            "system first or error",
	"kat-coder":         "Qwen3.5-4B",
	"lfm-2":             "LFM2-8B-A1B",
	"lfm-2.5":           "LFM2.5-Instruct",
	"lightonocr":        "Qwen-Qwen2.5-7B-Instruct",
	"llama-3-":          "three roles",
	"llama-3.1":         "meta-llama-Llama-3.1-8B-Instruct",
	"llama-3.2":         "meta-llama-Llama-3.2-3B-Instruct",
	"llama-3.3":         "meta-llama-Llama-3.3-70B-Instruct",
	"llava":             "two roles",
	"magistral":         "system, then turns",
	"mellum":            "three roles",
	"minicpm-4":         "three roles",
	"minicpm-o-4.5":     "Qwen-Qwen3-0.6B",
	"minicpm-v-4.6":     "Qwen3.5-4B",
	"ministral-3":       "mistralai-Ministral-3-14B-Reasoning-2512",
	"mistral-7b":        "short IDs",
	"mistral-7b-v0.2":   "two roles",
	"mistral-nemo":      "mistralai-Mistral-Nemo-Instruct-2407",
	"mistral-small-24b": "system, then turns",
	"mistral-small-3.2": "Mistral-Small-3.2-24B-Instruct-2506",
	"mistral-small-4":   "nothing empty",
	"mixtral":           "two roles",
	"muse-glimmer":      "muse-glimmer",
	"nemotron-3":        "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
	"north-mini-code":   "Cohere2MoE",
	"olmo-3.1":          "environment",
	"ornith":            "Qwen3.5-4B",
	"phi-3-mini":        "own system",
	"phi-3.5-mini":      "microsoft-Phi-3.5-mini-instruct",
	"phi-4-14b":         "three roles",
	"phi-4-mini":        "tools in the system message",
	"phi-4-reasoning":   "own system",
	"qwen-2.5":          "Qwen-Qwen2.5-7B-Instruct",
	"qwen-3-":           "Qwen-Qwen3-0.6B",
	"qwen-3-coder":      "Qwen3-Coder",
	"qwen-3.":           "Qwen3.5-4B",
	"smollm2":           "three roles",
	"smollm3":           "HuggingFaceTB-SmolLM3-3B",
	"smolvlm":           "parts",
	"tinyllama":         "three roles",
}

// TestFamilies finds a template that is tested for every model of the catalog that chats.
func TestFamilies(t *testing.T) {
	names := templateNames(t)
	used := map[string]bool{}
	for _, e := range models.Catalog() {
		if !e.Is("chat") && !e.Is("code") && !e.Is("reasoning") && !e.Is("vision") || e.Is("moderation") {
			continue
		}
		family := ""
		for beginning := range families {
			if strings.HasPrefix(e.Name, beginning) && len(beginning) > len(family) {
				family = beginning
			}
		}
		used[family] = true
		template := families[family]
		if _, own := demands[template]; !own && !slices.Contains(names, template) {
			t.Errorf("%s: no template stands for it: %q", e.Name, template)
		}
	}
	for family := range families {
		if !used[family] {
			t.Errorf("%s: no model of the catalog", family)
		}
	}
}
