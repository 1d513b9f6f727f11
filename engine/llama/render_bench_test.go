package llama

import (
	"testing"

	"serve/prompt"
)

// BenchmarkRender renders a short conversation by every template: alone, with a tool that may be called, and with
// one that must be. A tool costs the most where llama.cpp derives the format from the template by example.
func BenchmarkRender(b *testing.B) {
	for _, name := range templateNames(b) {
		m := loadTemplate(b, readTemplate(b, name))
		tools := []prompt.Tool{getTool(b)}
		builder := prompt.Builder{Model: m, Templates: &prompt.Templates{}}

		for _, c := range []struct {
			name  string
			tools prompt.Tools
		}{
			{"alone", prompt.Tools{}},
			{"auto", prompt.Tools{List: tools, Choice: prompt.ChoiceAuto, Parallel: true}},
			{"required", prompt.Tools{List: tools, Choice: prompt.ChoiceRequired}},
		} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				messages := []prompt.Message{{Role: prompt.User, Content: "What is it?"}}
				for b.Loop() {
					asked := &prompt.Conversation{Messages: messages, Tools: c.tools}
					if _, err := builder.Build(b.Context(), asked); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
