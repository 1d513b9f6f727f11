package remote

import (
	"context"
	"errors"

	"serve/engine"
)

// Save has the child save a sequence to memory that it shares with this process. Where that is, is not for the child to
// say.
func (r *Runner) Save(seq int, to engine.Region) (saved engine.Saved, err error) {
	saved.At = to.At
	err = r.between(askSave, func(m *message) {
		m.int(seq)
		m.u64(uint64(to.At))
		m.u64(uint64(to.Size))
	}, func(in *reader) {
		saved.Size = int64(in.u64())
		saved.Sum = in.u32()
		if saved.Size <= 0 || saved.Size > maxNumber {
			in.fail("a sequence of %d bytes", saved.Size)
		}
	})
	return saved, err
}

// Restore has the child restore a sequence.
func (r *Runner) Restore(seq int, from engine.Saved) error {
	return r.between(askRestore, func(m *message) {
		m.int(seq)
		m.u64(uint64(from.At))
		m.u64(uint64(from.Size))
		m.u32(from.Sum)
	}, func(*reader) {})
}

// Discard gives memory back, without the child: it may be the next one by now.
func (r *Runner) Discard(region, kept engine.Region) {
	if r.o.Discard != nil {
		r.o.Discard(region, kept)
	}
}

// Prepare is for whichever child writes next, too.
func (r *Runner) Prepare(region engine.Region) {
	if r.o.Prepare != nil {
		r.o.Prepare(region)
	}
}

// between asks for something between two steps, to which the answer is an error, or none and what read reads. If the
// child is lost, so are all cells, which the next step says, too.
func (r *Runner) between(ask uint8, write func(*message), read func(*reader)) error {
	g, err := r.generation(context.Background())
	if err != nil {
		return err
	}
	if g.number != r.seen || r.resized.Load() {
		return engine.ErrRestarted
	}

	err = r.exchange(g, false, func() Crash { return Crash{} }, func(m *message) error {
		if err := r.begin(m, ask, g, nil); err != nil {
			return err
		}
		write(m)
		return nil
	}, func(in *reader) error {
		failed := in.failure()
		if failed == nil {
			read(in)
		}
		return errors.Join(in.end(), failed)
	})
	if errors.Is(err, engine.ErrRestarted) || errors.Is(err, engine.ErrCrashed) {
		r.seen = 0 // as the next step will say
	}
	return err
}

// save saves a sequence for the parent. Fatal means that the child must end.
func (c *child) save(out *message, seq int, to engine.Region) (fatal bool) {
	saved, err := c.runner.Save(seq, to)
	if out.err(err); err != nil {
		return c.fatal(err)
	}
	out.u64(uint64(saved.Size))
	out.u32(saved.Sum)
	return false
}

// restore restores a sequence for the parent. Fatal means that the child must end.
func (c *child) restore(out *message, seq int, from engine.Saved) (fatal bool) {
	err := c.runner.Restore(seq, from)
	out.err(err)
	return c.fatal(err)
}
