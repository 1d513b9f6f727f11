package chatclient

import "testing"

// TestOllamaAddress reads OLLAMA_HOST as Ollama does.
func TestOllamaAddress(t *testing.T) {
	for value, want := range map[string]string{
		"127.0.0.1":             "http://127.0.0.1:11434",
		"0.0.0.0":               "http://127.0.0.1:11434",
		"0.0.0.0:8000":          "http://127.0.0.1:8000",
		":8000":                 "http://127.0.0.1:8000",
		"box.local":             "http://box.local:11434",
		"http://box.local":      "http://box.local:80",
		"https://box.local":     "https://box.local:443",
		"https://box.local:99/": "https://box.local:99",
		"[::1]:8000":            "http://[::1]:8000",
		"ftp://x":               "",
		"http://":               "",
	} {
		if got, err := OllamaAddress(value); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", value, got, err, want)
		}
	}
}
