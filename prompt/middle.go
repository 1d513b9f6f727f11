package prompt

import (
	"serve/engine"
	"serve/fault"
)

// FillsMiddle reports whether a model was trained to write what is missing between two texts.
func FillsMiddle(m *engine.ModelInfo) bool {
	return m.Marks.FIMPrefix >= 0 && m.Marks.FIMSuffix >= 0 && m.Marks.FIMMiddle >= 0
}

// FillMiddle returns the prompt for filling in the middle between two texts. Field is the request's
// field with the second one, for errors.
func FillMiddle(m *engine.ModelInfo, before, after []engine.Token, field string) ([]engine.Token, error) {
	if !FillsMiddle(m) {
		return nil, fault.New(fault.Unsupported, field,
			"Unsupported parameter: '%s'. The model does not support fill-in-the-middle.", field)
	}

	var tokens []engine.Token
	if m.Marks.AddBOS && m.Marks.BOS >= 0 {
		tokens = append(tokens, m.Marks.BOS)
	}
	tokens = append(append(tokens, m.Marks.FIMPrefix), before...)
	tokens = append(append(tokens, m.Marks.FIMSuffix), after...)
	return append(tokens, m.Marks.FIMMiddle), nil
}
