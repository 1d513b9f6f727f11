// Package web is the page that a browser sees at /: chat and status, in TypeScript (src),
// built by Vite (make page) into dist, which the binary carries.
package web

import (
	"embed"
	"io/fs"
)

// dist is empty but for a placeholder where the page was not built: go build needs no npm.
//
//go:embed all:dist
var dist embed.FS

// Page returns the files of the page, index.html among them, or nil if this binary was
// built without it.
func Page() fs.FS {
	page, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil
	}
	if _, err := fs.Stat(page, "index.html"); err != nil {
		return nil
	}
	return page
}
