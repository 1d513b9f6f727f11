package schema

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"serve/steps"
)

// bounds are what a schema says of a number.
type bounds struct {
	low, high         *big.Rat // nil for none
	lowOpen, highOpen bool     // the bound itself is not allowed
	multiples         []*big.Rat
	integer           bool
	// residues returns the positive multiples of k, for which one expression does
	// not do.
	residues func(k int) expr
	budget   *steps.Budget
}

// Limits on digits: a model that goes on writing digits must end some time.
const (
	maxDigits   = 30
	maxFraction = 18
	maxListed   = 2000 // numbers that are written out, where nothing else can be done
	maxResidues = 64
	// maxMultiples is how many multipleOf may hold together: their least common multiple grows with each.
	maxMultiples = 8
)

var (
	digit     = class{{'0', '9'}}
	digitFrom = func(lo, hi byte) expr {
		if lo > hi {
			return never
		}
		return class{{rune(lo), rune(hi)}}
	}
	sign = repeat{literal("-"), 0, 1}
)

// digits is from low to high digits.
func digits(low, high int) expr { return repeat{digit, low, high} }

func (b *bounds) limitLow(r *big.Rat, open bool) {
	if b.low == nil || r.Cmp(b.low) > 0 || r.Cmp(b.low) == 0 && open {
		b.low = r
		b.lowOpen = open
	}
}

func (b *bounds) limitHigh(r *big.Rat, open bool) {
	if b.high == nil || r.Cmp(b.high) < 0 || r.Cmp(b.high) == 0 && open {
		b.high = r
		b.highOpen = open
	}
}

// holds says whether a number is within.
func (b *bounds) holds(r *big.Rat) bool {
	if b.low != nil && (r.Cmp(b.low) < 0 || b.lowOpen && r.Cmp(b.low) == 0) {
		return false
	}
	if b.high != nil && (r.Cmp(b.high) > 0 || b.highOpen && r.Cmp(b.high) == 0) {
		return false
	}
	if b.integer && !r.IsInt() {
		return false
	}
	for _, m := range b.multiples {
		if !new(big.Rat).Quo(r, m).IsInt() {
			return false
		}
	}
	return true
}

// free says that nothing is asked.
func (b *bounds) free() bool { return b.low == nil && b.high == nil && len(b.multiples) == 0 }

// expr is the numbers within the bounds, without exponents; false if that cannot
// be done.
func (b *bounds) expr() (expr, bool) {
	switch {
	case b.free() && b.integer:
		return seq{sign, alt{literal("0"), seq{digitFrom('1', '9'), digits(0, maxDigits)}}}, true
	case b.free():
		return seq{
			sign,
			alt{literal("0"), seq{digitFrom('1', '9'), digits(0, maxDigits)}},
			repeat{seq{literal("."), digits(1, maxFraction)}, 0, 1},
			repeat{seq{class{{'e', 'e'}, {'E', 'E'}}, repeat{class{{'+', '+'}, {'-', '-'}}, 0, 1}, digits(1, 2)}, 0, 1},
		}, true
	}

	m := b.multiple()
	if m != nil && m.IsInt() {
		b.integer = true
	}

	if b.integer {
		if m == nil || m.Num().IsInt64() && m.Num().Int64() == 1 && m.IsInt() {
			return b.integers(), true
		}
		return b.integerMultiples(m)
	}

	fraction := maxFraction
	if m != nil {
		// A power of ten says how many digits may follow the point.
		if fraction = tenth(m); fraction < 0 {
			return b.listed()
		}
	}

	return b.decimals(fraction), true
}

// multiple is the least common multiple of all, or nil.
func (b *bounds) multiple() *big.Rat {
	var m *big.Rat
	for _, x := range b.multiples {
		if m == nil {
			m = x
			continue
		}
		// lcm(a/b, c/d) = lcm(a, c)/gcd(b, d) of fractions in lowest terms.
		g := new(big.Int).GCD(nil, nil, m.Num(), x.Num())
		l := new(big.Int).Mul(new(big.Int).Quo(m.Num(), g), x.Num())
		m = new(big.Rat).SetFrac(l, new(big.Int).GCD(nil, nil, m.Denom(), x.Denom()))
	}
	return m
}

// tenth is n where m is 10^-n, or -1.
func tenth(m *big.Rat) int {
	if m.Num().Cmp(big.NewInt(1)) != 0 {
		return -1
	}
	d := m.Denom().String()
	if strings.Trim(d[1:], "0") != "" || d[0] != '1' || len(d)-1 > maxFraction {
		return -1
	}
	return len(d) - 1
}

// whole rounds the bounds of integers inwards; nil for none.
func (b *bounds) whole() (low, high *big.Int) {
	one := big.NewInt(1)
	if b.low != nil {
		low = new(big.Int).Div(b.low.Num(), b.low.Denom()) // downwards
		if !b.low.IsInt() || b.lowOpen {
			low.Add(low, one)
		}
	}
	if b.high != nil {
		high = new(big.Int).Div(b.high.Num(), b.high.Denom())
		if b.high.IsInt() && b.highOpen {
			high.Sub(high, one)
		}
	}
	return low, high
}

// integers is the integers from low to high.
func (b *bounds) integers() expr {
	low, high := b.whole()
	zero := big.NewInt(0)
	var out alt
	if (high == nil || high.Sign() >= 0) && (low == nil || high == nil || low.Cmp(high) <= 0) {
		from := zero
		if low != nil && low.Sign() > 0 {
			from = low
		}
		out = append(out, naturals(from, high))
	}

	if low == nil || low.Sign() < 0 {
		// -n for n from -high, at least 1, to -low.
		from := big.NewInt(1)
		if high != nil && high.Sign() < 0 {
			from = new(big.Int).Neg(high)
		}
		var to *big.Int
		if low != nil {
			to = new(big.Int).Neg(low)
		}
		if to == nil || from.Cmp(to) <= 0 {
			out = append(out, seq{literal("-"), naturals(from, to)})
		}
	}

	return out
}

// naturals is the numbers from low to high, neither negative, high nil for none.
func naturals(low, high *big.Int) expr {
	l := low.String()
	if high == nil {
		// As many digits as low, or more.
		more := seq{digitFrom('1', '9'), digits(len(l), max(len(l), maxDigits))}
		if l == "0" {
			return alt{literal("0"), seq{digitFrom('1', '9'), digits(0, maxDigits)}}
		}
		return alt{between(l, strings.Repeat("9", len(l))), more}
	}

	h := high.String()
	var out alt
	for n := len(l); n <= len(h); n++ {
		from := "1" + strings.Repeat("0", n-1)
		to := strings.Repeat("9", n)
		if n == len(l) {
			from = l
		}
		if n == len(h) {
			to = h
		}
		out = append(out, between(from, to))
	}
	return out
}

// between is the digit strings from low to high, which are as long.
func between(low, high string) expr {
	switch {
	case low == "":
		return empty
	case low == high:
		return literal(low)
	case low[0] == high[0]:
		return seq{literal(low[:1]), between(low[1:], high[1:])}
	case strings.Trim(low[1:], "0") == "" && strings.Trim(high[1:], "9") == "":
		return seq{digitFrom(low[0], high[0]), digits(len(low)-1, len(low)-1)}
	}
	n := len(low) - 1
	out := alt{seq{literal(low[:1]), between(low[1:], strings.Repeat("9", n))}}
	if low[0]+1 <= high[0]-1 {
		out = append(out, seq{digitFrom(low[0]+1, high[0]-1), digits(n, n)})
	}
	return append(out, seq{literal(high[:1]), between(strings.Repeat("0", n), high[1:])})
}

// integerMultiples is the multiples of m within the bounds: written out where
// they are few, by their residues where one side is open.
func (b *bounds) integerMultiples(m *big.Rat) (expr, bool) {
	// An integer that is a multiple of p/q is a multiple of p.
	k := m.Num()
	if e, ok := b.listed(); ok {
		return e, true
	}

	low, high := b.whole()
	if !k.IsInt64() || k.Int64() > maxResidues {
		return nil, false
	}

	natural := b.residues(int(k.Int64()))
	switch {
	case low == nil && high == nil:
		return alt{literal("0"), seq{sign, natural}}, true
	case high == nil && low.Sign() <= 0 && low.CmpAbs(k) < 0:
		return alt{literal("0"), natural}, true // -k is out of bounds
	case high == nil && low.Sign() > 0 && low.Cmp(k) <= 0:
		return natural, true
	case low == nil && high.Sign() >= 0 && high.CmpAbs(k) < 0:
		return alt{literal("0"), seq{literal("-"), natural}}, true
	case low == nil && high.Sign() < 0 && high.CmpAbs(k) <= 0:
		return seq{literal("-"), natural}, true
	}

	return nil, false
}

// listed writes all numbers out, where they are few.
func (b *bounds) listed() (expr, bool) {
	m := b.multiple()
	if b.low == nil || b.high == nil || m == nil {
		return nil, false
	}

	step := m
	n := new(big.Rat).Quo(new(big.Rat).Sub(b.high, b.low), step)
	if n.Cmp(big.NewRat(maxListed, 1)) > 0 {
		return nil, false
	}

	// The first multiple that is not below low.
	q := new(big.Rat).Quo(b.low, step)
	at := new(big.Rat).SetInt(new(big.Int).Div(q.Num(), q.Denom()))
	x := new(big.Rat).Mul(at, step)
	var out alt
	for ; x.Cmp(b.high) <= 0; x = new(big.Rat).Add(x, step) {
		if b.budget.Spend(20) != nil {
			return nil, false
		}
		if !b.holds(x) {
			continue
		}
		text, ok := decimal(x)
		if !ok {
			return nil, false
		}
		out = append(out, literal(text))
	}

	return out, true
}

// number compiles what schemas say of numbers.
func (c *compiler) number(all []*value, integer bool) expr {
	b := bounds{
		integer:  integer,
		residues: c.residues,
		budget:   c.budget,
	}
	var loose []*value
	for _, v := range all {
		for _, keyword := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} {
			n := v.members[keyword]
			if n == nil {
				continue
			}
			if n.kind == boolean && strings.HasPrefix(keyword, "exclusive") {
				continue // of draft 4: read with the bound itself
			}
			if n.kind != number || keyword == "multipleOf" && n.number.Sign() <= 0 {
				c.fail(n, "%s must be a number%s", keyword, map[bool]string{true: " above 0"}[keyword == "multipleOf"])
				return never
			}
			c.spend(20 + len(n.raw)*len(n.raw))
			open := func(name string) bool { e := v.members[name]; return e != nil && e.kind == boolean && e.yes }
			switch keyword {
			case "minimum":
				b.limitLow(n.number, open("exclusiveMinimum"))
			case "maximum":
				b.limitHigh(n.number, open("exclusiveMaximum"))
			case "exclusiveMinimum":
				b.limitLow(n.number, true)
			case "exclusiveMaximum":
				b.limitHigh(n.number, true)
			case "multipleOf":
				b.multiples = append(b.multiples, n.number)
				loose = append(loose, v)
			}
		}
	}

	var e expr
	ok := len(b.multiples) <= maxMultiples
	if ok {
		e, ok = b.expr()
	}
	if !ok {
		for _, v := range loose {
			c.ignore(v, "multipleOf")
		}
		b.multiples = nil
		e, _ = b.expr()
	}

	return e
}

// residues writes the rules of the positive multiples of k, an automaton that knows
// the remainder, and returns where they begin.
func (c *compiler) residues(k int) expr {
	name := func(r int) ref { return ref(fmt.Sprintf("%sm%d-%d", c.g.prefix, k, r)) }
	c.spend(10)
	for r := range k {
		if c.g.rules[string(name(r))] != nil {
			break // as a number before this one has it
		}
		var out alt
		for d := range 10 {
			out = append(out, seq{literal(strconv.Itoa(d)), name((r*10 + d) % k)})
		}
		if r == 0 {
			out = append(out, empty)
		}
		c.g.rules[string(name(r))] = out
	}
	var first alt
	for d := 1; d < 10; d++ {
		first = append(first, seq{literal(strconv.Itoa(d)), name(d % k)})
	}
	return first
}
