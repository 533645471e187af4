package teamfile

import (
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/actors/provider/openai"
	"github.com/covey-run/covey/actors/provider/scripted"
)

// Models are the providers that the file changes or adds, by name.
func (f File) Models() map[string]provider.Factory {
	all := map[string]provider.Factory{}
	for name, p := range f.Providers {
		if p.API == "" {
			p.API = name
		}
		switch p.API {
		case "ollama":
			all[name] = ollama.Factory(ollama.Config{BaseURL: p.URL})
		case "anthropic":
			all[name] = anthropic.Factory(anthropic.Config{Name: name, BaseURL: p.URL, KeyEnv: p.KeyEnv, KeyFile: p.KeyFile})
		case "openai":
			all[name] = openai.Factory(openai.Config{Name: name, BaseURL: p.URL, KeyEnv: p.KeyEnv, KeyFile: p.KeyFile})
		}
	}
	if len(f.Scripted) > 0 {
		all["scripted"] = scripted.Factory(f.Scripted...)
	}
	return all
}
