package sbom

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"serve/models"
)

// Model is a model on this machine.
type Model struct {
	models.Info
	models.HeaderFacts
	Header *models.Header
	Embeds bool // it computes embeddings, and generates no text
}

// BOM returns the bill of materials: the model, and its files with their hashes, which must be known.
func (m *Model) BOM() *cdx.BOM {
	self := cdx.Component{
		BOMRef:     "model",
		Type:       cdx.ComponentTypeMachineLearningModel,
		Name:       m.Name,
		Version:    m.Commit,
		Licenses:   licenses(m.License, m.LicenseLink),
		ModelCard:  m.card(),
		Properties: m.properties(),
		Pedigree:   m.pedigree(),
	}
	if group, name, ok := strings.Cut(m.Repo, "/"); ok {
		self.Group = group
		self.Name = name
		self.PackageURL = "pkg:huggingface/" + m.Repo + "@" + strings.ToLower(m.Commit)
		self.ExternalReferences = &[]cdx.ExternalReference{{
			Type: cdx.ERTypeDistribution,
			URL:  "https://huggingface.co/" + m.Repo + "/tree/" + m.Commit,
		}}
	}

	identity := m.Repo + "@" + m.Commit
	var files []cdx.Component
	for i, f := range m.Files {
		c := cdx.Component{
			BOMRef: fmt.Sprintf("file:%d", i),
			Type:   cdx.ComponentTypeFile,
			Name:   path.Base(f.Path),
			Hashes: hashes(cdx.HashAlgoSHA256, f.SHA256),
			Properties: &[]cdx.Property{
				{Name: "serve:file:bytes", Value: strconv.FormatInt(f.Bytes, 10)},
			},
		}
		if f.SHA256 == "" { // a small file, which the Hub identifies by its git blob
			*c.Properties = append(*c.Properties, cdx.Property{Name: "serve:git:blob", Value: f.GitOID})
		}
		files = append(files, c)
		identity += "\n" + f.SHA256 + f.GitOID
	}
	return bom(identity, self, files)
}

// card describes what the model does, as far as its header says.
func (m *Model) card() *cdx.MLModelCard {
	p := &cdx.MLModelParameters{
		Task:               "text-generation",
		ArchitectureFamily: m.Architecture,
		ModelArchitecture:  m.text("general.basename"),
		Inputs:             &[]cdx.MLInputOutputParameters{{Format: "text"}},
		Outputs:            &[]cdx.MLInputOutputParameters{{Format: "text"}},
	}
	if m.Embeds {
		p.Task = "feature-extraction"
		p.Outputs = &[]cdx.MLInputOutputParameters{{Format: "vector"}}
	}
	return &cdx.MLModelCard{ModelParameters: p}
}

// properties are the facts for which CycloneDX has no field.
func (m *Model) properties() *[]cdx.Property {
	var list []cdx.Property
	add := func(name, value string) {
		if value != "" && value != "0" {
			list = append(list, cdx.Property{Name: "serve:model:" + name, Value: value})
		}
	}
	add("quantization", m.Quant)
	add("parameters", strconv.FormatUint(m.Parameters, 10))
	add("tensors", strconv.Itoa(m.Tensors))
	add("train_context", strconv.Itoa(m.TrainContext))
	add("chat_template_sha256", m.TemplateSHA256)
	add("quantized_by", m.text("general.quantized_by"))
	add("finetune", m.text("general.finetune"))
	return &list
}

// pedigree names the models that this one was made from.
func (m *Model) pedigree() *cdx.Pedigree {
	var list []cdx.Component
	for i := range min(m.Header.Uint("general.base_model.count"), maxAncestors) {
		key := fmt.Sprintf("general.base_model.%d.", i)
		c := cdx.Component{
			Type:    cdx.ComponentTypeMachineLearningModel,
			Group:   m.text(key + "organization"),
			Name:    m.text(key + "name"),
			Version: m.text(key + "version"),
		}
		if url := m.text(key + "repo_url"); strings.HasPrefix(url, "https://") && !strings.ContainsAny(url, " \"<>\\^`{|}") {
			c.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeDistribution, URL: url}}
		}
		if c.Name != "" {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &cdx.Pedigree{Ancestors: &list}
}

// maxAncestors bounds what a header can have written.
const maxAncestors = 64

func (m *Model) text(key string) string { return m.Header.String(key) }
