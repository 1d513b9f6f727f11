package main

import (
	"crypto/fips140"
	"runtime/debug"
)

// release is the version of this source if it is tagged, or the next version if it is not. The Makefile reads it.
const release = "0.1.0"

// version is set by the Makefile, which asks git.
var version string

// fullVersion is the output of serve --version: the version, and Go's FIPS 140-3 module in that mode.
func fullVersion() string {
	if fips140.Enabled() {
		return versionText() + " (FIPS 140-3: Go Cryptographic Module " + fips140.Version() + ")"
	}
	return versionText()
}

// versionText is the program's version: 0.1.0 for the release itself, 0.1.0-dev+COMMIT for a commit before it.
func versionText() string {
	if version != "" {
		return version
	}

	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release + "-dev"
	}
	return versionOf(info.Settings)
}

// versionOf returns the version of a program built by go build without the Makefile.
func versionOf(settings []debug.BuildSetting) string {
	values := map[string]string{}
	for _, s := range settings {
		values[s.Key] = s.Value
	}

	commit := values["vcs.revision"]
	if commit == "" {
		return release + "-dev"
	}
	text := release + "-dev+" + commit[:min(12, len(commit))]
	if values["vcs.modified"] == "true" {
		text += ".dirty"
	}
	return text
}
