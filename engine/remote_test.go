package engine_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"serve/engine/enginetest"
	"serve/engine/remote"
	"serve/engine/remote/remotetest"
)

// remotely says that this process runs the tests over sockets.
var remotely = os.Getenv("TEST_REMOTELY") == "1"

// TestAllOfThisRemotely runs the package's tests again, each over a runner at the other
// end of two sockets.
func TestAllOfThisRemotely(t *testing.T) {
	if remotely {
		t.Skip("this is the second run")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^Test", "-test.timeout", "2m")
	cmd.Env = append(os.Environ(), "TEST_REMOTELY=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// wherever is a runner, or one that it is the other end of.
func wherever(t testing.TB, fake *enginetest.Fake) enginetest.Model {
	t.Helper()
	if !remotely {
		return fake
	}
	r, _, err := remote.Start(
		context.Background(), remote.Options{
			Spawn:   func() (*remote.Child, error) { return remotetest.Spawn(fake) },
			Discard: fake.Discard,
			Prepare: fake.Prepare,
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
