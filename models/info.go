package models

import "serve/hub"

// Info describes a model on this machine, for JSON output.
type Info struct {
	Name        string     `json:"name"`
	Repo        string     `json:"repo,omitempty"`
	Commit      string     `json:"commit,omitempty"`
	Quant       string     `json:"quantization,omitempty"`
	License     string     `json:"license,omitempty"`
	LicenseLink string     `json:"license_link,omitempty"`
	Bytes       int64      `json:"bytes"`
	Path        string     `json:"path"` // of the weights, or of their first part
	Files       []FileInfo `json:"files"`
}

// FileInfo is one of a model's files.
type FileInfo struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
	GitOID string `json:"git_oid,omitempty"` // for small files that have no SHA-256
}

// Info describes the model.
func (l *Local) Info() Info {
	info := Info{
		Name:        l.Name,
		Repo:        l.Repo,
		Commit:      l.Commit,
		Quant:       l.Quant,
		License:     l.License,
		LicenseLink: l.Link,
		Bytes:       l.Bytes(),
		Path:        l.Path(),
	}
	for _, f := range l.Files() {
		info.Files = append(info.Files, fileInfo(f))
	}
	return info
}

func fileInfo(f hub.CachedFile) FileInfo {
	info := FileInfo{Path: f.Name, Bytes: f.Size, SHA256: f.SHA256}
	if f.SHA256 == "" {
		info.GitOID = f.GitOID
	}
	return info
}
