package library

import (
	"strings"
	"testing"

	"serve/models"
)

// TestMarks looks at how a row says what is not known of it.
func TestMarks(t *testing.T) {
	whole := models.Entry{
		Name: "m-1b", Kinds: []string{"chat", "audio"}, Use: "talks", File: "m-Q8_0.gguf", Bytes: 1 << 30,
		SHA256: strings.Repeat("ab", 32), License: "mit", Context: 4096, KVBytes: 1024,
	}
	vague := whole
	vague.DefaultFor = []string{"m"}
	vague.Aliases = []string{"m:tiny"}
	vague.File = "m.gguf"
	vague.BytesEstimated = true
	vague.SHA256 = ""
	vague.LicenseAssumed = true
	vague.Context = 0

	for _, tt := range []struct {
		row  Row
		want string
	}{
		{Row{Entry: whole, Quant: "Q8_0", Memory: 2 << 30},
			"m-1b|-|Q8_0|1.0 GiB|2.0 GiB|4096|mit|abababab|chat|talks"},
		{Row{Entry: vague, Memory: 2 << 30, More: true},
			"m-1b|m,m:tiny|-|~1.0 GiB|>2.0 GiB|-|mit?|hub|chat|talks"},
	} {
		if got := strings.Join(tt.row.Cells(), "|"); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
