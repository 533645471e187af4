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

// effect is one execution of the kit's unsafe tool, as the world has it.
type effect struct {
	order, key string
	// life is the life of the node that called the tool.
	life string
	at   time.Time
}

// Charge is the kit's unsafe tool: it charges the order that its input names, by
// a line in a file of dir, and says so on out. It takes a moment before and
// after.
func Charge(ctx context.Context, dir string, moment time.Duration, in io.Reader, out io.Writer) error {
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
	fmt.Fprintln(out, "charged", order)
	return nil
}

// Charged tells whether the order was charged under the call's key.
func Charged(dir string, in io.Reader, out io.Writer) (bool, error) {
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
			fmt.Fprintln(out, "charged", order)
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
		return "", messages.Errorf(messages.Invalid, "charge", "its input: %w", err)
	}
	return args.Order, messages.CheckName("charge: order", args.Order)
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
		e := effect{order: order}
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

// allEffects reads the effects of every order.
func allEffects(dir string) ([]effect, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []effect
	for _, f := range files {
		effects, err := readEffects(dir, f.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, effects...)
	}
	return all, nil
}
