package access

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Key is a key as the file has it. The secret itself is not kept.
type Key struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	Scopes Scope  `json:"scopes"`
	// Models are the names of the models that may be used; none for all.
	Models  []string  `json:"models,omitempty"`
	Limits  Limits    `json:"limits"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
	// MadeBy is the id of the administrator who has made the key by a request, which is that of a key; empty for a key
	// that a command has made.
	MadeBy string `json:"made_by,omitempty"`
	// Secrets are the hashes of those that are accepted: one, and after a rotation earlier ones for a while.
	Secrets []Secret `json:"secrets"`
	// Certificate is the name of the client certificate that takes the place of a secret; "" if there is a secret.
	Certificate string `json:"certificate,omitempty"`
}

// Secret is the hash of a secret, and until when it is accepted if that is earlier than the key's end.
type Secret struct {
	SHA256  hash      `json:"sha256"`
	Expires time.Time `json:"expires,omitzero"`
}

// MarshalText writes a hash in hexadecimal.
func (h hash) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h[:])), nil }

// UnmarshalText reads one.
func (h *hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return errors.New("a hash is not 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Limits are the most that a key may use; 0 is no limit.
type Limits struct {
	RequestsPerMinute int `json:"requests_per_minute,omitempty"`
	TokensPerMinute   int `json:"tokens_per_minute,omitempty"`
	TokensPerDay      int `json:"tokens_per_day,omitempty"`
	Concurrent        int `json:"concurrent,omitempty"`      // answers that are computed at the same time
	BytesInFlight     int `json:"bytes_in_flight,omitempty"` // of request bodies in memory at the same time
	BytesStored       int `json:"bytes_stored,omitempty"`    // of what it has stored, on a disk
}

// MaxLimit is the largest value of a limit.
const MaxLimit = 1 << 40

// MaxModels is the most models that a key may name.
const MaxModels = 256

// Bounds of what a file of keys has.
const (
	maxKeys    = 100_000
	maxName    = 64
	maxModel   = 512
	maxSecrets = 16
)

// CheckName returns an error unless a name can be that of a key or a tenant: it is shown in logs and lists.
func CheckName(name string) error {
	odd := strings.ContainsFunc(name, func(r rune) bool {
		return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._@-", r)
	})
	if name == "" || len(name) > maxName || odd || strings.ContainsRune("._@-", rune(name[0])) {
		return fmt.Errorf("the name %q must have 1 to %d letters, digits and ._@-, and begin with a letter or digit",
			name, maxName)
	}
	return nil
}

// check returns an error unless the key is one that the server can use.
func (k *Key) check() error {
	if err := CheckName(k.Name); err != nil {
		return err
	}
	if err := CheckName(k.Tenant); err != nil {
		return fmt.Errorf("the tenant of key %s: %w", k.Name, err)
	}
	switch {
	case k.ID == "" || len(k.ID) > maxName || CheckName(k.ID) != nil:
		return fmt.Errorf("the id of key %s is not valid", k.Name)
	case k.MadeBy != "" && !isText(k.MadeBy, maxModel):
		return fmt.Errorf("key %s was made by %q, which nobody can be", k.Name, k.MadeBy)
	case len(k.Secrets) == 0 && k.Certificate == "" && k.Revoked.IsZero():
		return fmt.Errorf("key %s has no secret", k.Name)
	case len(k.Secrets) > 0 && k.Certificate != "":
		return fmt.Errorf("key %s has both a secret and a certificate", k.Name)
	case !isText(k.Certificate, maxModel) && k.Certificate != "":
		return fmt.Errorf("key %s is for a certificate %q, which none can have as its name", k.Name, k.Certificate)
	case len(k.Secrets) > maxSecrets:
		return fmt.Errorf("key %s has more than %d secrets", k.Name, maxSecrets)
	case k.Scopes == 0:
		return fmt.Errorf("key %s has no scopes", k.Name)
	case len(k.Models) > MaxModels:
		return fmt.Errorf("key %s names more than %d models", k.Name, MaxModels)
	}

	for _, m := range k.Models {
		if !isText(m, maxModel) {
			return fmt.Errorf("key %s names a model %q, which none can have as its name", k.Name, m)
		}
	}
	return k.Limits.check()
}

// isText reports whether a text can be a name that others than the users of this program choose.
func isText(text string, most int) bool {
	return text != "" && len(text) <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// check returns an error if a limit is out of bounds.
func (l Limits) check() error {
	for _, n := range []int{
		l.RequestsPerMinute, l.TokensPerMinute, l.TokensPerDay, l.Concurrent, l.BytesInFlight, l.BytesStored,
	} {
		if n < 0 || n > MaxLimit {
			return fmt.Errorf("the limit %d is not from 0 to %d", n, MaxLimit)
		}
	}
	return nil
}

// isOver reports whether what ends at a time has ended; a zero time is no end.
func isOver(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

// State says whether a key is in use: active, revoked or expired.
func (k *Key) State(now time.Time) string {
	switch {
	case !k.Revoked.IsZero():
		return "revoked"
	case isOver(k.Expires, now):
		return "expired"
	}
	return "active"
}

// end returns when a secret of the key is no longer accepted; zero for never.
func (k *Key) end(s Secret) time.Time {
	ends := slices.DeleteFunc([]time.Time{k.Expires, s.Expires}, time.Time.IsZero)
	if len(ends) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(ends, time.Time.Compare)
}

// maxPeriod is the longest time until which a key may expire.
const maxPeriod = 100 * 365 * 24 * time.Hour

// ParsePeriod reads a duration, in which days may be given: 90d, 12h.
func ParsePeriod(text string) (time.Duration, error) {
	invalid := fmt.Errorf("%q must be a period such as 90d or 12h", text)
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > int(maxPeriod/(24*time.Hour)) {
			return 0, invalid
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 || d > maxPeriod {
		return 0, invalid
	}
	return d, nil
}

// FormatPeriod writes a duration as ParsePeriod reads it.
func FormatPeriod(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return d.String()
}
