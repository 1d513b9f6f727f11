package sbom

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"serve/models"
	"serve/models/testmodel"
	"serve/web"
)

// program is one with a module of each kind.
func program(t *testing.T) *Program {
	t.Helper()
	sum := base64.StdEncoding.EncodeToString(make([]byte, 64))
	p := &Program{
		Version: "1.2.3", SHA256: strings.Repeat("ab", 32), FIPS: "v1.0.0",
		Build: &debug.BuildInfo{
			GoVersion: "go1.26.8",
			Deps: []*debug.Module{
				{Path: "example.com/A", Version: "v1.0.0", Sum: "h1:" + base64.StdEncoding.EncodeToString(make([]byte, 32))},
				{Path: "example.com/old", Version: "v2.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v2.0.1"}},
			},
			Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "amd64"}, {Key: "-ldflags", Value: "secret"}},
		},
		Native: []Native{{
			Name: "llama.cpp", Version: "v9", License: "mit", URL: "https://github.com/ggml-org/llama.cpp", Tree: strings.Repeat("c", 40),
			Archive: "@scope/llama@1", Integrity: sum,
		}},
	}
	packages, err := web.Packages()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range packages {
		p.Page = append(p.Page, Package(n))
	}
	return p
}

// TestProgram lists Go, its modules, what is in C++ and the page's packages, each with its hash and its package URL.
func TestProgram(t *testing.T) {
	b, err := program(t).BOM()
	if err != nil {
		t.Fatal(err)
	}
	var purls []string
	for _, c := range *b.Components {
		purls = append(purls, c.PackageURL)
		hashed := c.Hashes != nil || c.Name == "std" || c.Name == "llama.cpp" || c.Name == "example.com/new"
		if c.Version == "" || !hashed || c.BOMRef == "" {
			t.Errorf("%+v", c)
		}
	}
	for _, want := range []string{
		"pkg:golang/std@1.26.8", "pkg:golang/example.com/A@v1.0.0", "pkg:golang/example.com/new@v2.0.1",
		"pkg:github/ggml-org/llama.cpp@v9", "pkg:npm/dompurify@", "pkg:npm/%40preact/signals-core@",
	} {
		if !slices.ContainsFunc(purls, func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("no %s in %q", want, purls)
		}
	}
	if slices.ContainsFunc(purls, func(p string) bool { return strings.Contains(p, "vite") }) {
		t.Error("what builds the page is listed as a part of it")
	}
	depends := (*b.Dependencies)[len(*b.Dependencies)-1]
	if depends.Ref != "serve" || len(*depends.Dependencies) != len(purls) {
		t.Errorf("got %+v", depends)
	}

	text := encode(t, b)
	for _, want := range []string{
		`"specVersion":"1.7"`, `"name":"serve:fips140","value":"v1.0.0"`, `"value":"amd64"`, `"url":"pkg:npm/%40scope/llama@1"`,
		`"expression":"(MPL-2.0 OR Apache-2.0)"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Error("it has the linker's flags, which have paths")
	}
	again, err := program(t).BOM()
	if err != nil || encode(t, again) != text {
		t.Errorf("another time it is another one: %v", err)
	}
	if _, err := (&Program{}).BOM(); err == nil {
		t.Error("a program of nothing has a bill of materials")
	}
}

func encode(t *testing.T, b *cdx.BOM) string {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// model is one whose header names where it comes from.
func model(t *testing.T) *Model {
	t.Helper()
	name := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(name, testmodel.Bytes(testmodel.Options{}), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := models.ReadHeader(name)
	if err != nil {
		t.Fatal(err)
	}
	h.Values["general.base_model.count"] = uint64(2)
	h.Values["general.base_model.0.name"] = "Base"
	h.Values["general.base_model.0.organization"] = "Org"
	h.Values["general.base_model.0.repo_url"] = "https://huggingface.co/Org/Base"
	h.Values["general.base_model.1.name"] = "Other"
	h.Values["general.base_model.1.repo_url"] = "https://not a url"
	return &Model{
		Info: models.Info{
			Name: "org/m:Q8_0", Repo: "org/m", Commit: strings.Repeat("a", 40), Quant: "Q8_0", License: "gemma",
			LicenseLink: "https://example.com/terms",
			Files: []models.FileInfo{
				{Path: "/x/m.gguf", Bytes: 12, SHA256: strings.Repeat("b", 64)}, {Path: "/x/LICENSE", Bytes: 3, GitOID: strings.Repeat("c", 40)},
			},
		},
		HeaderFacts: h.Facts(),
		Header:      h,
	}
}

// TestModel describes a model: hashes, license, ancestors, quantization.
func TestModel(t *testing.T) {
	text := encode(t, model(t).BOM())
	for _, want := range []string{
		`"type":"machine-learning-model"`, `"group":"org","name":"m"`, `"purl":"pkg:huggingface/org/m@aaaa`, `"content":"bbbb`,
		`"name":"gemma"`, `"url":"https://example.com/terms"`, `"group":"Org","name":"Base"`, `"name":"Other"`,
		`"name":"serve:model:quantization","value":"Q8_0"`, `"task":"text-generation"`, `"architectureFamily":"llama"`,
		`"name":"serve:git:blob"`, `"url":"https://huggingface.co/org/m/tree/aaaa`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, "not a url") || strings.Contains(text, "/x/") {
		t.Errorf("it has what is no URL, or paths: %s", text)
	}
	embeds := model(t)
	embeds.Embeds = true
	embeds.License = "apache-2.0"
	embeds.Header.Values["general.base_model.count"] = uint64(1 << 60)
	if text := encode(t, embeds.BOM()); !strings.Contains(text, `"id":"Apache-2.0"`) || !strings.Contains(text, "feature-extraction") {
		t.Error(text)
	}
}

// TestReferenceValidator validates with CycloneDX's own library, strictly.
func TestReferenceValidator(t *testing.T) {
	interpreter := os.Getenv("TEST_SIGNING")
	if interpreter == "" {
		t.Skip("TEST_SIGNING is not set: make provenance runs this with packages of PyPI")
	}
	whole, err := program(t).BOM()
	if err != nil {
		t.Fatal(err)
	}
	own := model(t)
	own.Repo = ""
	own.Commit = ""
	own.License = ""
	wrong := model(t).BOM()
	wrong.SerialNumber = "12"
	for name, b := range map[string]*cdx.BOM{"program": whole, "model": model(t).BOM(), "own file": own.BOM(), "wrong": wrong} {
		cmd := exec.Command(interpreter, filepath.Join("testdata", "validate.py"))
		cmd.Stdin = strings.NewReader(encode(t, b))
		if out, err := cmd.CombinedOutput(); (err == nil) != (name != "wrong") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
