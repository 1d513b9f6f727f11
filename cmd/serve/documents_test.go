package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"serve/hub/hubtest"
	"serve/models"
	"serve/models/demo"
	"serve/models/testmodel"
	"serve/terminal"
)

// TestDocuments runs the commands of README.md, of docs and of what the demo says, document
// by document and in their order, as somebody would who reads them: in an empty home, with a
// Hub in miniature, and a small model in the place of each large one.
func TestDocuments(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many servers")
	}
	count := 0
	for _, d := range documents(t) {
		blocks := commandBlocks(d.text)
		count += len(blocks)
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			r := newReader(t)
			for _, b := range blocks {
				r.follow(b)
			}
		})
		t.Run(d.name+"/inline", func(t *testing.T) { checkInline(t, d.text) })
	}
	if count < 25 {
		t.Errorf("only %d blocks of commands were found", count)
	}
}

type document struct{ name, text string }

func documents(t *testing.T) (list []document) {
	t.Helper()
	paths := []string{"../../README.md", "../../models/demo/README.md"}
	err := filepath.WalkDir("../../docs", func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, document{strings.TrimPrefix(path, "../../"), string(text)})
	}
	// Whoever asks the demo has started it.
	return append(list, document{"demo", "```sh\nserve\n```\n" + strings.Join(demoAnswers(t), "\n")})
}

// block is some code of a document.
type block struct{ language, text string }

// begins recognizes a line that is typed; the others of an indented block are what is said.
var begins = regexp.MustCompile(`^(serve|make|git|curl|openssl|export|source|docker|go|promtool|python3?) ?`)

// commandBlocks finds what is fenced as sh, JavaScript or Python, and what is indented and typed.
func commandBlocks(text string) (list []block) {
	language := ""
	fenced := false
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			if fenced && slices.Contains([]string{"sh", "javascript", "python"}, language) {
				list = append(list, block{language, strings.Join(lines, "\n")})
			}
			fenced = !fenced
			language = strings.TrimPrefix(line, "```")
			lines = nil
		case fenced:
			lines = append(lines, line)
		default:
			typed, ok := strings.CutPrefix(line, "    ")
			if ok && begins.MatchString(typed) &&
				!strings.HasPrefix(typed, "serve:") {
				list = append(list, block{"sh", typed})
			}
		}
	}

	return list
}

// notHere are commands that this machine cannot follow, or that another test does, and why.
var notHere = []struct{ begin, why string }{
	{"go run ./bench ", "make bench's: what was measured, and takes many minutes"},
	{"docker ", "no engine runs here"},
	{"source <(serve completion", "tried by TestCompletion"},
	{"python ", "for training, which is no part of the program"},
	{"build/demo/", "training takes a quarter of an hour"},
	{"go test ", "this is one"},
	{"claude", "make agents starts it"},
	{"codex", "make agents starts it"},
	{"copilot", "make more-agents starts it"},
	{"opencode", "make more-agents starts it"},
	{"cline", "make more-agents starts it"},
	{"cn", "make more-agents starts it"},
}

// reader follows a document.
type reader struct {
	t       *testing.T
	dir     string
	environ []string
	url     string // of the server that was started last
	stop    func()
}

func newReader(t *testing.T) *reader {
	t.Helper()
	h := newHub(t)
	chats := []byte(demo.GGUF)
	for _, repo := range []string{standIn("mistral-7b"), standIn("llama-3.1-8b"),
		standIn("qwen-3-coder-30b-a3b"), "bartowski/Llama-3.2-1B-Instruct-GGUF", "org/repo"} {
		h.Add(
			repo,
			hubtest.Repo{
				License: "mit",
				Files:   map[string][]byte{"m-Q4_K_M.gguf": chats, "m-Q8_0.gguf": append(slices.Clone(chats), 0)},
			},
		)
	}

	h.Add(
		standIn("nomic-embed-text"),
		hubtest.Repo{
			License: "mit",
			Files:   map[string][]byte{"e-Q4_K_M.gguf": testmodel.Bytes(testmodel.Options{Pooling: 1})},
		},
	)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	r := &reader{t: t, dir: t.TempDir(), stop: func() {}}
	bin := t.TempDir()
	for name, text := range map[string]string{
		filepath.Join(bin, ".curlrc"):      "fail-with-body\n", // an error is one
		filepath.Join(bin, "serve"):        "#!/bin/sh\nTEST_AS_SERVE=1 exec '" + self + "' \"$@\"\n",
		filepath.Join(r.dir, "model.gguf"): string(chats),
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	r.environ = append(environ(t, h), "PATH="+bin+":"+os.Getenv("PATH"), "SERVE_LOG_LEVEL=warn", "CURL_HOME="+bin,
		"GORACE="+endsAtOnce)
	t.Cleanup(func() { r.stop() })
	if out, err := r.shell("git init -q", ""); err != nil {
		t.Fatalf("%v %s", err, out)
	}

	return r
}

// standIn is the repository that a model of the catalog is replaced with.
func standIn(name string) string { return "tests/" + name }

var cataloged = func() *regexp.Regexp {
	var names []string
	for _, e := range models.Catalog() {
		names = append(names, regexp.QuoteMeta(e.Name))
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	return regexp.MustCompile(`(^|[\s"'=])(` + strings.Join(names, "|") + `)([\s"':]|$)`)
}()

// here writes a command as it is run: with small models, and the server that runs.
func (r *reader) here(text string) string {
	for old := ""; old != text; { // neighbors share the space between them
		old = text
		text = cataloged.ReplaceAllString(text, "${1}tests/$2$3")
	}
	if r.url != "" {
		text = strings.ReplaceAll(text, "http://127.0.0.1:8080", r.url)
	}
	return text
}

// follow runs a block, command by command.
func (r *reader) follow(b block) {
	r.t.Helper()
	if b.language != "sh" {
		r.script(b)
		return
	}
	for command := range strings.SplitSeq(strings.ReplaceAll(b.text, "\\\n", " "), "\n") {
		command = strings.TrimSpace(command)
		if command == "" || command[0] == '#' ||
			slices.ContainsFunc(
				notHere, func(n struct{ begin, why string }) bool { return strings.HasPrefix(command, n.begin) },
			) {
			continue
		}
		r.run(command)
	}
}

func (r *reader) run(command string) {
	r.t.Helper()
	if model, ok := strings.CutPrefix(command, "make run"); ok {
		command = "serve" + strings.Replace(model, "MODEL=", "", 1)
	}

	if target, ok := strings.CutPrefix(command, "make"); ok {
		// What make would do is CI's own work; that it knows how to is shown here.
		out, err := r.shell("make -C '"+r.root()+"' -n "+target, "")
		if err != nil {
			r.t.Errorf("%s: %v\n%s", command, err, out)
		}
		return
	}

	args := strings.Fields(r.here(command))
	if args[0] == "serve" && !strings.ContainsAny(command, "|>") && startsServer(args[1:]) {
		r.start(command)
		return
	}

	input := ""
	if args[0] == "serve" && len(args) > 1 && args[1] == "chat" {
		input = "Hello\n"
	}
	if strings.Contains(command, "serve bench") {
		command += " --requests 8 --answer 8 --prompt 32"
	}
	if out, err := r.shell(r.here(command), input); err != nil {
		r.t.Errorf("%s: %v\n%s", command, err, out)
	}
}

// startsServer says whether these are arguments of serve itself and not of a command of it.
func startsServer(args []string) bool {
	cmd, _, err := newRootCommand(&cli{t: &terminal.Terminal{}}).Find(args)
	return err == nil && !cmd.HasParent() && !slices.Contains(args, "--help") && !slices.Contains(args, "--version")
}

// start starts a server, which goes on until the next one, and stops as it should.
func (r *reader) start(command string) {
	r.t.Helper()
	r.stop()
	text := strings.Replace(r.here(command), "serve", "exec serve", 1)
	cmd := r.command(text + " --port 0 --ollama-port 0 --ctx-size 4096 --parallel 8")
	said := newSyncBuffer()
	cmd.Stdout = said
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	r.stop = func() {
		r.stop = func() {}
		_ = cmd.Process.Signal(os.Interrupt)
		if err := <-ended; err != nil {
			r.t.Errorf("%s: %v\n%s", command, err, said)
		}
	}

	url, err, ok := awaitReady(said, ended)
	if !ok {
		r.stop = func() {}
		r.t.Errorf("%s: ended with %v\n%s", command, err, said)
		return
	}

	r.url = url
}

func (r *reader) root() string {
	root, err := filepath.Abs("../..")
	if err != nil {
		r.t.Fatal(err)
	}
	return root
}

func (r *reader) command(text string) *exec.Cmd {
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", text)
	cmd.Dir = r.dir
	cmd.Env = r.environ
	return cmd
}

func (r *reader) shell(text, input string) (string, error) {
	cmd := r.command(text)
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// script runs a whole program; what is a part of one has no import.
func (r *reader) script(b block) {
	r.t.Helper()
	if !strings.Contains(b.text, "import ") {
		return
	}
	if r.url == "" {
		r.start("serve mistral-7b")
	}

	text := r.here(b.text)
	var cmd *exec.Cmd
	switch {
	case b.language == "javascript":
		cmd = exec.Command("node", "--input-type=module")
		cmd.Dir = "testdata/node"
	case os.Getenv("TEST_PYTHON") != "":
		cmd = exec.Command(os.Getenv("TEST_PYTHON"), "-")
	default:
		r.t.Log("make judges runs the Python of this")
		return
	}

	cmd.Stdin = strings.NewReader(text)
	cmd.Env = append(os.Environ(), r.environ...)
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil || out.Len() == 0 {
		r.t.Errorf("%s\n%v\n%s", text, err, &out)
	}
}

var (
	inline     = regexp.MustCompile("`(serve [^`]+)`")
	inlineFlag = regexp.MustCompile("`--([a-z][a-z-]*)[^`]*`")
)

// checkInline looks at commands and flags that stand within a sentence: they must be ones that
// serve knows.
func checkInline(t *testing.T, text string) {
	for _, m := range inline.FindAllStringSubmatch(text, -1) {
		line, _, _ := strings.Cut(strings.ReplaceAll(m[1], `\|`, "|"), "|")
		args := strings.Fields(line)[1:]
		if slices.ContainsFunc(args, func(a string) bool {
			return strings.ToUpper(a) == a && strings.ContainsFunc(a, func(r rune) bool { return r >= 'A' })
		}) {
			continue // a placeholder: MODEL, COMMAND
		}
		if err := parses(args); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}

	flags := map[string]bool{"help": true}
	var add func(cmd *cobra.Command)
	add = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
		for _, sub := range cmd.Commands() {
			add(sub)
		}
	}

	add(newRootCommand(&cli{t: &terminal.Terminal{}}))
	for _, m := range inlineFlag.FindAllStringSubmatch(text, -1) {
		if !flags[m[1]] {
			t.Errorf("there is no flag --%s: %s", m[1], m[0])
		}
	}
}

// parses finds a command and reads its flags, and does nothing.
func parses(args []string) error {
	root := newRootCommand(&cli{t: &terminal.Terminal{}})
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if slices.Contains(rest, "--help") || slices.Contains(rest, "--version") {
		return nil
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return knownModels(cmd, cmd.Flags().Args())
}

// knownModels makes sure that what looks like a name of the catalog is one.
func knownModels(cmd *cobra.Command, args []string) error {
	if cmd.HasParent() {
		return nil
	}
	for _, a := range args {
		if _, err := models.ParseReference(strings.Trim(a, `"`), models.FileExists); err != nil && a != "..." {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return nil
}
