package calculator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/tool/calculator"
	"github.com/covey-run/covey/messages"
)

func ExampleEval() {
	fmt.Println(calculator.Eval("3 * (2 + 4)^2 - 1/4"))
	// Output: 107.75 <nil>
}

func TestEval(t *testing.T) {
	for expression, want := range map[string]string{
		"1 + 2 * 3":                  "7",
		"(1 + 2) * 3":                "9",
		"10 - 4 - 3":                 "3",
		"2^3^2":                      "512",
		"-2^2":                       "-4",
		"2^-2":                       "0.25",
		"(-8)^(1/3 * 3)":             "-8",
		"--3":                        "3",
		"7 % 3":                      "1",
		"-7 % 3":                     "2",
		"7.5 % 2":                    "1.5",
		"0.1 + 0.2":                  "0.3",
		"1 / 3":                      "0.333333333333333",
		"1 / 3 * 3":                  "1",
		"2^200":                      "1606938044258990275541962092341162602522202993782792835301376",
		"123456789 * 987654321":      "121932631112635269",
		"9007199254740993 + 0":       "9007199254740993",
		"factorial(30)":              "265252859812191058636308480000000",
		"sqrt(2)":                    "1.4142135623731",
		"sqrt(2^100)":                "1125899906842624",
		"sqrt(1/4)":                  "0.5",
		"abs(-3) + min(4, 2, 9)":     "5",
		"max(1)":                     "1",
		"round(2.5)":                 "3",
		"round(-2.5)":                "-3",
		"round(3.14159, 2)":          "3.14",
		"round(pi, 4)":               "3.1416",
		"round(1234, -2)":            "1200",
		"floor(-1.5) + ceil(-1.5)":   "-3",
		"cos(0)":                     "1",
		"ln(e)":                      "1",
		"log10(1000) + log(8, 2)":    "6",
		"2 * pi":                     "6.28318530717959",
		"1e3 + 1.5E-1":               "1000.15",
		".5 + 2.":                    "2.5",
		"6 ÷ 2 × 4 − 1":              "11",
		"2**10":                      "1024",
		"√(16)":                      "4",
		"0^0":                        "1",
		"1^99999999999":              "1",
		"exp(1) - e":                 "0",
		"10 / 4":                     "2.5",
		"100000000000000000000 * 10": "1000000000000000000000",
		"1.5e300 * 2":                "3" + strings.Repeat("0", 300),
		"-0.0":                       "0",
		"010":                        "10",
		"\t1\n+ 1 ":                  "2",
	} {
		if got, err := calculator.Eval(expression); got != want || err != nil {
			t.Errorf("%s = %q, %v, want %s", expression, got, err, want)
		}
	}
}

func TestEvalSaysWhatIsWrong(t *testing.T) {
	for expression, want := range map[string]string{
		"":                                    "empty",
		"  ":                                  "empty",
		"1 / 0":                               "division by zero",
		"1 / (2 - 2)":                         "division by zero",
		"1 % 0":                               "division by zero",
		"0^-1":                                "division by zero",
		"foo + 1":                             `"foo" is unknown: use abs`,
		"os.Exit(1)":                          `"os" is unknown`,
		"sqrt":                                "sqrt is a function: write sqrt(…)",
		"sqrt(1, 2)":                          "2 arguments are not allowed: use 1",
		"min()":                               "0 arguments are not allowed: use 1 or more",
		"round(1, 2, 3)":                      "use 1 or 2",
		"sqrt(-1)":                            "not a real number",
		"ln(-1)":                              "not a real number",
		"(-8)^0.5":                            "not a real number",
		"ln(0)":                               "too large",
		"10^400 * 10^1000":                    "too large",
		"9^9^9^9":                             "too large",
		"1e999999999":                         "exponent from -300 to 300",
		"log(3)":                              "use ln(x), log10(x) or log(x, base)",
		"factorial(2.5)":                      "use a whole number from 0 to 400",
		"factorial(1000000000)":               "use a whole number from 0 to 400",
		"1 +":                                 "ends where a number should be",
		"(1 + 2":                              "the ( is not closed",
		"1 + 2)":                              "a ) without its (",
		"2(3 + 4)":                            "an operator is missing",
		"2 pi":                                "an operator is missing",
		"1,000 + 1":                           "write 1000, not 1,000",
		"(1,000)":                             "write 1000, not 1,000",
		"15%":                                 "for percent, write / 100",
		"1 $ 2":                               `"$" is not understood`,
		"0x10":                                "an operator is missing",
		"*3":                                  `a number should be where "*3" is`,
		".":                                   "not a number",
		"1..2":                                "not understood",
		strings.Repeat("(", 300):              "nested more than 100 deep",
		strings.Repeat("-", 300):              "nested more than 100 deep",
		strings.Repeat("2^", 300) + "1":       "nested more than 100 deep",
		strings.Repeat("1+", 600):             "too long: use at most 1000",
		strings.Repeat("factorial(400)*", 60): "too large",
	} {
		got, err := calculator.Eval(expression)
		if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s = %q, %v, want class invalid and %q", expression, got, err, want)
		}
	}
}

func TestTool(t *testing.T) {
	c := calculator.Tool()
	if c.Effect != messages.Pure || c.Name != "calculator" {
		t.Errorf("got %+v", c)
	}
	if err := c.Validate(json.RawMessage(`{"expr":"1"}`)); err == nil {
		t.Error("an unknown argument was let through")
	}
	if got, err := c.Call(context.Background(), json.RawMessage(`{"expression":"6*7"}`)); got != "42" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzEval(f *testing.F) {
	for _, s := range []string{"1+2*3", "2^200", "sqrt(-1)", "round(2.5,1)", "1e300*1e300", "((1)", "-7%3", "√(2)×π", "log(8,2)", "0x1p-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		got, err := calculator.Eval(expression)
		if err != nil {
			if !errors.Is(err, messages.Invalid) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		if v, err := strconv.ParseFloat(got, 64); math.IsNaN(v) || err != nil && !errors.Is(err, strconv.ErrRange) {
			t.Fatalf("%q = %q, which is not a number", expression, got)
		}
	})
}
