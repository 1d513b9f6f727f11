package llama

import (
	_ "embed"
	"regexp"
)

//go:embed build.sh
var buildScript string

// Source is the llama.cpp that this program is built with.
type Source struct {
	Version   string // the tag
	Tree      string // the hash of its git tree
	Package   string // of npm, which has a copy of it
	Integrity string // the package's SHA-512, in Base64
}

// Pinned returns what build.sh builds.
func Pinned() Source {
	value := func(name string) string {
		found := regexp.MustCompile(`(?m)^` + name + `=(\S+)$`).FindStringSubmatch(buildScript)
		if found == nil {
			return "" // TestPinned would have failed
		}
		return found[1]
	}
	return Source{
		Version:   value("version"),
		Tree:      value("tree"),
		Package:   value("package"),
		Integrity: value("integrity"),
	}
}
