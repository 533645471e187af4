package calculator

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// value is a number: exact if rat is set, else f.
type value struct {
	rat *big.Rat
	f   float64
}

func whole(n int64) value      { return value{rat: new(big.Rat).SetInt64(n)} }
func float(f float64) value    { return value{f: f} }
func exactly(r *big.Rat) value { return value{rat: r} }

func (v value) float() float64 {
	if v.rat == nil {
		return v.f
	}
	f, _ := v.rat.Float64()
	return f
}

func (v value) zero() bool { return v.rat == nil && v.f == 0 || v.rat != nil && v.rat.Sign() == 0 }

// integer returns v as a whole number that fits an int64.
func (v value) integer() (int64, bool) {
	if v.rat != nil {
		return v.rat.Num().Int64(), v.rat.IsInt() && v.rat.Num().IsInt64()
	}
	return int64(v.f), v.f == math.Trunc(v.f) && math.Abs(v.f) < 1<<53
}

// check turns what is not a number into an error, and an exact number that has
// grown too long into a floating one. what is the operation, for the error.
func (v value) check(what string) (value, error) {
	if v.rat != nil {
		if max(v.rat.Num().BitLen(), v.rat.Denom().BitLen()) <= maxBits {
			return v, nil
		}
		v = float(v.float())
	}
	switch {
	case math.IsNaN(v.f):
		return value{}, bad("%s: the result is not a real number", what)
	case math.IsInf(v.f, 0):
		return value{}, bad("%s: the result is too large", what)
	}
	return v, nil
}

// String writes whole numbers and short decimal fractions with all of their
// digits, anything else with 15.
func (v value) String() string {
	if v.rat != nil {
		if n, exact := v.rat.FloatPrec(); exact && n <= 30 {
			return v.rat.FloatString(n)
		}
		return tidy(new(big.Float).SetPrec(80).SetRat(v.rat).Text('g', 15))
	}
	if v.f == 0 {
		return "0"
	}
	return tidy(strconv.FormatFloat(v.f, 'g', 15, 64))
}

// tidy drops the zeros that a fixed precision leaves behind a point.
func tidy(s string) string {
	number, exponent, found := strings.Cut(s, "e")
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	if found {
		return number + "e" + exponent
	}
	return number
}

func literal(s string) (value, error) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	if strings.Trim(mantissa, ".") == "" {
		return value{}, bad("%q is not a number", s)
	}
	if n, err := strconv.Atoi(exponent); exponent != "" && (err != nil || n > 300 || n < -300) {
		return value{}, bad("%s is out of range: use an exponent from -300 to 300", s)
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return value{}, bad("%q is not a number", s)
	}
	return exactly(r).check(s)
}

// apply computes a op b.
func apply(op byte, a, b value) (value, error) {
	if (op == '/' || op == '%') && b.zero() {
		return value{}, bad("division by zero")
	}
	if op == '^' {
		return power(a, b)
	}
	var v value
	if a.rat != nil && b.rat != nil {
		v = exactly(exact(op, a.rat, b.rat))
	} else {
		v = float(floating(op, a.float(), b.float()))
	}
	return v.check(string(op))
}

func exact(op byte, a, b *big.Rat) *big.Rat {
	r := new(big.Rat)
	switch op {
	case '+':
		return r.Add(a, b)
	case '-':
		return r.Sub(a, b)
	case '*':
		return r.Mul(a, b)
	case '/':
		return r.Quo(a, b)
	}
	times := new(big.Rat).SetInt(floor(r.Quo(a, b)))
	return r.Sub(a, times.Mul(times, b))
}

func floating(op byte, a, b float64) float64 {
	switch op {
	case '+':
		return a + b
	case '-':
		return a - b
	case '*':
		return a * b
	case '/':
		return a / b
	}
	m := math.Mod(a, b)
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return m
}

func power(a, b value) (value, error) {
	if a.zero() && b.float() < 0 {
		return value{}, bad("division by zero")
	}
	n, ok := b.integer()
	if a.rat == nil || !ok || n > maxBits || n < -maxBits {
		if one := a.rat != nil && a.rat.Cmp(big.NewRat(1, 1)) == 0; one {
			return a, nil
		}
		return float(math.Pow(a.float(), b.float())).check("^")
	}
	bits := max(a.rat.Num().BitLen(), a.rat.Denom().BitLen())
	abs := max(n, -n)
	if int64(bits-1)*abs > maxBits {
		return float(math.Pow(a.float(), b.float())).check("^")
	}
	e := big.NewInt(abs)
	r := new(big.Rat).SetFrac(new(big.Int).Exp(a.rat.Num(), e, nil), new(big.Int).Exp(a.rat.Denom(), e, nil))
	if n < 0 {
		r.Inv(r)
	}
	return exactly(r).check("^")
}

// floor is the largest whole number that is not above r: big.Int.Div rounds
// down for a positive divisor, which a denominator is.
func floor(r *big.Rat) *big.Int { return new(big.Int).Div(r.Num(), r.Denom()) }
