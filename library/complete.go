package library

import (
	"strings"

	"serve/machine"
	"serve/models"
)

// CompleteLocal returns the models on this machine whose names begin with a text, for shell
// completion: each followed by a tab and a description.
func (l *Resolver) CompleteLocal(begun string) []string {
	locals, err := l.Store.List()
	if err != nil {
		return nil
	}

	var names []string
	for _, local := range locals {
		if strings.HasPrefix(local.Name, begun) {
			names = append(names, local.Name+"\ton this machine, "+machine.FormatSize(uint64(local.Bytes())))
		}
	}
	return names
}

// CompleteCatalog does the same for the models of the catalog.
func CompleteCatalog(begun string) []string {
	var names []string
	for _, e := range models.Catalog() {
		for _, name := range append([]string{e.Name}, e.DefaultFor...) {
			if strings.HasPrefix(name, begun) {
				names = append(names, name+"\t"+e.Use)
			}
		}
	}
	return names
}
