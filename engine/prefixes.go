package engine

import (
	"cmp"
	"slices"
)

// Region is a part of the memory for saved sequences, in bytes.
type Region struct{ At, Size int64 }

// Saved says where Runner.Save wrote a sequence's cells, and what their checksum is.
type Saved struct {
	Region
	Sum uint32
}

const (
	// regionUnit is what regions begin and end at: a multiple of every page's size.
	regionUnit = 64 << 10
	// maxPrefixes bounds the search for a prefix.
	maxPrefixes = 1024
)

// prefix is a sequence whose cells were saved to host memory.
type prefix struct {
	tokens []Token
	spans  []span // where media lie among those
	scope  scope
	saved  Saved
	used   uint64 // when it was saved or last found, in steps
	pinned bool   // a step is about to restore it

	filling bool // it is being read from the folder: it has its region, and nothing else
	doomed  bool // it is to be dropped once it has been read
	fetched bool // it was read from the folder, and has not been restored since
}

// held returns the bytes of the memory that a prefix keeps from others.
func (p *prefix) held() int64 { return roundUp(p.saved.Size) }

func roundUp(n int64) int64 { return (n + regionUnit - 1) / regionUnit * regionUnit }

// prefixes is the index of saved prefixes: what is where in the memory, which of them a prompt begins with, and which
// goes first when there is no room. It is pure; the memory itself is a Runner's.
type prefixes struct {
	size  int64 // bytes of the memory; 0 saves nothing
	whole bool  // what is restored can be continued and not shortened
	used  int64
	held  int       // tokens
	list  []*prefix // in order of their regions
}

// find returns the prefix that shares the most tokens with a sequence's, and how many.
func (c *prefixes) find(q *sequence) (best *prefix, keep int) {
	for _, p := range c.list {
		n := boundary(q.req.spans, min(q.shares(p.tokens, p.scope), len(q.tokens)-1))
		if p.filling || c.whole && n < len(p.tokens) {
			continue
		}
		if n > keep {
			best = p
			keep = n
		}
	}
	return best, keep
}

// covers returns a prefix that has all that a sequence with these tokens would be restored for, or nil.
func (c *prefixes) covers(tokens []Token, within scope) *prefix {
	for _, p := range c.list {
		if p.filling || p.scope != within || c.whole && len(p.tokens) != len(tokens) {
			continue
		}
		if Common(p.tokens, tokens) == len(tokens) {
			return p
		}
	}
	return nil
}

// Replaces reports whether nearly all that old tokens are good for can be had of those that begin alike: an answer's
// last tokens are often written otherwise in the next prompt.
func Replaces(tokens, old []Token) bool {
	const part = 32 // of the old ones may be lost
	return Common(tokens, old) >= len(old)-len(old)/part
}

// replaces reports whether an old prefix is of no more use beside another one.
func (c *prefixes) replaces(p, old *prefix) bool {
	busy := old.pinned || old.filling
	return !c.whole && !busy && p.scope == old.scope && Replaces(p.tokens, old.tokens)
}

// Without returns the parts of a region that do not lie in another.
func (r Region) Without(other Region) (parts []Region) {
	end := r.At + r.Size
	begin := max(r.At, other.At)
	until := min(end, other.At+other.Size)
	if begin >= until {
		return []Region{r}
	}

	if begin > r.At {
		parts = append(parts, Region{At: r.At, Size: begin - r.At})
	}
	if until < end {
		parts = append(parts, Region{At: until, Size: end - until})
	}
	return parts
}

// next returns where a prefix of so many bytes would be saved without others making room; a region of no bytes if
// nowhere.
func (c *prefixes) next(size int64) Region {
	size = roundUp(size)
	at, found := firstHole(c.list, c.size, size)
	if !found {
		return Region{}
	}
	return Region{At: at, Size: size}
}

// reserve finds room for a prefix of so many bytes, and takes others out of the index until there is: first those that
// it replaces, then as evicted chooses. It reports false if there cannot be room, and has then taken none out.
func (c *prefixes) reserve(p *prefix, size int64, now uint64) (at Region, gone []*prefix, ok bool) {
	size = roundUp(size)
	left := slices.Clone(c.list)
	remove := func(old *prefix) {
		left = slices.DeleteFunc(left, func(o *prefix) bool { return o == old })
		gone = append(gone, old)
	}

	for {
		if hole, found := firstHole(left, c.size, size); found && len(left) < maxPrefixes {
			for _, old := range gone {
				c.drop(old)
			}
			return Region{At: hole, Size: size}, gone, true
		}

		if i := slices.IndexFunc(left, func(old *prefix) bool { return c.replaces(p, old) }); i >= 0 {
			remove(left[i])
			continue
		}
		old := evicted(left, p.scope.tenant, size, now)
		if old == nil || size > c.size {
			return Region{}, nil, false
		}
		remove(old)
	}
}

// firstHole returns where the first hole of so many bytes is between prefixes in order of their regions.
func firstHole(list []*prefix, all, size int64) (at int64, found bool) {
	for _, p := range list {
		if p.saved.At-at >= size {
			return at, true
		}
		at = p.saved.At + p.held()
	}
	return at, all-at >= size
}

// evicted returns the prefix that has to make room for size bytes of a tenant's: of the tenants that have the most,
// counting those bytes, the one that is worth the least. It returns nil if there is none.
func evicted(list []*prefix, tenant string, size int64, now uint64) *prefix {
	held := map[string]int64{tenant: size}
	for _, p := range list {
		held[p.scope.tenant] += p.held()
	}

	var first *prefix
	for _, p := range list {
		if p.pinned || p.filling {
			continue
		}
		if first == nil || cmp.Or(
			cmp.Compare(held[first.scope.tenant], held[p.scope.tenant]),
			cmp.Compare(p.worth(now), first.worth(now)),
		) < 0 {
			first = p
		}
	}
	return first
}

// worth is what a prefix spares for each byte, the less the longer ago it was of use. Tokens stand for the time to
// compute them.
func (p *prefix) worth(now uint64) float64 {
	return float64(len(p.tokens)) / float64(p.held()) / float64(now-min(now, p.used)+1)
}

// add puts a prefix that was saved to its region into the index, and takes those out that it replaces.
func (c *prefixes) add(p *prefix) (gone []*prefix) {
	for _, old := range slices.Clone(c.list) {
		if c.replaces(p, old) {
			c.drop(old)
			gone = append(gone, old)
		}
	}

	c.insert(p)
	return gone
}

// insert puts a prefix into the list.
func (c *prefixes) insert(p *prefix) {
	i, _ := slices.BinarySearchFunc(c.list, p, func(a, b *prefix) int { return cmp.Compare(a.saved.At, b.saved.At) })
	c.list = slices.Insert(c.list, i, p)
	c.used += p.held()
	c.held += len(p.tokens)
}

// drop takes a prefix out of the index.
func (c *prefixes) drop(p *prefix) {
	if i := slices.Index(c.list, p); i >= 0 {
		c.list = slices.Delete(c.list, i, i+1)
		c.used -= p.held()
		c.held -= len(p.tokens)
	}
}

// dropAll takes the prefixes out for which which reports true, and returns them. Those that are being read keep their
// regions until they have been.
func (c *prefixes) dropAll(which func(*prefix) bool) (gone []*prefix) {
	for _, p := range slices.Clone(c.list) {
		switch {
		case !which(p):
		case p.filling:
			p.doomed = true
		default:
			c.drop(p)
			gone = append(gone, p)
		}
	}
	return gone
}
