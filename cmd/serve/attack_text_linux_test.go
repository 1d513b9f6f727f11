package main

import (
	"fmt"
	"strings"
)

// tokenAttacks make tokenizing expensive.
func tokenAttacks() []attack {
	list := []attack{
		{
			name: "1.3 MB of control tokens to count",
			path: "/tokenize",
			body: func() string { return `{"model":"tiny","content":"` + strings.Repeat("<|im_start|>", 110_000) + `"}` },
		},
		{
			name: "a prompt of control tokens",
			path: "/v1/completions",
			body: func() string {
				return `{"model":"tiny","max_tokens":1,"prompt":"` + strings.Repeat("<|im_start|>", 110_000) + `"}`
			},
		},
	}

	// A kind of character without an end, of which some patterns of tokenizers take one part.
	for _, class := range []string{"a", "A", "1", " ", "!", "\u00e9", "\u4e2d", "\U0001f600", "a b "} {
		list = append(list, attack{
			name: fmt.Sprintf("200 KiB of %q", class),
			path: "/tokenize",
			body: func() string {
				return `{"model":"tiny","content":"` + strings.Repeat(class, 200<<10/len(class)) + `"}`
			},
		})
	}
	return list
}
