package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/covey-run/covey/actors/tool/command"
	"github.com/covey-run/covey/messages"
)

// effect is one execution of an unsafe tool of the kit's, as the world has it.
type effect struct {
	tool, order, key string
	// life is the life of the node that called the tool.
	life string
	at   time.Time
}

// Do is what an unsafe tool of the kit's does with the order that its input
// names: it writes a line into a file in dir, the tool's folder, and says so on
// out. It takes a moment before and after.
func Do(ctx context.Context, dir string, moment time.Duration, in io.Reader, out io.Writer) error {
	order, err := orderOf(in)
	if err != nil {
		return err
	}
	if err := wait(ctx, moment); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, order), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s %s\n", os.Getenv(command.KeyVariable), os.Getenv(lifeVariable), time.Now().Format(time.RFC3339Nano))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := wait(ctx, moment); err != nil {
		return err
	}
	fmt.Fprintln(out, filepath.Base(dir), order, "done")
	return nil
}

// Done tells whether Do was called under the call's key.
func Done(dir string, in io.Reader, out io.Writer) (bool, error) {
	order, err := orderOf(in)
	if err != nil {
		return false, err
	}
	effects, err := readEffects(dir, order)
	if err != nil {
		return false, err
	}
	for _, e := range effects {
		if e.key == os.Getenv(command.KeyVariable) {
			fmt.Fprintln(out, filepath.Base(dir), order, "done")
			return true, nil
		}
	}
	return false, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func orderOf(in io.Reader) (string, error) {
	var args struct {
		Order string `json:"order"`
	}
	if err := json.NewDecoder(in).Decode(&args); err != nil {
		return "", messages.Errorf(messages.Invalid, "order", "its input: %w", err)
	}
	return args.Order, messages.CheckName("order", args.Order)
}

// readEffects reads the effects of an order; none if it was never charged.
func readEffects(dir, order string) ([]effect, error) {
	f, err := os.Open(filepath.Join(dir, order))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var effects []effect
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		e := effect{tool: filepath.Base(dir), order: order}
		part := strings.Fields(lines.Text())
		if len(part) == 3 {
			e.key, e.life = part[0], part[1]
			e.at, err = time.Parse(time.RFC3339Nano, part[2])
		}
		if len(part) != 3 || err != nil {
			return nil, messages.Errorf(messages.Invalid, "effects", "%s: %q is no effect", order, lines.Text())
		}
		effects = append(effects, e)
	}
	return effects, lines.Err()
}

// allEffects reads the effects of every tool and every order.
func allEffects(dir string) ([]effect, error) {
	var all []effect
	for _, tool := range tools {
		files, err := os.ReadDir(filepath.Join(dir, tool))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			effects, err := readEffects(filepath.Join(dir, tool), f.Name())
			if err != nil {
				return nil, err
			}
			all = append(all, effects...)
		}
	}
	return all, nil
}
