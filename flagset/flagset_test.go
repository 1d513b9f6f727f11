package flagset

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// values are what the tests' flags set.
type values struct {
	number   int
	duration time.Duration
	wait     time.Duration
	choice   string
	checked  string
	list     []string
	toggle   bool
}

func declared() (*values, *pflag.FlagSet) {
	v := new(values)
	s := Of(pflag.NewFlagSet("", pflag.ContinueOnError))
	Number(s, &v.number, "number", 8, Within(1, 256), "a number")
	s.Duration(&v.duration, "duration", time.Second, Within(0, time.Minute), "a duration")
	s.Duration(&v.wait, "wait", 0, AtLeast(0), "a duration without an upper bound")
	s.Choice(&v.choice, "choice", "a", []string{"a", "b", "c"}, "a letter")
	s.Checked(&v.checked, "checked", "", func(text string) error { return errors.New("never") }, "a text")
	s.List(&v.list, "list", "texts")
	s.Toggle(&v.toggle, "toggle", false, "on or off")
	return v, s.FlagSet
}

func TestBounds(t *testing.T) {
	for _, tt := range []struct{ flag, value, words string }{
		{"number", "0", "must be from 1 to 256"},
		{"number", "257", "must be from 1 to 256"},
		{"number", "many", "must be a whole number"},
		{"duration", "2m", "must be from 0s to 1m0s"},
		{"duration", "5", "must be a duration such as"},
		{"wait", "-1s", "must be at least 0s"},
		{"choice", "d", "must be a, b or c"},
		{"checked", "x", "never"},
	} {
		_, f := declared()
		err := f.Parse([]string{"--" + tt.flag, tt.value})
		if err == nil || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), "--"+tt.flag) {
			t.Errorf("--%s %s: got %v, want %q", tt.flag, tt.value, err, tt.words)
		}
	}
}

// TestPrecedence sets flags in three ways, of which the command line counts most.
func TestPrecedence(t *testing.T) {
	v, f := declared()
	if v.number != 8 || v.duration != time.Second || v.choice != "a" {
		t.Errorf("the defaults are %+v", v)
	}
	if err := f.Parse([]string{"--number", "9"}); err != nil {
		t.Fatal(err)
	}
	environ := []string{"SERVE_NUMBER=10", "SERVE_CHOICE=b", "SERVE_LIST=x,y", "SERVE_TOGGLE=true", "NUMBER=11", "odd"}
	if err := FromEnvironment(f, environ); err != nil {
		t.Fatal(err)
	}
	if v.number != 9 || v.choice != "b" || len(v.list) != 2 || !v.toggle || v.duration != time.Second {
		t.Errorf("got %+v", v)
	}

	_, f = declared()
	err := FromEnvironment(f, []string{"SERVE_NUMBER=0"})
	if err == nil || err.Error() != `invalid value "0" for SERVE_NUMBER: must be from 1 to 256` {
		t.Errorf("a bad variable: %v", err)
	}
}

// TestHelp has the defaults and the types in the help, in the order of declaration.
func TestHelp(t *testing.T) {
	_, f := declared()
	help := Usages(f)
	for _, want := range []string{"(default 8)", "(default 1s)", "a letter", "--number int", "--toggle       "} {
		if !strings.Contains(help, want) {
			t.Errorf("no %q in\n%s", want, help)
		}
	}
	if strings.Contains(help, "true|false") {
		t.Errorf("a switch that is off has values:\n%s", help)
	}
	if strings.Index(help, "--number") > strings.Index(help, "--choice") {
		t.Errorf("another order:\n%s", help)
	}
}
