package teamfile

import (
	"encoding/json"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// File is a team file. With members it is a team; without, one agent with a
// role. Its JSON form has the keys of the YAML.
type File struct {
	Member
	// Tools are the tools that members may name.
	Tools []Tool `json:"tools,omitempty" jsonschema:"the tools that members may name; of a single agent, the tools that it has"`
	// Providers are settings by provider.
	Providers map[string]Provider `json:"providers,omitempty" jsonschema:"settings by provider, as ollama"`
	// Calls are settings by type of call, the Kind of a member.
	Calls map[string]provider.Settings `json:"calls,omitempty" jsonschema:"settings by type of call, which members name as their kind"`
	// Routers are models that choose among models.
	Routers map[string]route.Settings `json:"routers,omitempty" jsonschema:"models that choose among models, call by call; members name one as router/NAME"`
	// Scripted are the rules of the built-in model scripted.
	Scripted []scripted.Rule `json:"scripted,omitempty" jsonschema:"the rules by which the built-in model scripted answers, tried in order; without any it answers by itself"`

	// Dir is the folder in which commands run, and where relative ones are: the
	// file's own, absolute.
	Dir string `json:"-"`

	src *source // nil if it does not come from YAML
}

// Member is one member of a team, or the file's top level: an agent, or with
// Members a team.
type Member struct {
	Name         string `json:"name" jsonschema:"what it is asked by"`
	Model        string `json:"model,omitempty" jsonschema:"provider and model, as ollama/llama3.2, or scripted; of a team: for members that name none"`
	Role         string `json:"role,omitempty" jsonschema:"tells the model who it is, as: an expert in Renaissance history"`
	Instructions string `json:"instructions,omitempty" jsonschema:"added to the role as they are"`
	// Fallback are the rungs below the model.
	Fallback []string `json:"fallback,omitempty" jsonschema:"what answers when the model cannot, in order: models, canned, parked (a person: covey parked); up to 9"`
	Kind     string   `json:"kind,omitempty" jsonschema:"the type of its model calls, which has settings of its own under calls"`
	Priority int      `json:"priority,omitempty" jsonschema:"among calls that wait for a provider, a lower number goes first; 0 if not given, and it may be negative"`
	// Call are settings of its calls, above all others.
	Call *provider.Settings `json:"call,omitempty" jsonschema:"settings of its model calls alone: retry, cache (on or off), fallback"`
	// Tools name tools of the file, built-in ones, or ones that a program adds.
	Tools []string `json:"tools,omitempty" jsonschema:"the names of the tools that it may call"`
	// Uses name tools that the node on which it lives lends.
	Uses     []string           `json:"uses,omitempty" jsonschema:"the names of tools that the node on which it lives lends; it lives on one that has them"`
	Pool     string             `json:"pool,omitempty" jsonschema:"the pool of nodes on which it lives; any node if not given"`
	External string             `json:"external,omitempty" jsonschema:"the name of a program that answers in place of a model: a NATS client that takes asks at covey.members.NAME"`
	Options  provider.Options   `json:"options,omitzero" jsonschema:"tune its model calls"`
	Steps    int                `json:"max_steps,omitempty" jsonschema:"how many model calls one turn may take; 8 if not given"`
	Timeout  Duration           `json:"timeout,omitempty" jsonschema:"bounds one turn; not bounded if not given"`
	Park     *Duration          `json:"max_park,omitempty" jsonschema:"how long a turn waits in all for a provider whose breaker is open; 5m if not given, 0s for not at all"`
	Restart  supervisor.Restart `json:"restart,omitempty" jsonschema:"when it is started again: permanent (always, the default), transient (after a failure) or temporary (never)"`

	Plan        *Plan        `json:"plan,omitempty" jsonschema:"how the members work"`
	Supervision *Supervision `json:"supervision,omitempty" jsonschema:"what happens when a member fails"`
	Members     []Member     `json:"members,omitempty" jsonschema:"the agents and teams that it is made of"`
}

// Plan is how a team works. In YAML it may also be its kind alone.
type Plan struct {
	Kind        string `json:"kind" jsonschema:"round_table: members take turns over a shared discussion, then one writes the answer; pipeline: each works on what the one before it gave"`
	Rounds      int    `json:"rounds,omitempty" jsonschema:"of a round table: how often each speaks; 2 if not given"`
	Synthesizer string `json:"synthesizer,omitempty" jsonschema:"of a round table: the member that writes the answer; the first if not given"`
	Prompt      string `json:"prompt,omitempty" jsonschema:"of a round table: what the synthesizer is told"`
}

// Supervision is a team's [supervisor.Policy].
type Supervision struct {
	Strategy  supervisor.Strategy  `json:"strategy,omitempty" jsonschema:"who is restarted when one member fails; one_for_one if not given"`
	Intensity int                  `json:"intensity,omitempty" jsonschema:"how many restarts a member may need within the window; 5 if not given"`
	Within    Duration             `json:"within,omitempty" jsonschema:"the window of intensity; 1m if not given"`
	Spent     supervisor.Directive `json:"spent,omitempty" jsonschema:"what happens when the intensity is spent; escalate if not given"`
	Backoff   *Backoff             `json:"backoff,omitempty" jsonschema:"the waits between restarts"`
	OnClass   OnClass              `json:"on_class,omitempty" jsonschema:"what happens on a failure of a class; restart if not given"`
}

// OnClass is what a supervisor does by class of failure.
type OnClass map[messages.Class]supervisor.Directive

// Backoff is a [supervisor.Backoff].
type Backoff struct {
	Initial *Duration `json:"initial,omitempty" jsonschema:"the first wait; 100ms if not given, 0s for none at all"`
	Factor  float64   `json:"factor,omitempty" jsonschema:"from one wait to the next; 2 if not given"`
	Max     Duration  `json:"max,omitempty" jsonschema:"the longest wait; 30s if not given"`
	Jitter  *float64  `json:"jitter,omitempty" jsonschema:"the share by which a wait varies; 0.2 if not given"`
}

// Tool is a tool: an external command, or with nothing but a name (in YAML, the
// name itself) one that is built in or that a program adds.
type Tool struct {
	Name        string          `json:"name" jsonschema:"what members and models call it by"`
	Description string          `json:"description,omitempty" jsonschema:"tells the model what it does and when to use it"`
	Command     []string        `json:"command,omitempty" jsonschema:"the program and its arguments, run in the file's folder without a shell: arguments as JSON on standard input, the output on standard output, an exit status other than 0 is an error"`
	Parameters  json.RawMessage `json:"parameters,omitempty" jsonschema:"the JSON schema of its arguments, of type object; none if not given"`
	Effect      string          `json:"effect,omitempty" jsonschema:"what calling it twice does: unsafe (the default) may do harm, pure has no effect, idempotent has the effect of one call for the same COVEY_TOOL_KEY"`
	Verify      []string        `json:"verify,omitempty" jsonschema:"a command that finds out whether a call that a crash cut off took effect: exit status 0 and its output if it did, 1 if it did not"`
	Timeout     Duration        `json:"timeout,omitempty" jsonschema:"bounds one call; 30s if not given"`
}

// Provider is how to reach a provider, and what to do in its bad times.
type Provider struct {
	URL     string `json:"url,omitempty" jsonschema:"the server's address, as http://127.0.0.1:11434; keys come from the environment or from key_file"`
	API     string `json:"api,omitempty" jsonschema:"the API that the server speaks, for a provider of a name of your own: ollama, anthropic or openai (which vLLM, LiteLLM, llama.cpp and Groq speak too); the provider's name if not given"`
	KeyEnv  string `json:"key_env,omitempty" jsonschema:"the environment variable that holds the key; the API's own if not given, for the API's own server"`
	KeyFile string `json:"key_file,omitempty" jsonschema:"a file of mode 0600 that holds the key"`
	// Concurrency and Waiting are short for those of the queue.
	Concurrency *int `json:"concurrency,omitempty" jsonschema:"short for queue.concurrency"`
	Waiting     *int `json:"waiting,omitempty" jsonschema:"short for queue.waiting"`
	provider.Settings
}
