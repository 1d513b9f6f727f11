package main

import "runtime/debug"

// release is the version that this source is, where it is tagged, and becomes, where it is not. The Makefile reads it.
const release = "0.1.0"

// version is set by the Makefile, which asks git.
var version string

// versionText is what serve --version says: 0.1.0 for the release itself, 0.1.0-dev+COMMIT for what comes before it.
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

// versionOf is the version of what go build made without the Makefile.
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
