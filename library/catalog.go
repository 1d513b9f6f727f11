package library

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"serve/loader"
	"serve/machine"
	"serve/models"
	"serve/service"
)

// Row is a row of the catalog, with what it takes to run the model.
type Row struct {
	models.Entry
	Quant  string `json:"quantization,omitempty"`
	Memory int64  `json:"memory_bytes"` // for one request of up to loader.DefaultContext tokens

	// More is set if Memory is only a lower bound, because not all of the model's dimensions are known.
	More bool `json:"memory_is_more,omitempty"`
}

// Search returns the rows that are of all kinds and contain every word.
func Search(words, kinds []string) []Row {
	list := []Row{}
	for _, e := range models.Search(words, kinds) {
		memory, whole := e.Memory(loader.DefaultContext)
		list = append(list, Row{
			Entry:  e,
			Quant:  e.Quant(),
			Memory: memory,
			More:   !whole,
		})
	}
	return list
}

// Cells returns the row as text: the name, other names, quantization, size, memory, context, license, the
// beginning of the hash, kinds, and uses.
func (r *Row) Cells() []string {
	marked := func(mark string, marks bool) string {
		if marks {
			return mark
		}
		return ""
	}

	also := strings.Join(slices.Concat(r.DefaultFor, r.Aliases), ",")
	weights := marked("~", r.BytesEstimated) + machine.FormatSize(uint64(r.Bytes))
	needs := marked(">", r.More) + machine.FormatSize(uint64(r.Memory))
	trained := "-"
	if r.Context > 0 {
		trained = strconv.Itoa(r.Context)
	}
	license := r.License + marked("?", r.LicenseAssumed)
	hash := "hub"
	if sum := r.Hash(); sum != "" {
		hash = sum[:8]
	}
	kinds := strings.Join(r.ServedKinds(), ",")

	return []string{
		r.Name, cmp.Or(also, "-"), cmp.Or(r.Quant, "-"), weights, needs, trained, license, hash, kinds, r.Use,
	}
}

// Catalog implements service.Library.
func (m *Managed) Catalog() *service.Catalog {
	c := &service.Catalog{
		Offline: m.Store.Hub.Offline(),
		Memory:  machine.Memory(),
	}

	rank := map[string]int{}
	for _, r := range Search(nil, nil) {
		if len(r.DefaultFor) == 0 {
			rank[r.Name] = 1
		}
		c.Models = append(c.Models, service.CatalogModel{
			Name:         r.Name,
			Aliases:      append(append([]string{}, r.DefaultFor...), r.Aliases...),
			Kinds:        r.ServedKinds(),
			Use:          r.Use,
			License:      r.License,
			Quantization: r.Quant,
			Context:      r.Context,
			Bytes:        r.Bytes,
			Memory:       r.Memory,
		})
	}
	// Those that a family's name means come first: they are what most people look for.
	slices.SortStableFunc(c.Models, func(a, b service.CatalogModel) int { return cmp.Compare(rank[a.Name], rank[b.Name]) })
	return c
}
