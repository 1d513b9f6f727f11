// Package sbom writes bills of materials, in CycloneDX's format: of this program, and of models.
package sbom

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// Program is what a program is made of.
type Program struct {
	Version string
	SHA256  string // of its file
	Build   *debug.BuildInfo
	Native  []Native
	Page    []Package
	FIPS    string // the version of Go's FIPS 140-3 module; "" if it was built without
}

// Native is a library in C or C++.
type Native struct {
	Name      string
	Version   string
	License   string
	URL       string
	Tree      string // the hash of its git tree
	Integrity string // the SHA-512 of its archive, in Base64
	Archive   string // the archive: a package of npm
}

// Package is a package of npm.
type Package struct {
	Name      string
	Version   string
	Integrity string
	License   string
}

// BOM returns the bill of materials. That of the same file is always the same.
func (p *Program) BOM() (*cdx.BOM, error) {
	if p.Build == nil {
		return nil, errors.New("this program does not know what it is made of: it was built without modules")
	}
	components := []cdx.Component{p.goRuntime()}
	for _, m := range p.Build.Deps {
		components = append(components, module(m))
	}
	for _, n := range p.Native {
		c, err := n.component()
		if err != nil {
			return nil, err
		}
		components = append(components, c)
	}
	for _, n := range p.Page {
		c, err := n.component()
		if err != nil {
			return nil, err
		}
		components = append(components, c)
	}

	self := cdx.Component{
		BOMRef:   "serve",
		Type:     cdx.ComponentTypeApplication,
		Name:     "serve",
		Version:  p.Version,
		Hashes:   hashes(cdx.HashAlgoSHA256, p.SHA256),
		Licenses: licenses("mit", ""),
	}
	var settings []cdx.Property
	for _, s := range p.Build.Settings {
		if slices.Contains([]string{"GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "GOFIPS140", "-buildmode", "-tags",
			"vcs.revision", "vcs.time", "vcs.modified"}, s.Key) {
			settings = append(settings, cdx.Property{Name: "serve:build:" + strings.TrimPrefix(s.Key, "-"), Value: s.Value})
		}
	}
	if len(settings) > 0 {
		self.Properties = &settings
	}
	return bom(p.SHA256, self, components), nil
}

// goRuntime is Go's standard library, and its compiler's runtime.
func (p *Program) goRuntime() cdx.Component {
	version := strings.TrimPrefix(p.Build.GoVersion, "go")
	c := cdx.Component{
		BOMRef:     "pkg:golang/std@" + version,
		Type:       cdx.ComponentTypeLibrary,
		Name:       "std",
		Version:    version,
		Licenses:   licenses("bsd-3-clause", ""),
		PackageURL: "pkg:golang/std@" + version,
	}
	if p.FIPS != "" {
		c.Properties = &[]cdx.Property{{Name: "serve:fips140", Value: p.FIPS}}
	}
	return c
}

// module describes a Go module. Its hash is the one in go.sum: of the hashes of its files.
func module(m *debug.Module) cdx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	purl := "pkg:golang/" + m.Path + "@" + m.Version
	c := cdx.Component{
		BOMRef:     purl,
		Type:       cdx.ComponentTypeLibrary,
		Name:       m.Path,
		Version:    m.Version,
		PackageURL: purl,
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err == nil && len(sum) == sha256.Size {
		c.Hashes = hashes(cdx.HashAlgoSHA256, hex.EncodeToString(sum))
	}
	return c
}

func (n *Native) component() (cdx.Component, error) {
	c := cdx.Component{
		BOMRef:   "native:" + n.Name + "@" + n.Version,
		Type:     cdx.ComponentTypeLibrary,
		Name:     n.Name,
		Version:  n.Version,
		Licenses: licenses(n.License, ""),
		Properties: &[]cdx.Property{
			{Name: "serve:git:tree", Value: n.Tree},
			{Name: "serve:npm:package", Value: n.Archive},
		},
		ExternalReferences: &[]cdx.ExternalReference{{Type: cdx.ERTypeVCS, URL: n.URL}},
	}

	if path, ok := strings.CutPrefix(n.URL, "https://github.com/"); ok {
		c.PackageURL = "pkg:github/" + strings.ToLower(path) + "@" + n.Version
	}
	sum, err := sha512Of(n.Integrity)
	if err != nil {
		return c, fmt.Errorf("%s: %w", n.Name, err)
	}

	(*c.ExternalReferences) = append(*c.ExternalReferences, cdx.ExternalReference{
		Type:    cdx.ERTypeDistribution,
		URL:     npmURL(n.Archive),
		Comment: "the copy that was built",
		Hashes:  hashes(cdx.HashAlgoSHA512, sum),
	})
	return c, nil
}

// npmURL returns the package URL of name@version.
func npmURL(archive string) string {
	return "pkg:npm/" + strings.Replace(archive, "@", "%40", strings.Count(archive, "@")-1)
}

func (p *Package) component() (cdx.Component, error) {
	purl := npmURL(p.Name + "@" + p.Version)
	sum, err := sha512Of(strings.TrimPrefix(p.Integrity, "sha512-"))
	if err != nil {
		return cdx.Component{}, fmt.Errorf("%s: %w", p.Name, err)
	}
	return cdx.Component{
		BOMRef:     purl,
		Type:       cdx.ComponentTypeLibrary,
		Name:       p.Name,
		Version:    p.Version,
		Hashes:     hashes(cdx.HashAlgoSHA512, sum),
		Licenses:   licenses(p.License, ""),
		PackageURL: purl,
	}, nil
}

// sha512Of returns a hash in hexadecimal form.
func sha512Of(base string) (string, error) {
	sum, err := base64.StdEncoding.DecodeString(base)
	if err != nil || len(sum) != 64 {
		return "", fmt.Errorf("%q is not the Base64 of a SHA-512", base)
	}
	return hex.EncodeToString(sum), nil
}
