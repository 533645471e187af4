package calculator

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// parser computes while it reads: one method per level of precedence, loosest
// first.
type parser struct {
	text  string
	at    int // the next byte
	depth int
}

func (p *parser) whole() (value, error) {
	if p.peek() == 0 {
		return value{}, bad("the expression is empty")
	}
	v, err := p.sum()
	if err != nil {
		return value{}, err
	}
	switch c := p.peek(); {
	case c == 0:
		return v, nil
	case c == ')':
		return value{}, bad("position %d: there is a ) without its (", p.at+1)
	case c == ',':
		return value{}, bad("position %d: a comma only separates arguments: write 1000, not 1,000", p.at+1)
	case c == '(' || isWord(c) || isDigit(c):
		return value{}, bad("position %d: an operator is missing before %q", p.at+1, p.rest())
	}
	return value{}, bad("position %d: %q is not understood", p.at+1, p.rest())
}

// peek returns the next byte that is not a space, 0 at the end.
func (p *parser) peek() byte {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *parser) accept(operators string) byte {
	if c := p.peek(); c != 0 && strings.IndexByte(operators, c) >= 0 {
		p.at++
		return c
	}
	return 0
}

func (p *parser) sum() (value, error) { return p.chain("+-", p.product) }

func (p *parser) product() (value, error) { return p.chain("*/%", p.signed) }

func (p *parser) chain(operators string, operand func() (value, error)) (value, error) {
	left, err := operand()
	for err == nil {
		op := p.accept(operators)
		if op == 0 {
			break
		}
		if op == '%' && (p.peek() == 0 || p.peek() == ')') {
			return value{}, bad("position %d: %% is the remainder: for percent, write / 100", p.at)
		}
		var right value
		if right, err = operand(); err == nil {
			left, err = apply(op, left, right)
		}
	}
	return left, err
}

func (p *parser) signed() (value, error) {
	sign := p.accept("+-")
	if sign == 0 {
		return p.power()
	}
	if err := p.enter(); err != nil {
		return value{}, err
	}
	defer p.leave()
	v, err := p.signed()
	if err == nil && sign == '-' {
		v, err = apply('-', whole(0), v)
	}
	return v, err
}

func (p *parser) power() (value, error) {
	base, err := p.operand()
	if err != nil || p.accept("^") == 0 {
		return base, err
	}
	if err := p.enter(); err != nil {
		return value{}, err
	}
	defer p.leave()
	exponent, err := p.signed()
	if err != nil {
		return value{}, err
	}
	return apply('^', base, exponent)
}

func (p *parser) operand() (value, error) {
	switch c := p.peek(); {
	case c == 0:
		return value{}, bad("the expression ends where a number should be")
	case c == '(':
		args, err := p.arguments()
		if err != nil {
			return value{}, err
		}
		if len(args) != 1 {
			return value{}, bad("parentheses hold one expression here: write 1000, not 1,000")
		}
		return args[0], nil
	case isDigit(c) || c == '.':
		return literal(p.number())
	case isWord(c):
		return p.named()
	}
	return value{}, bad("position %d: a number should be where %q is", p.at+1, p.rest())
}

func (p *parser) named() (value, error) {
	start := p.at
	for p.at < len(p.text) && (isWord(p.text[p.at]) || isDigit(p.text[p.at])) {
		p.at++
	}
	name := p.text[start:p.at]
	if v, ok := constants[name]; ok {
		return v, nil
	}
	f, ok := functions[name]
	switch {
	case !ok:
		return value{}, bad("%q is unknown: use %s", name, known)
	case p.peek() != '(':
		return value{}, bad("%s is a function: write %s(…)", name, name)
	}
	args, err := p.arguments()
	if err != nil {
		return value{}, err
	}
	if len(args) < f.min || len(args) > f.max {
		return value{}, bad("%s: %d arguments are not allowed: use %s", name, len(args), f.takes())
	}
	v, err := f.call(args)
	if err != nil {
		return value{}, err
	}
	return v.check(name)
}

func (p *parser) arguments() ([]value, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	open := p.at + 1
	p.accept("(")
	if p.accept(")") != 0 {
		return nil, nil
	}
	var args []value
	for {
		v, err := p.sum()
		if err != nil {
			return nil, err
		}
		args = append(args, v)
		switch {
		case p.accept(")") != 0:
			return args, nil
		case p.accept(",") != 0:
		case p.peek() == 0:
			return nil, bad("position %d: the ( is not closed", open)
		default:
			return nil, bad("position %d: an operator is missing before %q", p.at+1, p.rest())
		}
	}
}

// number reads digits, a point, digits, and an exponent.
func (p *parser) number() string {
	start := p.at
	digits := func() {
		for p.at < len(p.text) && isDigit(p.text[p.at]) {
			p.at++
		}
	}
	digits()
	if p.at < len(p.text) && p.text[p.at] == '.' {
		p.at++
		digits()
	}
	mark := p.at
	if p.at < len(p.text) && (p.text[p.at] == 'e' || p.text[p.at] == 'E') {
		p.at++
		if p.at < len(p.text) && (p.text[p.at] == '+' || p.text[p.at] == '-') {
			p.at++
		}
		exponent := p.at
		if digits(); p.at == exponent {
			p.at = mark // an e that belongs to no number
		}
	}
	return p.text[start:p.at]
}

func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return bad("nested more than %d deep", maxDepth)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// rest is a short piece of what comes next, for errors.
func (p *parser) rest() string {
	r := []rune(p.text[p.at:min(len(p.text), p.at+20*utf8.UTFMax)])
	if i := strings.IndexFunc(string(r), unicode.IsSpace); i > 0 {
		return string(r)[:i]
	}
	return string(r[:min(len(r), 20)])
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isWord(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
