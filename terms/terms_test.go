package terms

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/hub"
	"serve/hub/hubtest"
	"serve/models"
)

func arriving(t *testing.T, license string, texts ...string) *models.Candidate {
	t.Helper()
	c := &models.Candidate{Name: "some-model", Repo: "org/some", Commit: "c1", License: license, Arriving: true}
	for _, text := range texts {
		place := filepath.Join(t.TempDir(), "LICENSE")
		if err := os.WriteFile(place, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Texts = append(c.Texts, models.CandidateFile{File: hub.File{Path: "LICENSE"}, Place: place})
	}
	c.Texts = append(c.Texts, models.CandidateFile{File: hub.File{Path: "model.sig"}, Place: "/nowhere"})
	return c
}

// TestAcceptedOnce asks once for each license and each text of it, and records who has said yes.
func TestAcceptedOnce(t *testing.T) {
	asked := 0
	answer := false
	g := &Gate{Book: In(filepath.Join(t.TempDir(), "home")), Ask: func(_ context.Context, question string) (bool, error) {
		asked++
		if !strings.Contains(question, "some-model has the license gemma") {
			t.Errorf("asked %q", question)
		}
		return answer, nil
	}}
	check := func(c *models.Candidate, wantAsked int, admitted bool) {
		t.Helper()
		asked = 0
		if err := g.Admit(t.Context(), c); (err == nil) != admitted || err != nil && !errors.Is(err, models.ErrTerms) {
			t.Errorf("got %v", err)
		}
		if asked != wantAsked {
			t.Errorf("asked %d times", asked)
		}
	}
	check(arriving(t, "mit", "a"), 0, true)
	check(arriving(t, ""), 0, true)
	check(arriving(t, "gemma", "a"), 1, false)
	answer = true
	check(arriving(t, "gemma", "a"), 1, true)
	check(arriving(t, "Gemma", "a"), 0, true)
	check(arriving(t, "gemma"), 0, true)
	check(arriving(t, "gemma", "a", "b"), 1, true)
	check(arriving(t, "gemma", "b"), 0, true)

	remote := arriving(t, "llama3.1")
	remote.Remote = true
	check(remote, 0, false)

	here := arriving(t, "llama3.1")
	here.Arriving = false
	check(here, 0, true)

	list, err := g.Book.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("%v: %v", list, err)
	}
	a := list[1]
	if a.By != userName() || a.By == "" || a.License != "gemma" || a.Repo != "org/some" || a.Commit != "c1" || a.How != byTerminal ||
		a.Time.IsZero() || len(a.Texts) != 2 || a.Texts[1].SHA256 != hubtest.SHA256([]byte("b")) {
		t.Errorf("recorded %+v", a)
	}
	if info, err := os.Stat(string(g.Book)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestFlag accepts by a flag where nobody can be asked, and a repository with terms of its own by its name.
func TestFlag(t *testing.T) {
	book := In(t.TempDir())
	refused := (&Gate{Book: book}).Admit(t.Context(), arriving(t, "llama3.1"))
	var e *models.Error
	if !errors.Is(refused, models.ErrTerms) || !errors.As(refused, &e) ||
		!strings.Contains(e.Todo, "serve pull some-model --accept-license llama3.1") {
		t.Errorf("got %v", refused)
	}
	if err := (&Gate{Book: book, Accepted: []string{"gemma"}}).Admit(t.Context(), arriving(t, "llama3.1")); err == nil {
		t.Error("another license was accepted")
	}
	if err := (&Gate{Book: book, Accepted: []string{"gemma", "LLAMA3.1"}}).Admit(t.Context(), arriving(t, "llama3.1")); err != nil {
		t.Error(err)
	}
	if err := (&Gate{Book: book}).Admit(t.Context(), arriving(t, "llama3.1")); err != nil {
		t.Error(err)
	}

	gated := arriving(t, "")
	gated.Gated = "manual"
	if err := (&Gate{Book: book}).Admit(t.Context(), gated); err == nil {
		t.Error("a gated repository was accepted by nobody")
	}
	if err := (&Gate{Book: book, Accepted: []string{"org/some"}}).Admit(t.Context(), gated); err != nil {
		t.Error(err)
	}
	if list, err := book.List(); err != nil || len(list) != 2 || list[0].How != byFlag {
		t.Errorf("%v, %v", list, err)
	}
}

// TestCutOff reads what is whole of a file of which a line was cut off, and loses nothing that comes later.
func TestCutOff(t *testing.T) {
	book := In(t.TempDir())
	if err := book.add(Acceptance{License: "one"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(string(book))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(string(book), append(b, b[:len(b)-5]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := book.add(Acceptance{License: "two"}); err != nil {
		t.Fatal(err)
	}
	list, err := book.List()
	if err != nil || len(list) != 2 || list[0].License != "one" || list[1].License != "two" {
		t.Errorf("%+v, %v", list, err)
	}

	blocked := &Gate{Book: Book(filepath.Join(string(book), "x")), Accepted: []string{"gemma"}}
	if err := blocked.Admit(t.Context(), arriving(t, "gemma")); err == nil {
		t.Error("a license was accepted and not recorded")
	}
}

// TestCatalog: the catalog's licenses are known, or restrict. This list is what serve asks about.
func TestCatalog(t *testing.T) {
	var asks []string
	for _, e := range models.Catalog() {
		if Restricts(e.License, "") {
			asks = append(asks, e.License)
		}
	}
	if len(asks) < 20 || len(asks) > len(models.Catalog())/3 {
		t.Errorf("%d of %d models: %q", len(asks), len(models.Catalog()), asks)
	}
	for license, want := range map[string]bool{
		"apache-2.0": false, "MIT": false, "": false, "unknown": false, "apache-2.0, mit": false, "cc-by-nc-4.0": true,
		"gemma": true, "other": true, "mit, llama3": true,
	} {
		if Restricts(license, "") != want {
			t.Errorf("%q: %v", license, !want)
		}
	}
	if !Restricts("mit", "auto") {
		t.Error("a gated repository has no terms")
	}
}
