package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// spdx has SPDX's names of licenses, by those on the Hub and in npm, in lower case.
var spdx = func() map[string]string {
	ids := map[string]string{}
	for _, id := range []string{
		"AFL-3.0", "AGPL-3.0-only", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear",
		"BSL-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC0-1.0", "GPL-3.0-only", "ISC",
		"LGPL-3.0-only", "MIT", "MPL-2.0", "Unlicense", "Zlib", "0BSD",
	} {
		ids[strings.ToLower(id)] = id
	}
	for _, hub := range []string{"AGPL-3.0", "GPL-3.0", "LGPL-3.0"} { // as the Hub writes them
		ids[strings.ToLower(hub)] = hub + "-only"
	}
	return ids
}()

// licenses describes a license as it is declared: by SPDX's name if it has one, as an expression if it is one. Nil if
// it is not known.
func licenses(name, link string) *cdx.Licenses {
	name = strings.TrimSpace(name)
	if name == "" {
		return nil
	}
	if strings.Contains(name, " OR ") || strings.Contains(name, " AND ") {
		return &cdx.Licenses{{Expression: name}}
	}
	l := &cdx.License{Acknowledgement: cdx.LicenseAcknowledgementDeclared}
	if strings.HasPrefix(link, "https://") || strings.HasPrefix(link, "http://") {
		l.URL = link
	}
	if id, ok := spdx[strings.ToLower(name)]; ok {
		l.ID = id
	} else {
		l.Name = name
	}
	return &cdx.Licenses{{License: l}}
}

func hashes(kind cdx.HashAlgorithm, sum string) *[]cdx.Hash {
	if sum == "" {
		return nil
	}
	return &[]cdx.Hash{{Algorithm: kind, Value: sum}}
}

// bom returns the bill of something that depends on components. Its number follows from what identifies it.
func bom(identity string, self cdx.Component, components []cdx.Component) *cdx.BOM {
	b := cdx.NewBOM()
	b.SerialNumber = serial(identity)
	b.Metadata = &cdx.Metadata{Component: &self}
	if len(components) == 0 {
		return b
	}
	b.Components = &components
	depends := make([]string, 0, len(components))
	list := make([]cdx.Dependency, 0, len(components)+1)
	for _, c := range components {
		depends = append(depends, c.BOMRef)
		list = append(list, cdx.Dependency{Ref: c.BOMRef})
	}
	list = append(list, cdx.Dependency{Ref: self.BOMRef, Dependencies: &depends})
	b.Dependencies = &list
	return b
}

// serial makes a UUID (version 8) of a text.
func serial(text string) string {
	sum := sha256.Sum256([]byte("serve bill of materials\n" + text))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return fmt.Sprintf("urn:uuid:%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}
