// Package flagset declares flags: each with its variable, name, default, bounds and help, in one
// place. The help, the variables of the environment, the manual pages and the guide to flags are
// made from that.
package flagset

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Set is a set of flags.
type Set struct{ *pflag.FlagSet }

// Of returns a Set of flags whose help lists them in the order of declaration.
func Of(f *pflag.FlagSet) Set {
	f.SortFlags = false
	return Set{f}
}

// Bounds are the least and the most that a value may be.
type Bounds[T cmp.Ordered] struct{ least, most T }

// Within returns Bounds.
func Within[T cmp.Ordered](least, most T) Bounds[T] { return Bounds[T]{least, most} }

const forever = time.Duration(math.MaxInt64)

// AtLeast returns the Bounds of a duration that has no upper one.
func AtLeast(d time.Duration) Bounds[time.Duration] { return Within(d, forever) }

func (b Bounds[T]) check(v T) error {
	switch {
	case v >= b.least && v <= b.most:
		return nil
	case any(b.most) == any(forever):
		return fmt.Errorf("must be at least %v", b.least)
	}
	return fmt.Errorf("must be from %v to %v", b.least, b.most)
}

// Number declares a flag whose value is a whole number.
func Number[T int | int64](s Set, p *T, name string, value T, b Bounds[T], usage string) {
	*p = value
	s.Value(&bounded[T]{
		p:      p,
		bounds: b,
		kind:   "int",
		parse: func(text string) (T, error) {
			n, err := strconv.ParseInt(text, 0, 64)
			if err != nil {
				return 0, errors.New("must be a whole number")
			}
			return T(n), nil
		},
	}, name, usage)
}

// Duration declares a flag whose value is a duration.
func (s Set) Duration(p *time.Duration, name string, value time.Duration, b Bounds[time.Duration], usage string) {
	*p = value
	s.Value(&bounded[time.Duration]{
		p:      p,
		bounds: b,
		kind:   "duration",
		parse: func(text string) (time.Duration, error) {
			d, err := time.ParseDuration(text)
			if err != nil {
				return 0, errors.New("must be a duration such as 30s or 5m")
			}
			return d, nil
		},
	}, name, usage)
}

// Text declares a flag whose value is a text.
func (s Set) Text(p *string, name, value, usage string) { s.StringVar(p, name, value, usage) }

// List declares a flag whose value is a list of texts, with commas between them or given again.
func (s Set) List(p *[]string, name, usage string) { s.StringSliceVar(p, name, nil, usage) }

// Toggle declares a flag that is on or off.
func (s Set) Toggle(p *bool, name string, value bool, usage string) { s.BoolVar(p, name, value, usage) }

// JSON declares --json.
func (s Set) JSON(p *bool) { s.Toggle(p, "json", false, "print the result as JSON") }

// Value declares a flag whose value reads and checks itself.
func (s Set) Value(v pflag.Value, name, usage string) { s.Var(v, name, usage) }

// Checked declares a flag whose text is checked.
func (s Set) Checked(p *string, name, value string, check func(string) error, usage string) {
	*p = value
	s.Value(&checkedText{p, check}, name, usage)
}

// Choice declares a flag that is one of some words, which follow the usage in its help.
func (s Set) Choice(p *string, name, value string, words []string, usage string) {
	last := len(words) - 1
	list := strings.Join(words[:last], ", ") + " or " + words[last]
	check := func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("must be %s", list)
		}
		return nil
	}
	s.Checked(p, name, value, check, usage+": "+list)
}

// bounded is the value of a flag that has bounds.
type bounded[T cmp.Ordered] struct {
	p      *T
	bounds Bounds[T]
	kind   string
	parse  func(string) (T, error)
}

// String implements pflag.Value, as do the methods after it.
func (b *bounded[T]) String() string {
	if b.p == nil {
		return "" // pflag asks a zero value
	}
	return fmt.Sprint(*b.p)
}

// Set reads a value and checks it.
func (b *bounded[T]) Set(text string) error {
	v, err := b.parse(text)
	if err != nil {
		return err
	}
	if err := b.bounds.check(v); err != nil {
		return err
	}
	*b.p = v
	return nil
}

// Type names the kind of value in the help.
func (b *bounded[T]) Type() string { return b.kind }

// checkedText is the value of a flag with a check of its own.
type checkedText struct {
	p     *string
	check func(string) error
}

// String implements pflag.Value, as do the methods after it.
func (c *checkedText) String() string {
	if c.p == nil {
		return ""
	}
	return *c.p
}

// Set checks a text.
func (c *checkedText) Set(text string) error {
	if err := c.check(text); err != nil {
		return err
	}
	*c.p = text
	return nil
}

// Type names the kind of value in the help.
func (c *checkedText) Type() string { return "string" }

// Variable returns the environment variable of a flag: SERVE_CTX_SIZE of ctx-size.
func Variable(flag string) string {
	return "SERVE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// FromEnvironment gives every flag that was not given the value of its variable.
func FromEnvironment(flags *pflag.FlagSet, environ []string) (err error) {
	values := map[string]string{}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			values[name] = value
		}
	}

	flags.VisitAll(func(f *pflag.Flag) {
		name := Variable(f.Name)
		value, ok := values[name]
		if !ok || f.Changed || err != nil || f.Name == "help" || f.Name == "version" {
			return
		}
		if e := f.Value.Set(value); e != nil {
			err = fmt.Errorf("%s=%q: %w", name, value, e)
		}
		f.Changed = true
	})
	return err
}
