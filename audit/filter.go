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
	As     string  `json:"as"` // prompt, answer, message or picture
}

// FindText finds the records of the log in a folder that have the digest of a text: of a whole prompt as the model read
// it, of a conversation's last message, or of a whole answer. Spaces around it do not matter.
func FindText(dir string, text []byte) ([]Match, error) {
	keys, err := ReadKeys(dir)
	if err != nil {
		return nil, err
	}
	d := NewText(keys.NewDigest())
	_, _ = d.Write(text)
	return findDigest(Records(dir), d.String())
}

func findDigest(all iter.Seq2[*Record, error], want string) (list []Match, err error) {
	for r, err := range all {
		if err != nil {
			return nil, err
		}
		if r.Message == want {
			list = append(list, Match{r, "message"})
		}
		for i := range r.Work {
			if slices.Contains(r.Work[i].Prompts, want) {
				list = append(list, Match{r, "prompt"})
			}
			if slices.Contains(r.Work[i].Pictures, want) {
				list = append(list, Match{r, "picture"})
			}
			if slices.Contains(r.Work[i].Answers, want) {
				list = append(list, Match{r, "answer"})
			}
		}
	}
	return list, nil
}
