package route

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/covey-run/covey/messages"
)

// FileStore is a [Store] in a directory: one file NAME.json for each router,
// replaced as a whole. The directory is made when it is first needed.
type FileStore string

// Load reads a router's file.
func (d FileStore) Load(_ context.Context, name string) ([]byte, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	const most = 16 << 20
	if info, err := os.Stat(path); err == nil && info.Size() > most {
		return nil, messages.Errorf(messages.Invalid, "", "%s: %d bytes are too many, the limit is %d", path, info.Size(), most)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save replaces a router's file.
func (d FileStore) Save(ctx context.Context, name string, data []byte) (err error) {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), "."+name+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (d FileStore) path(name string) (string, error) {
	if err := messages.CheckName("router", name); err != nil {
		return "", err
	}
	return filepath.Join(string(d), name+".json"), nil
}
