package server_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"serve/access"
	"serve/audit"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/ops"
	"serve/server/servertest"
)

// TestAuditReview shows administrators the last records of those that they administer, without texts or digests, and
// whether the file is as it was signed; and shows others nothing.
func TestAuditReview(t *testing.T) {
	admin := access.Inference | access.Models | access.Admin
	k, secrets := newKeyed(t,
		access.NewKey{Name: "root", Scopes: admin},
		access.NewKey{Name: "lead", Scopes: admin, Tenant: "research"},
		access.NewKey{Name: "alice", Tenant: "research"},
		access.NewKey{Name: "bob"},
	)
	log := newLogged(t)
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open(), Audit: log})
	as := func(name string) string { return "Authorization: Bearer " + secrets[name] }
	for _, name := range []string{"alice", "bob"} {
		o := ask(s.Handler(), "POST", "/v1/completions", `{"model":"fake","max_tokens":3,"prompt":"private words"}`, as(name))
		if o.status != 200 {
			t.Fatal(o.status, o.body)
		}
	}
	look := func(name, query string) (a ops.AuditAnswer) {
		t.Helper()
		o := ask(s.Handler(), "GET", "/audit"+query, "", as(name))
		if err := json.Unmarshal([]byte(o.body), &a); o.status != 200 || err != nil || a.Log == nil {
			t.Fatal(o.status, o.body, err)
		}
		for _, field := range []string{"private", "prompts", "answers", "message"} {
			if strings.Contains(o.body, field) {
				t.Errorf("%s is told: %s", field, o.body)
			}
		}
		return a
	}
	names := func(a ops.AuditAnswer) (list []string) {
		for _, r := range a.Records {
			if r.Kind != audit.ModelLoaded { // which comes when it does
				list = append(list, string(r.Kind)+" "+r.Name)
			}
		}
		return list
	}

	a := look("root", "")
	want := []string{"request.end bob", "request.begin bob", "request.end alice", "request.begin alice"}
	if got := names(a); !slices.Equal(got, want) || !a.Log.Holds || !strings.Contains(a.Log.Checkpoint, a.Log.Origin) {
		t.Errorf("%q, %+v", got, a.Log)
	}
	bobs := slices.IndexFunc(a.Records, func(r ops.AuditRecord) bool {
		return r.Kind == audit.RequestBegin && r.Name == "bob"
	})
	if r := a.Records[0]; r.Out != 3 || r.In == 0 || r.Status != 200 || !slices.Equal(r.Models, []string{"fake"}) {
		t.Errorf("%+v", r)
	}
	if got := names(look("root", "?limit=1")); !slices.Equal(got, []string{"request root"}) {
		t.Errorf("%q: the request before was recorded", got)
	}
	if got := names(look("lead", "")); !slices.Equal(got, want[2:]) {
		t.Errorf("an administrator of a tenant sees %q", got)
	}
	if o := ask(s.Handler(), "GET", "/audit", "", as("alice")); o.status != 403 {
		t.Errorf("no administrator: %d", o.status)
	}

	// Nothing is written any more when the model's record is there, which nobody waits for.
	isLoaded := func(r ops.AuditRecord) bool { return r.Kind == audit.ModelLoaded }
	for !slices.ContainsFunc(look("root", "?limit=500").Records, isLoaded) {
		runtime.Gosched()
	}
	changed := int64(a.Records[bobs].Seq)
	files, err := filepath.Glob(filepath.Join(log.dir, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		err = os.WriteFile(files[0], bytes.Replace(text, []byte(`"bob"`), []byte(`"eve"`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := look("root", ""); a.Log.Holds || len(a.Log.Problems) != 1 || a.Log.Problems[0].Record != changed {
		t.Errorf("a record was changed: %+v", a.Log.Review)
	}
}

// TestAuditReviewOfNobody shows nothing without a log, and nothing where nobody has a key.
func TestAuditReviewOfNobody(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "root", Scopes: access.Admin})
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	o := ask(s.Handler(), "GET", "/audit", "", "Authorization: Bearer "+secrets["root"])
	if o.status != 200 || !strings.Contains(o.body, `"log":null`) {
		t.Errorf("without a log: %d %s", o.status, o.body)
	}
	_, open := servertest.Start(t, enginetest.Options{}, server.Options{Audit: newLogged(t)})
	if o := ask(open.Handler(), "GET", "/audit", ""); o.status != 403 {
		t.Errorf("without keys: %d %s", o.status, o.body)
	}
}
