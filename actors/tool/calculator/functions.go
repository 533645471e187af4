package calculator

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
)

var constants = map[string]value{"pi": float(math.Pi), "e": float(math.E)}

type function struct {
	min, max int // arguments
	call     func([]value) (value, error)
}

func (f function) takes() string {
	switch {
	case f.min == f.max:
		return fmt.Sprint(f.min)
	case f.max > 2:
		return fmt.Sprintf("%d or more", f.min)
	}
	return fmt.Sprintf("%d or %d", f.min, f.max)
}

var functions = map[string]function{
	"abs":       {1, 1, func(a []value) (value, error) { return abs(a[0]), nil }},
	"ceil":      {1, 1, rounding(math.Ceil, func(r *big.Rat) *big.Int { n := floor(new(big.Rat).Neg(r)); return n.Neg(n) })},
	"factorial": {1, 1, func(a []value) (value, error) { return factorial(a[0]) }},
	"floor":     {1, 1, rounding(math.Floor, floor)},
	"log":       {1, 2, func(a []value) (value, error) { return log(a) }},
	"max":       {1, maxLength, func(a []value) (value, error) { return slices.MaxFunc(a, compare), nil }},
	"min":       {1, maxLength, func(a []value) (value, error) { return slices.MinFunc(a, compare), nil }},
	"round":     {1, 2, func(a []value) (value, error) { return round(a) }},
	"sqrt":      {1, 1, func(a []value) (value, error) { return sqrt(a[0]), nil }},
	"acos":      {1, 1, plain(math.Acos)},
	"asin":      {1, 1, plain(math.Asin)},
	"atan":      {1, 1, plain(math.Atan)},
	"cbrt":      {1, 1, plain(math.Cbrt)},
	"cos":       {1, 1, plain(math.Cos)},
	"exp":       {1, 1, plain(math.Exp)},
	"ln":        {1, 1, plain(math.Log)},
	"log10":     {1, 1, plain(math.Log10)},
	"log2":      {1, 1, plain(math.Log2)},
	"sin":       {1, 1, plain(math.Sin)},
	"tan":       {1, 1, plain(math.Tan)},
}

var known = strings.Join(append(slices.Sorted(maps.Keys(functions)), "e", "pi"), ", ")

func plain(f func(float64) float64) func([]value) (value, error) {
	return func(a []value) (value, error) { return float(f(a[0].float())), nil }
}

func rounding(f func(float64) float64, exact func(*big.Rat) *big.Int) func([]value) (value, error) {
	return func(a []value) (value, error) {
		if a[0].rat == nil {
			return float(f(a[0].f)), nil
		}
		return exactly(new(big.Rat).SetInt(exact(a[0].rat))), nil
	}
}

func compare(a, b value) int {
	if a.rat != nil && b.rat != nil {
		return a.rat.Cmp(b.rat)
	}
	x, y := a.float(), b.float()
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func abs(v value) value {
	if v.rat != nil {
		return exactly(new(big.Rat).Abs(v.rat))
	}
	return float(math.Abs(v.f))
}

// sqrt is exact for the square of a whole number or fraction.
func sqrt(v value) value {
	if v.rat != nil && v.rat.Sign() >= 0 {
		n, d := new(big.Int).Sqrt(v.rat.Num()), new(big.Int).Sqrt(v.rat.Denom())
		if r := new(big.Rat).SetFrac(n, d); new(big.Rat).Mul(r, r).Cmp(v.rat) == 0 {
			return exactly(r)
		}
	}
	return float(math.Sqrt(v.float()))
}

// round rounds halves away from zero.
func round(a []value) (value, error) {
	digits := int64(0)
	if len(a) == 2 {
		var ok bool
		if digits, ok = a[1].integer(); !ok || digits < -300 || digits > 300 {
			return value{}, bad("round: %s digits are not allowed: use a whole number from -300 to 300", a[1])
		}
	}
	v := a[0]
	if v.rat == nil {
		if v.rat = new(big.Rat).SetFloat64(v.f); v.rat == nil {
			return v, nil
		}
	}
	shift := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(max(digits, -digits)), nil))
	if digits < 0 {
		shift.Inv(shift)
	}
	half := new(big.Rat).Mul(new(big.Rat).Abs(v.rat), shift)
	r := new(big.Rat).SetInt(floor(half.Add(half, big.NewRat(1, 2))))
	if v.rat.Sign() < 0 {
		r.Neg(r)
	}
	return exactly(r.Quo(r, shift)), nil
}

func log(a []value) (value, error) {
	if len(a) == 1 {
		return value{}, bad("log: the base is missing: use ln(x), log10(x) or log(x, base)")
	}
	switch base := a[1].float(); base {
	case 2:
		return float(math.Log2(a[0].float())), nil
	case 10:
		return float(math.Log10(a[0].float())), nil
	default:
		return float(math.Log(a[0].float()) / math.Log(base)), nil
	}
}

func factorial(v value) (value, error) {
	n, ok := v.integer()
	if !ok || n < 0 || n > 400 {
		return value{}, bad("factorial: %s is not allowed: use a whole number from 0 to 400", v)
	}
	return exactly(new(big.Rat).SetInt(new(big.Int).MulRange(1, max(n, 1)))), nil
}
