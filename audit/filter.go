package audit

import (
	"iter"
	"slices"
	"strings"
	"time"
)

// Filter chooses records. Zero values choose all.
type Filter struct {
	Since  time.Time
	Until  time.Time
	Kind   string // a kind, or the part before its dot
	ID     string // of a request, ours or the client's
	Who    string // id or name of a key, or a client
	Tenant string
	Model  string // name or SHA-256
	Failed bool   // only what failed
}

// Matches reports whether a record is one of those that are wanted.
func (f *Filter) Matches(r *Record) bool {
	if !f.Since.IsZero() && r.Time.Before(f.Since) || !f.Until.IsZero() && !r.Time.Before(f.Until) {
		return false
	}
	if kind := string(r.Kind); f.Kind != "" && kind != f.Kind && !strings.HasPrefix(kind, f.Kind+".") {
		return false
	}
	if f.ID != "" && f.ID != r.ID && f.ID != r.ClientID {
		return false
	}
	who := r.Who
	if who == nil {
		who = new(Who)
	}
	if f.Who != "" && !slices.Contains([]string{who.Key, who.Name, who.Client}, f.Who) ||
		f.Tenant != "" && f.Tenant != who.Tenant {
		return false
	}
	if f.Failed && !r.failed() {
		return false
	}
	return f.Model == "" || r.Object == f.Model ||
		slices.ContainsFunc(r.Work, func(w Work) bool { return w.Model == f.Model || w.SHA256 == f.Model })
}

// failed reports whether what a record is about went wrong.
func (r *Record) failed() bool { return r.Error != "" || r.Status >= 400 }

// Select returns the records of a log that a filter chooses.
func Select(all iter.Seq2[*Record, error], f *Filter) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		for r, err := range all {
			if err != nil {
				yield(nil, err)
				return
			}
			if f.Matches(r) && !yield(r, nil) {
				return
			}
		}
	}
}

// Match is a record in which a text is.
type Match struct {
	Record *Record `json:"record"`
	As     Subject `json:"as"`
}

// FindText finds the records of the log in a folder that have the digest of a text: of a whole prompt as the model read
// it, of a conversation's last message, or of the visible text, the reasoning or the calls of an answer. Spaces around
// it do not matter.
func FindText(dir string, text []byte) ([]Match, error) {
	keys, err := ReadKeys(dir)
	if err != nil {
		return nil, err
	}
	return find(Records(dir), digestsOf(keys, text))
}

// wanted are the digests of a text in a version, by what it may be.
type wanted map[Subject]string

// digestsOf returns the digests of a text in each version.
func digestsOf(keys *Keys, text []byte) (versions [DigestVersion + 1]wanted) {
	calls, err := ParseCalls(text)
	hasCalls := err == nil && len(calls) > 0
	for version := 1; version <= DigestVersion; version++ {
		versions[version] = wanted{}
		for _, of := range []Subject{OfMessage, OfPrompt, OfPicture, OfAnswer, OfReasoning} {
			d := NewText(keys.digestOf(version, of))
			_, _ = d.Write(text)
			versions[version][of] = d.String()
		}
		if hasCalls && version > 1 {
			d := keys.digestOf(version, OfCalls)
			writeCalls(d, calls)
			versions[version][OfCalls] = d.String()
		}
	}
	return versions
}

func find(all iter.Seq2[*Record, error], versions [DigestVersion + 1]wanted) (list []Match, err error) {
	for r, err := range all {
		if err != nil {
			return nil, err
		}
		version := max(r.Digests, 1)
		if version > DigestVersion {
			continue // of a later program
		}
		for _, as := range r.has(versions[version]) {
			list = append(list, Match{r, as})
		}
	}
	return list, nil
}

// has returns what of a record has a digest that is wanted.
func (r *Record) has(want wanted) (list []Subject) {
	is := func(of Subject, digest string) bool { return digest != "" && digest == want[of] }
	if is(OfMessage, r.Message) {
		list = append(list, OfMessage)
	}
	for i := range r.Work {
		w := &r.Work[i]
		if slices.ContainsFunc(w.Prompts, func(d string) bool { return is(OfPrompt, d) }) {
			list = append(list, OfPrompt)
		}
		if slices.ContainsFunc(w.Pictures, func(d string) bool { return is(OfPicture, d) }) {
			list = append(list, OfPicture)
		}
		if slices.ContainsFunc(w.Answers, func(a Answer) bool { return is(OfAnswer, a.Text) }) {
			list = append(list, OfAnswer)
		}
		if slices.ContainsFunc(w.Answers, func(a Answer) bool { return is(OfReasoning, a.Reasoning) }) {
			list = append(list, OfReasoning)
		}
		if slices.ContainsFunc(w.Answers, func(a Answer) bool { return is(OfCalls, a.Calls) }) {
			list = append(list, OfCalls)
		}
	}
	return list
}
