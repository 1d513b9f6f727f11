package loader

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"serve/hub"
	"serve/models"
)

// Projectors has the projectors for models: MODEL=FILE, or a file for the first model; none
// instead of a file disables a model's own projector. Choose removes those that it has assigned.
type Projectors []string

// Choose assigns a model the projector that was given for it, if any, and checks the model's
// projector. If the model's own projector cannot be used, it is left out: unusable says why.
func (p *Projectors) Choose(local *models.Local, first bool) (unusable, err error) {
	given, err := p.take(local.Name, first)
	if err != nil {
		return nil, err
	}
	switch given {
	case "":
	case "none":
		local.Projector = nil
	default:
		info, err := os.Stat(given)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, badOption("--mmproj: there is no file %s", given)
		case err != nil:
			return nil, badOption("--mmproj: %s cannot be read: %v", given, hub.Cause(err))
		}
		file := hub.File{Path: filepath.Base(given), Size: info.Size()}
		local.Projector = &hub.CachedFile{File: file, Name: given}
	}

	if local.Projector == nil {
		return nil, nil
	}
	_, err = models.ReadProjector(local.Projector.Name)
	switch {
	case err == nil:
		return nil, nil
	case given == "":
		local.Projector = nil
		return err, nil
	}
	return nil, &fileError{err}
}

// take removes and returns the file that was given for a model; "" if there is none.
func (p *Projectors) take(model string, first bool) (file string, err error) {
	var others Projectors
	for _, given := range *p {
		name, f, named := strings.Cut(given, "=")
		switch {
		case named && name == model:
		case !named && first:
			f = given
		default:
			others = append(others, given)
			continue
		}
		if file != "" {
			return "", badOption("--mmproj %q: %s already has a projector", given, model)
		}
		file = f
	}
	*p = others
	return file, nil
}

// Check returns an error if a projector was given for a model that is not served.
func (p Projectors) Check() error {
	if len(p) > 0 {
		return badOption("--mmproj %q does not name a served model", p[0])
	}
	return nil
}
