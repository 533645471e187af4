package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/covey-run/covey/teamfile"
)

// tools are the kit's unsafe tools, each in the hands of one member of its team:
// one that lives where the run does, and one that lives elsewhere.
var tools = []string{"charge", "ship"}

// ownTeam fills in the kit's own team. Each member's role is its path, so that
// the model server knows who asks.
func (o *Options) ownTeam(effects string) error {
	text := `name: orders
model: ollama/chaos
plan: pipeline
members:
  - {name: clerk, role: the clerk, tools: [charge]}
  - {name: packer, role: the packer, pool: warehouse}
  - {name: carrier, role: the carrier, pool: road, tools: [ship]}
  - {name: writer, role: the writer}
tools:
`
	for _, tool := range tools {
		text += fmt.Sprintf(`  - name: %[1]s
    description: It must happen once for each order.
    command: [%[2]q, chaos-tool, do, %[3]q]
    verify: [%[2]q, chaos-tool, done, %[3]q]
    effect: unsafe
    parameters: {type: object, properties: {order: {type: string}}, required: [order]}
`, tool, o.Binary, filepath.Join(effects, tool))
	}
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
	o.Name, o.Definition, o.Pools = team.Name, team.Definition, Pools(file.Member)
	return nil
}

// Pools are the pools that a team's members want to live in, sorted.
func Pools(m teamfile.Member) []string {
	var pools []string
	if m.Pool != "" {
		pools = append(pools, m.Pool)
	}
	for _, sub := range m.Members {
		pools = append(pools, Pools(sub)...)
	}
	slices.Sort(pools)
	return slices.Compact(pools)
}
