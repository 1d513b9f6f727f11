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

// New returns a Set of no flags, which belongs to no command.
func New() Set { return Of(pflag.NewFlagSet("", pflag.ContinueOnError)) }

// Bounds are the least and the most that a value may be.
type Bounds[T cmp.Ordered] struct{ least, most T }

// Within returns Bounds.
func Within[T cmp.Ordered](least, most T) Bounds[T] { return Bounds[T]{least, most} }

const forever = time.Duration(math.MaxInt64)

// AtLeast returns the Bounds of a duration that has no upper one.
func AtLeast(d time.Duration) Bounds[time.Duration] { return Within(d, forever) }

// check returns an error unless a value is within the bounds.
func (b Bounds[T]) check(v T, format func(T) string) error {
	switch {
	case v >= b.least && v <= b.most:
		return nil
	case any(b.most) == any(forever):
		return fmt.Errorf("must be at least %s", format(b.least))
	}
	return fmt.Errorf("must be from %s to %s", format(b.least), format(b.most))
}

// Parsed declares a flag of any type, whose default is the value that it has. Kind names the type
// in the help.
func Parsed[T any](s Set, p *T, name, kind string, parse func(string) (T, error), format func(T) string, usage string) {
	s.Var(&parsed[T]{p, kind, parse, format}, name, usage)
}

// Number declares a flag whose value is a whole number.
func Number[T int | int64](s Set, p *T, name string, value T, b Bounds[T], usage string) {
	*p = value
	format := func(n T) string { return strconv.FormatInt(int64(n), 10) }
	parse := func(text string) (T, error) {
		n, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return 0, errors.New("must be a whole number")
		}
		return T(n), b.check(T(n), format)
	}
	Parsed(s, p, name, "int", parse, format, usage)
}

// Duration declares a flag whose value is a duration.
func (s Set) Duration(p *time.Duration, name string, value time.Duration, b Bounds[time.Duration], usage string) {
	*p = value
	parse := func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errors.New("must be a duration such as 30s or 5m")
		}
		return d, b.check(d, time.Duration.String)
	}
	Parsed(s, p, name, "duration", parse, time.Duration.String, usage)
}

// Text declares a flag whose value is a text.
func (s Set) Text(p *string, name, value, usage string) { s.StringVar(p, name, value, usage) }

// List declares a flag whose value is a list of texts, with commas between them or given again.
func (s Set) List(p *[]string, name, usage string) { s.StringSliceVar(p, name, nil, usage) }

// Toggle declares a flag that is on or off.
func (s Set) Toggle(p *bool, name string, value bool, usage string) { s.BoolVar(p, name, value, usage) }

// JSON declares --json.
func (s Set) JSON(p *bool) { s.Toggle(p, "json", false, "print the result as JSON") }

// Checked declares a flag whose text is checked.
func (s Set) Checked(p *string, name, value string, check func(string) error, usage string) {
	*p = value
	parse := func(text string) (string, error) { return text, check(text) }
	Parsed(s, p, name, "string", parse, func(text string) string { return text }, usage)
}

// Choice declares a flag that is one of some words. Its usage says what each word means.
func (s Set) Choice(p *string, name, value string, words []string, usage string) {
	last := len(words) - 1
	list := strings.Join(words[:last], ", ") + " or " + words[last]
	check := func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("must be %s", list)
		}
		return nil
	}
	s.Checked(p, name, value, check, usage)
}

// parsed is the value of a flag.
type parsed[T any] struct {
	p      *T
	kind   string
	parse  func(string) (T, error)
	format func(T) string
}

// String implements pflag.Value, as do the methods after it.
func (v *parsed[T]) String() string {
	if v.p == nil {
		return "" // pflag asks a zero value
	}
	return v.format(*v.p)
}

// Set reads a value and checks it.
func (v *parsed[T]) Set(text string) error {
	value, err := v.parse(text)
	if err == nil {
		*v.p = value
	}
	return err
}

// Type names the kind of value in the help.
func (v *parsed[T]) Type() string { return v.kind }

// plain hides from pflag's help that a value is a bool, which pflag says at length.
type plain struct{ pflag.Value }

// Usages describes flags for the help. =true|false follows only those that are on unless they are given.
func Usages(flags *pflag.FlagSet) string {
	shown := pflag.NewFlagSet("", pflag.ContinueOnError)
	shown.SortFlags = flags.SortFlags
	flags.VisitAll(func(f *pflag.Flag) {
		copied := *f
		if f.DefValue == "false" {
			copied.Value = plain{f.Value}
		}
		shown.AddFlag(&copied)
	})
	return shown.FlagUsages()
}

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
			err = fmt.Errorf("invalid value %q for %s: %w", value, name, e)
		}
		f.Changed = true
	})
	return err
}
