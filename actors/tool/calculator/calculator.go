// Package calculator is a tool that computes an arithmetic expression. It runs
// no code: the expression is parsed and computed here, within limits, exactly
// where whole numbers and decimal fractions allow it (0.1 + 0.2 is 0.3, 2^200
// has all of its digits) and in floating point elsewhere.
package calculator

import (
	"context"
	"strings"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// Name is what models call the tool by.
const Name = "calculator"

const description = "Computes an arithmetic expression exactly. Operators: + - * / % ^ and parentheses; " +
	"constants pi and e; functions abs, acos, asin, atan, cbrt, ceil, cos, exp, factorial, floor, ln, log(x, base), " +
	"log10, log2, max, min, round(x, digits), sin, sqrt, tan, with angles in radians."

type arguments struct {
	Expression string `json:"expression" jsonschema:"the expression, as 3 * (2 + 4) or sqrt(2)^3"`
}

// Tool returns the calculator, a pure tool.
func Tool() tool.Tool {
	return tool.Must(tool.New(Name, description,
		func(_ context.Context, in arguments) (string, error) { return Eval(in.Expression) }, tool.Pure))
}

const (
	maxLength = 1000 // bytes of an expression
	maxDepth  = 100  // parentheses, signs and powers within each other
	maxBits   = 4096 // of an exact number's numerator or denominator
)

// typographic spells the operators of print and of other languages.
var typographic = strings.NewReplacer("×", "*", "·", "*", "÷", "/", "−", "-", "**", "^", "π", "pi", "√", "sqrt")

// Eval returns the value of expression as text. Division by zero, an unknown
// name, a result that is no real number or too large, and an expression of more
// than 1,000 bytes are errors of class invalid. A remainder has the sign of the
// divisor: -7 % 3 is 2. A power binds tighter than a sign and from the right:
// -2^2 is -4, 2^3^2 is 512.
func Eval(expression string) (string, error) {
	if n := len(expression); n > maxLength {
		return "", bad("an expression of %d bytes is too long: use at most %d", n, maxLength)
	}
	p := &parser{text: typographic.Replace(expression)}
	v, err := p.whole()
	if err != nil {
		return "", err
	}
	return v.String(), nil
}

func bad(format string, args ...any) error {
	return messages.Errorf(messages.Invalid, Name, format, args...)
}
