package library

import (
	"context"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"serve/models"
	"serve/service"
)

// fileID tells a model's first file from a later one under the same name.
type fileID struct {
	path     string
	size     int64
	modified time.Time
}

// facts describes a model. Files are read once, and again when they have changed.
func (m *Managed) facts(ctx context.Context, local *models.Local) (*service.Facts, error) {
	info, err := os.Stat(local.Path())
	if err != nil {
		return nil, err
	}
	id := fileID{local.Path(), info.Size(), info.ModTime()}

	m.reading.Lock()
	defer m.reading.Unlock()
	facts := m.known[id]
	if facts == nil {
		if facts, err = read(ctx, local); err != nil {
			return nil, err
		}
		facts.Modified = info.ModTime()
		if m.known == nil {
			m.known = map[fileID]*service.Facts{}
		}
		m.known[id] = facts
	}

	named := *facts
	named.Name = local.Name
	named.Sees = local.Projector != nil
	return &named, nil
}

// read reads what a model's files say.
func read(ctx context.Context, local *models.Local) (*service.Facts, error) {
	header, err := models.ReadModel(local.Parts())
	if err != nil {
		return nil, err
	}
	sum, err := local.Digest(ctx)
	if err != nil {
		return nil, err
	}

	known := header.Facts()
	f := &service.Facts{
		SHA256:       sum,
		Bytes:        local.Bytes(),
		License:      local.License,
		LicenseText:  licenseText(local),
		Architecture: known.Architecture,
		Parameters:   known.Parameters,
		Quantization: local.Quant,
		Context:      known.TrainContext,
		Embedding:    int(header.Uint(known.Architecture + ".embedding_length")),
		Template:     known.Template,
		Embeds:       header.Embeds(),
		FillsMiddle:  fillsMiddle(header),
		Header:       maps.Clone(header.Values),
		Arrays:       maps.Clone(header.ArrayLengths),
	}
	if local.Projector == nil {
		return f, nil
	}
	projector, err := models.ReadProjector(local.Projector.Name)
	if err != nil {
		return nil, err
	}
	f.Projector = projector.Values
	return f, nil
}

// fillsMiddle reports whether a header names the tokens for filling in the middle, by either of the names
// that they have had.
func fillsMiddle(h *models.Header) bool {
	for _, names := range [][]string{
		{"fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id"},
		{"prefix_token_id", "suffix_token_id", "middle_token_id"},
	} {
		found := 0
		for _, name := range names {
			if _, ok := h.Values["tokenizer.ggml."+name]; ok {
				found++
			}
		}
		if found == len(names) {
			return true
		}
	}
	return false
}

// maxLicense is how much of a license is shown.
const maxLicense = 128 << 10

// licenseText reads the license, if the repository has it.
func licenseText(local *models.Local) string {
	for _, text := range local.Texts {
		f, err := os.Open(text.Name)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, maxLicense))
		if f.Close(); err == nil {
			return strings.ToValidUTF8(string(b), "\uFFFD")
		}
	}
	return ""
}
