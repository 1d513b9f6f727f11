package schema

import (
	"math/big"
	"strings"
)

// decimal writes a number without an exponent, if it has such a form.
func decimal(r *big.Rat) (string, bool) {
	n, exact := r.FloatPrec()
	if !exact || n > maxFraction {
		return "", false
	}
	return r.FloatString(n), true
}

// decimals is the numbers within the bounds of up to so many digits after the point.
func (b *bounds) decimals(fraction int) expr {
	zero := new(big.Rat)
	var out alt
	if b.high == nil || b.high.Sign() > 0 || b.high.Sign() == 0 && !b.highOpen {
		low := zero
		open := false
		if b.low != nil && b.low.Sign() >= 0 {
			low = b.low
			open = b.lowOpen
		}
		out = append(out, magnitudes(low, open, b.high, b.highOpen, fraction))
	}

	if b.low == nil || b.low.Sign() < 0 {
		low := zero
		open := true
		if b.high != nil && b.high.Sign() <= 0 {
			low = new(big.Rat).Neg(b.high)
			open = b.highOpen
		}
		var high *big.Rat
		if b.low != nil {
			high = new(big.Rat).Neg(b.low)
		}
		out = append(out, seq{literal("-"), magnitudes(low, open, high, b.lowOpen, fraction)})
	}
	return out
}

// magnitudes is the decimals from low, which is not negative, to high, nil for none.
func magnitudes(low *big.Rat, lowOpen bool, high *big.Rat, highOpen bool, fraction int) expr {
	if high != nil && low.Cmp(high) > 0 {
		return never
	}

	li, lf, lowMore := parts(low, fraction)
	// What has more digits than can be written is beyond what is cut off.
	lowOpen = lowOpen || lowMore
	anyFraction := repeat{seq{literal("."), digits(1, max(1, fraction))}, 0, 1}
	if fraction == 0 {
		anyFraction = repeat{literal(""), 0, 0}
	}

	one := big.NewInt(1)
	if high == nil {
		return alt{
			seq{literal(li.String()), point(above(lf, lowOpen, fraction))},
			seq{naturals(new(big.Int).Add(li, one), nil), anyFraction},
		}
	}

	hi, hf, highMore := parts(high, fraction)
	highOpen = highOpen && !highMore
	if li.Cmp(hi) == 0 {
		return seq{literal(li.String()), point(within(lf, lowOpen, hf, highOpen, fraction))}
	}

	out := alt{seq{literal(li.String()), point(above(lf, lowOpen, fraction))}}
	next := new(big.Int).Add(li, one)
	last := new(big.Int).Sub(hi, one)
	if next.Cmp(last) <= 0 {
		out = append(out, seq{naturals(next, last), anyFraction})
	}

	return append(out, seq{literal(hi.String()), point(below(hf, highOpen, fraction))})
}

// parts splits a number into its integer and the digits after the point, without
// zeros at the end; more says that further digits were cut off.
func parts(r *big.Rat, fraction int) (i *big.Int, f string, more bool) {
	i = new(big.Int).Quo(r.Num(), r.Denom())
	rest := new(big.Rat).Sub(r, new(big.Rat).SetInt(i))
	scaled := new(
		big.Rat,
	).Mul(
		rest, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(fraction)), nil)),
	)
	cut := new(big.Int).Quo(scaled.Num(), scaled.Denom())
	f = cut.String()
	f = strings.Repeat("0", max(0, fraction-len(f))) + f
	return i, strings.TrimRight(f, "0"), !scaled.IsInt()
}

// tail is the digits after a point; bare says that there may be no point at all.
type tail struct {
	digits expr // not empty; never for none
	bare   bool
}

func point(t tail) expr {
	out := alt{seq{literal("."), t.digits}}
	if t.bare {
		out = append(out, empty)
	}
	return out
}

// above is the fractions that are at least f, or more if open, of up to n digits.
// The empty one counts as 0.
func above(f string, open bool, n int) tail {
	if n == 0 {
		return tail{never, f == "" && !open}
	}

	if f == "" {
		if !open {
			return tail{digits(1, n), true}
		}
		return tail{someNonZero(n), false}
	}

	var out alt
	for i := range len(f) {
		// The same as f so far, and then a greater digit.
		if f[i] < '9' {
			out = append(out, seq{literal(f[:i]), digitFrom(f[i]+1, '9'), digits(0, n-i-1)})
		}
	}

	rest := digits(0, n-len(f))
	if open {
		rest = never
		if len(f) < n {
			rest = someNonZero(n - len(f))
		}
	}

	return tail{append(out, seq{literal(f), rest}), false}
}

// someNonZero is up to n digits of which one is not 0.
func someNonZero(n int) expr {
	var out alt
	for zeros := range n {
		out = append(out, seq{literal(strings.Repeat("0", zeros)), digitFrom('1', '9'), digits(0, n-zeros-1)})
	}
	return out
}

// below is the fractions that are at most f, or less if open.
func below(f string, open bool, n int) tail {
	if n == 0 || f == "" {
		t := tail{never, !open}
		if n > 0 && !open {
			t.digits = repeat{literal("0"), 1, n}
		}
		return t
	}
	var out alt
	for i := range len(f) {
		if f[i] > '0' {
			out = append(out, seq{literal(f[:i]), digitFrom('0', f[i]-1), digits(0, n-i-1)})
		}
		if i > 0 {
			// f ends in no 0, so its beginnings are less.
			out = append(out, literal(f[:i]))
		}
	}
	if !open {
		out = append(out, seq{literal(f), repeat{literal("0"), 0, n - len(f)}})
	}
	return tail{out, true}
}

// within is the fractions from low to high.
func within(low string, lowOpen bool, high string, highOpen bool, n int) tail {
	// Both to the same length; then digit by digit.
	width := max(len(low), len(high))
	return digitsWithin(
		low+strings.Repeat("0", width-len(low)), lowOpen, high+strings.Repeat("0", width-len(high)), highOpen, n,
	)
}

// digitsWithin is the digit strings of up to n digits from l to h, which are as
// long as each other. What is shorter stands for zeros at its end.
func digitsWithin(l string, lowOpen bool, h string, highOpen bool, n int) tail {
	if l == h && (lowOpen || highOpen) {
		return tail{never, false}
	}
	if l == "" {
		return tail{repeat{literal("0"), 1, max(1, n)}, true}
	}

	bare := strings.Trim(l, "0") == "" && !lowOpen
	first := func(d byte, t tail) expr {
		out := alt{seq{literal(string(d)), t.digits}}
		if n <= 1 {
			out = nil
		}
		if t.bare {
			out = append(out, literal(string(d)))
		}
		return out
	}

	if l[0] == h[0] {
		return tail{first(l[0], digitsWithin(l[1:], lowOpen, h[1:], highOpen, n-1)), bare}
	}

	out := alt{first(l[0], above(strings.TrimRight(l[1:], "0"), lowOpen, n-1))}
	if l[0]+1 <= h[0]-1 {
		out = append(out, seq{digitFrom(l[0]+1, h[0]-1), digits(0, n-1)})
	}

	return tail{append(out, first(h[0], below(strings.TrimRight(h[1:], "0"), highOpen, n-1))), bare}
}
