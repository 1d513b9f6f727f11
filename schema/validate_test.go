package schema

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestValidatorSuite judges the instances of the official tests by the validator, also those of schemas that no
// grammar enforces.
func TestValidatorSuite(t *testing.T) {
	for _, draft := range []string{"draft2020-12", "draft7"} {
		var n counts
		err := filepath.WalkDir(filepath.Join(suite(t), draft), func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".json") {
				return err
			}
			validateFile(t, &n, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d valid instances accepted, %d invalid ones refused, %d of schemas that are refused, %d wrong",
			draft, n.valid, n.invalid, n.refused, n.wrong)
		if n.valid < 500 || n.invalid < 300 {
			t.Errorf("%s: too few: %+v", draft, n)
		}
	}
}

func validateFile(t *testing.T, n *counts, name string) {
	for _, group := range suiteGroups(t, name) {
		if strings.Contains(string(group.Schema), "$dynamicRef") {
			continue // not followed: it is named as not enforced
		}
		compiled, err := Compile(group.Schema, Options{Prefix: "j"})
		if err != nil {
			n.refused += len(group.Tests)
			continue
		}
		for _, test := range group.Tests {
			err := compiled.Validate(test.Data)
			switch {
			case (err == nil) != test.Valid:
				n.wrong++
				t.Errorf("%s: %s: %s: got %v, valid is %v\n%s\n%s", filepath.Base(name), group.Description,
					test.Description, err, test.Valid, group.Schema, test.Data)
			case test.Valid:
				n.valid++
			default:
				n.invalid++
			}
		}
	}
}
