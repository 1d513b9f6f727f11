package library

import (
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

	for _, e := range models.Catalog() {
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
	return c
}
