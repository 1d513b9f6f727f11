package library

import (
	"cmp"
	"slices"

	"serve/loader"
	"serve/machine"
	"serve/models"
	"serve/service"
)

// Catalog implements service.Library.
func (m *Managed) Catalog() *service.Catalog {
	c := &service.Catalog{
		Offline: m.Store.Hub.Offline(),
		Memory:  machine.Memory(),
	}

	rank := map[string]int{}
	for _, e := range models.Catalog() {
		if len(e.DefaultFor) == 0 {
			rank[e.Name] = 1
		}
		memory, _ := e.Memory(loader.DefaultContext)
		c.Models = append(c.Models, service.CatalogModel{
			Name:         e.Name,
			Aliases:      append(append([]string{}, e.DefaultFor...), e.Aliases...),
			Kinds:        e.ServedKinds(),
			Use:          e.Use,
			License:      e.License,
			Quantization: e.Quant(),
			Context:      e.Context,
			Bytes:        e.Bytes,
			Memory:       memory,
		})
	}
	// Those that a family's name means come first: they are what most people look for.
	slices.SortStableFunc(c.Models, func(a, b service.CatalogModel) int { return cmp.Compare(rank[a.Name], rank[b.Name]) })
	return c
}
