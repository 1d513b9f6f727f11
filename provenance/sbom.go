package provenance

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime/debug"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"serve/engine/llama"
	"serve/models"
	"serve/oms"
	"serve/sbom"
	"serve/web"
)

// SBOM prints the bill of materials of this program or, by its name, of a model on this machine.
func (c *Provenance) SBOM(ctx context.Context, version string, names []string) error {
	var bom *cdx.BOM
	var err error
	if len(names) == 0 {
		bom, err = programBOM(ctx, version)
	} else {
		bom, err = c.modelBOM(ctx, names[0])
	}
	if err != nil {
		return err
	}
	return c.Terminal.PrintJSON(bom)
}

// programBOM describes the program that runs.
func programBOM(ctx context.Context, version string) (*cdx.BOM, error) {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, errors.New("this program does not know what it is made of")
	}
	file, err := os.Executable()
	if err != nil {
		return nil, err
	}
	sum, err := hashFile(ctx, file)
	if err != nil {
		return nil, err
	}

	pinned := llama.Pinned()
	p := &sbom.Program{
		Version: version,
		SHA256:  sum,
		Build:   build,
		Native: []sbom.Native{{
			Name:      "llama.cpp",
			Version:   pinned.Version,
			License:   "mit",
			URL:       "https://github.com/ggml-org/llama.cpp",
			Tree:      pinned.Tree,
			Archive:   pinned.Package,
			Integrity: pinned.Integrity,
		}},
	}
	if fips140.Enabled() {
		p.FIPS = fips140.Version()
	}
	if web.Page() != nil {
		packages, err := web.Packages()
		if err != nil {
			return nil, err
		}
		for _, n := range packages {
			p.Page = append(p.Page, sbom.Package(n))
		}
	}
	return p.BOM()
}

// modelBOM describes a model.
func (c *Provenance) modelBOM(ctx context.Context, name string) (*cdx.BOM, error) {
	local, err := c.Library.Find(name)
	if err != nil {
		return nil, err
	}
	if _, err := c.Library.Store.Verify(ctx, local, false); err != nil {
		return nil, err
	}
	h, err := models.ReadModel(local.Parts())
	if err != nil {
		return nil, err
	}

	m := &sbom.Model{Info: local.Info(), HeaderFacts: h.Facts(), Header: h, Embeds: h.Embeds()}
	if m.License == "" {
		m.License = h.String("general.license")
		m.LicenseLink = h.String("general.license.link")
	}
	for i, f := range m.Files {
		if f.SHA256 == "" && f.GitOID == "" { // somebody's own file
			if m.Files[i].SHA256, err = hashFile(ctx, f.Path); err != nil {
				return nil, err
			}
		}
	}
	if local.Repo == "" {
		m.Name = path.Base(m.Name)
	}
	return m.BOM(), nil
}

// hashFile returns the SHA-256 of a file.
func hashFile(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := oms.Hash(ctx, f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return sum, nil
}
