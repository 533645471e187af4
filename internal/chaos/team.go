package chaos

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/covey-run/covey/teamfile"
)

// ownTeam fills in the kit's own team. Each member's role is its path, so that
// the model server knows who asks.
func (o *Options) ownTeam(effects string) error {
	text := fmt.Sprintf(`name: orders
model: ollama/chaos
plan: pipeline
members:
  - {name: clerk, role: the clerk, tools: [charge]}
  - {name: packer, role: the packer}
  - {name: writer, role: the writer}
tools:
  - name: charge
    description: Charges an order.
    command: [%q, chaos-tool, charge, %q]
    verify: [%q, chaos-tool, charged, %q]
    effect: unsafe
    parameters: {type: object, properties: {order: {type: string}}, required: [order]}
`, o.Binary, effects, o.Binary, effects)
	path := filepath.Join(o.Dir, "team.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	file, err := teamfile.Load(path)
	if err != nil {
		return err
	}
	team, err := file.Team(teamfile.Options{})
	if err != nil {
		return err
	}
	o.Name, o.Definition = team.Name, team.Definition
	return nil
}
