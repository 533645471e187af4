package openai

import "github.com/covey-run/covey/actors/provider"

// Account is part of [provider.Accounted].
func (m *Model) Account() string { return provider.AccountOf(m.base, m.key.Fingerprint()) }
