package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

func TestVersionOf(t *testing.T) {
	const commit = "554281b0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6"
	for _, test := range []struct {
		name     string
		settings []debug.BuildSetting
		want     string
	}{
		{"from an archive", nil, release + "-dev"},
		{"from a clone", []debug.BuildSetting{{Key: "vcs.revision", Value: commit}}, release + "-dev+554281b0c1d2"},
		{
			"with changes",
			[]debug.BuildSetting{{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: "true"}},
			release + "-dev+554281b0c1d2.dirty",
		},
	} {
		if got := versionOf(test.settings); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestVersionInMakefile asks make in repositories of each kind what it would build.
func TestVersionInMakefile(t *testing.T) {
	for _, test := range []struct {
		name     string
		commands string
		want     string // a pattern; make: fails with these words
	}{
		{"no repository", "true", `^0\.1\.0-dev$`},
		{"a commit", "git init -q && git add . && git commit -qm one", `^0\.1\.0-dev\+[0-9a-f]{12}$`},
		{"changes", "git init -q && git add . && git commit -qm one && echo >>Makefile",
			`^0\.1\.0-dev\+[0-9a-f]{12}\.dirty$`},
		{"a tag", "git init -q && git add . && git commit -qm one && git tag v0.1.0", `^0\.1\.0$`},
		{
			"after a tag",
			"git init -q && git add . && git commit -qm one && git tag v0.0.9 && git commit -qm two --allow-empty",
			`^0\.1\.0-dev\+[0-9a-f]{12}$`,
		},
		{"a tag of another version", "git init -q && git add . && git commit -qm one && git tag v0.2.0",
			`^make: .*v0\.2\.0.*0\.1\.0`},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			for name, body := range map[string]string{
				"Makefile":             readText(t, "../../Makefile"),
				"cmd/serve/version.go": "const release = \"0.1.0\"\n",
			} {
				path := filepath.Join(folder, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			cmd := exec.Command("sh", "-c", test.commands+" && make -s version 2>&1 || true")
			cmd.Dir = folder
			cmd.Env = append(withoutMake(os.Environ()),
				"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CEILING_DIRECTORIES="+filepath.Dir(folder),
				"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}

			got := regexp.MustCompile(`(?m)^Makefile:\d+: `).ReplaceAllString(strings.TrimSpace(string(out)), "make: ")
			if !regexp.MustCompile(test.want).MatchString(got) {
				t.Errorf("make says %q, want %s", got, test.want)
			}
		})
	}
}

// withoutMake is environment without what make hands to the make that it starts: this test may run under make test.
func withoutMake(environment []string) []string {
	return slices.DeleteFunc(environment, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return name == "MAKEFLAGS" || name == "MFLAGS" || name == "MAKELEVEL"
	})
}

// TestChangelogHasTheRelease holds the version to the change log: it begins with what is not released, or with it.
func TestChangelogHasTheRelease(t *testing.T) {
	headings := regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(readText(t, "../../CHANGELOG.md"), 2)
	if len(headings) == 0 {
		t.Fatal("CHANGELOG.md has no headings")
	}

	first := headings[0][1]
	dated := regexp.MustCompile(`^` + regexp.QuoteMeta(release) + ` - \d{4}-\d{2}-\d{2}$`)
	if first != "Unreleased" && !dated.MatchString(first) {
		t.Errorf("CHANGELOG.md begins with %q; version.go says %s", first, release)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
