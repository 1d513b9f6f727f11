// Package remotetest has a child that is none: a goroutine that serves a model over
// sockets as a child process does, and that a test can kill.
package remotetest

import (
	"serve/engine/enginetest"
	"serve/engine/remote"
)

// Child is one, and its own end of the sockets, over which a test can say what it likes.
type Child struct {
	remote.Child
	End remote.Conn
}

// Whole is all of a model, for a child to serve.
func Whole(m enginetest.Model) *remote.Model {
	return &remote.Model{Runner: m, Text: m, Close: m.Close}
}

// Spawn starts a child that serves a model, whatever it is asked to load.
func Spawn(m enginetest.Model) (*remote.Child, error) {
	open := func([]byte) (*remote.Model, []byte) { return Whole(m), nil }
	c, err := SpawnWith(open, remote.ChildExit{How: "killed"})
	if err != nil {
		return nil, err
	}
	return &c.Child, nil
}

// SpawnWith starts a child that opens what it is asked for, and that ends as exit says.
func SpawnWith(open remote.Open, exit remote.ChildExit) (*Child, error) {
	parent, files, err := remote.Pair()
	if err != nil {
		return nil, err
	}

	child, err := remote.Join(files[0], files[1])
	if err != nil {
		return nil, err
	}

	hangUp := func() {
		child.Steps.Close()
		child.Calls.Close()
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		defer hangUp()
		if err := remote.Serve(child, open); err != nil {
			exit.Log = append(exit.Log, err.Error())
		}
	}()

	return &Child{remote.Child{
		Conn: parent,
		Kill: func(bool) { hangUp() },
		Wait: func() remote.ChildExit { <-done; return exit },
	}, child}, nil
}
