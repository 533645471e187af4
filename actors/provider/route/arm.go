package route

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// arm is one choice's linear model: A = I + the sum of x xᵀ, b = e₀ + the sum of
// reward times x. The e₀ makes a model that is not known yet expect a reward of
// 1, so that each is tried.
type arm struct {
	a   *mat.SymDense
	b   *mat.VecDense
	n   int     // outcomes
	sum float64 // of rewards

	chol  mat.Cholesky // of a, if fresh
	theta *mat.VecDense
	fresh bool
}

func newArm(d int) *arm {
	a := &arm{a: mat.NewSymDense(d, nil), b: mat.NewVecDense(d, nil), theta: mat.NewVecDense(d, nil)}
	for i := range d {
		a.a.SetSym(i, i, 1)
	}
	a.b.SetVec(0, 1)
	return a
}

// expects returns the expected reward and how unsure it is.
func (a *arm) expects(x []float64) (mean, width float64) {
	if !a.fresh {
		// a is positive definite: the identity and squares. What rounding could
		// do to it, and what a store could hold, arm.check and learn prevent.
		if !a.chol.Factorize(a.a) {
			return 0, math.Inf(1)
		}
		_ = a.chol.SolveVecTo(a.theta, a.b) // its error is about accuracy
		a.fresh = true
	}
	v := mat.NewVecDense(len(x), x)
	var solved mat.VecDense
	_ = a.chol.SolveVecTo(&solved, v)
	return mat.Dot(a.theta, v), math.Sqrt(max(0, mat.Dot(v, &solved)))
}

// learn adds an outcome, after a share of the older ones is forgotten.
func (a *arm) learn(x []float64, reward, forget float64) {
	if forget > 0 {
		a.a.ScaleSym(1-forget, a.a)
		a.b.ScaleVec(1-forget, a.b)
		for i := range x { // the identity and e₀ stay
			a.a.SetSym(i, i, a.a.At(i, i)+forget)
		}
		a.b.SetVec(0, a.b.AtVec(0)+forget)
	}
	v := mat.NewVecDense(len(x), x)
	a.a.SymRankOne(a.a, 1, v)
	a.b.AddScaledVec(a.b, reward, v)
	a.n++
	a.sum += reward
	a.fresh = false
}

// keptArm is an arm as data: A's upper triangle row by row, and b.
type keptArm struct {
	Outcomes int       `json:"outcomes"`
	Sum      float64   `json:"sum"`
	A        []float64 `json:"a"`
	B        []float64 `json:"b"`
}

func (a *arm) keep() keptArm {
	k := keptArm{Outcomes: a.n, Sum: a.sum, B: mat.Col(nil, 0, a.b)}
	d := a.a.SymmetricDim()
	for i := range d {
		for j := i; j < d; j++ {
			k.A = append(k.A, a.a.At(i, j))
		}
	}
	return k
}

func (k keptArm) arm(d int) (*arm, error) {
	if len(k.B) != d || len(k.A) != d*(d+1)/2 || k.Outcomes < 0 {
		return nil, errShape
	}
	a := newArm(d)
	n := 0
	for i := range d {
		for j := i; j < d; j++ {
			a.a.SetSym(i, j, k.A[n])
			n++
		}
		a.b.SetVec(i, k.B[i])
	}
	a.n, a.sum = k.Outcomes, k.Sum
	if !a.chol.Factorize(a.a) {
		return nil, errShape
	}
	return a, nil
}
