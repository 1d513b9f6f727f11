package pool

// Change is something that has happened to a model in memory.
type Change struct {
	Model *Model
	Kind  ChangeKind
	Err   error // why it was not loaded
}

// ChangeKind says what has happened.
type ChangeKind int

// The kinds of changes.
const (
	Loaded ChangeKind = iota // or not, with an Err
	Unloaded
	Failed // its engine has; it is unloaded then
)

// Observe has a function called with every change from now on. It is called with locks held: it must not block, and not
// use the pool.
func (p *Pool) Observe(f func(Change)) { p.observe.Store(&f) }

func (p *Pool) tell(c Change) {
	if f := p.observe.Load(); f != nil {
		(*f)(c)
	}
}
