package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"serve/hub"
	"serve/loader"
	"serve/models"
)

// projectors are the values of --mmproj that no model has taken yet: MODEL=FILE, or a
// file for the first model; none in place of a file lets it see nothing.
type projectors []string

// choose gives a model the projector that is meant for it, if any is, and checks the
// one that it has. A projector of its own that is of no use is left out, and told.
func (p *projectors) choose(t *terminal, local *models.Local, first bool) error {
	asked := false
	var others projectors
	for _, given := range *p {
		name, file, named := strings.Cut(given, "=")
		switch {
		case named && name == local.Name:
		case !named && first:
			file = given
		default:
			others = append(others, given)
			continue
		}
		if asked {
			return fmt.Errorf("%w: --mmproj %q: %s has one already", errUsage, given, local.Name)
		}
		asked = true
		if file == "none" {
			local.Projector = nil
			continue
		}
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("%w: --mmproj: %w", errUsage, err)
		}
		local.Projector = &hub.CachedFile{File: hub.File{Path: filepath.Base(file), Size: info.Size()}, Name: file}
	}
	*p = others
	if local.Projector == nil {
		return nil
	}
	_, err := models.ReadProjector(local.Projector.Name)
	if err != nil && !asked {
		t.note("warning: %s does not see images: %v", local.Name, err)
		local.Projector, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", loader.ErrModel, err)
	}
	return nil
}

// check refuses what was meant for a model that is not there.
func (p projectors) check() error {
	if len(p) > 0 {
		return fmt.Errorf("%w: --mmproj %q names no model", errUsage, p[0])
	}
	return nil
}
