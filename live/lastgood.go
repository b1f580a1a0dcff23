package live

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/blueprint-go/etcd"
)

// lastGood keeps the last good configuration in a file. What it seals is
//
//	blueprint etcd live 1\n
//	<SHA-256 of what follows, in hex>\n
//	<JSON of a record>
//
// so that a plain file that is damaged is known as such too.
type lastGood struct {
	client *etcd.Client
	path   string
	place  string // the prefix or key, and "/" or "=" before it: which of both it is
}

// record is a configuration in a file.
type record struct {
	Place    []byte   `json:"place"`
	Revision int64    `json:"revision"`
	Keys     []stored `json:"keys"`
}

type stored struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

const fileHead = "blueprint etcd live 1\n"

// key is the key that the file is sealed for. No key of a configuration has a NUL there, so
// that the file can't stand for a value in etcd, nor a value for the file.
func (l *lastGood) key() string { return l.place[1:] + "\x00live" + l.place[:1] }

// check returns why the file can't be written, as far as that is known before.
func (l *lastGood) check() error {
	folder, err := os.Stat(filepath.Dir(l.path))
	if err == nil && !folder.IsDir() {
		err = errors.New("its folder is none")
	}
	if err != nil {
		return errors.Join(etcd.ErrInvalidArgument, l.fail("write", err))
	}
	return nil
}

// write replaces the file, as a whole.
func (l *lastGood) write(ctx context.Context, s state) error {
	r := record{Place: []byte(l.place), Revision: s.revision}
	for key, e := range s.entries {
		r.Keys = append(r.Keys, stored{[]byte(key), e.value})
	}
	slices.SortFunc(r.Keys, func(a, b stored) int { return bytes.Compare(a.Key, b.Key) })
	body, err := json.Marshal(r)
	if err != nil {
		return l.fail("write", err)
	}
	sum := sha256.Sum256(body)
	sealed, err := l.client.Seal(ctx, l.key(), slices.Concat([]byte(fileHead), hex.AppendEncode(nil, sum[:]), []byte("\n"), body))
	if err == nil {
		err = replace(l.path, sealed)
	}
	if err != nil {
		return l.fail("write", err)
	}
	return nil
}

// read returns the state in the file.
func (l *lastGood) read(ctx context.Context) (state, error) {
	sealed, err := os.ReadFile(l.path)
	if err != nil {
		return state{}, l.fail("read", err)
	}
	content, err := l.client.Unseal(ctx, l.key(), sealed)
	if undecoded, ok := errors.AsType[*etcd.DecodeError](err); ok {
		err = fmt.Errorf("%w: %w", ErrLastGood, undecoded.Err) // without the key, which is no key of etcd
	}
	if err != nil {
		return state{}, l.fail("read", err)
	}
	r, err := parseRecord(content)
	if err == nil && string(r.Place) != l.place {
		err = fmt.Errorf("%w: it is of %q", ErrLastGood, r.Place[min(1, len(r.Place)):])
	}
	if err != nil {
		return state{}, l.fail("read", err)
	}
	s := state{revision: r.Revision, entries: make(map[string]entry, len(r.Keys))}
	for _, kv := range r.Keys {
		s.entries[string(kv.Key)] = entry{value: kv.Value}
	}
	return s, nil
}

func parseRecord(content []byte) (r record, err error) {
	rest, ours := bytes.CutPrefix(content, []byte(fileHead))
	sum, body, whole := bytes.Cut(rest, []byte("\n"))
	want := sha256.Sum256(body)
	switch {
	case !ours:
		return r, fmt.Errorf("%w: the file begins otherwise", ErrLastGood)
	case !whole, string(sum) != hex.EncodeToString(want[:]), json.Unmarshal(body, &r) != nil:
		return r, fmt.Errorf("%w: the file is damaged", ErrLastGood)
	}
	return r, nil
}

func (l *lastGood) fail(op string, err error) error {
	return &LastGoodError{Op: op, Path: l.path, Err: err}
}

// replace writes a file beside the one that it replaces, so that a crash leaves either.
func replace(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	return nil
}

// syncFolder makes a rename last. Not every system lets a folder be synchronized; there the
// file is whole anyway, but may be the one before after a crash of the machine.
func syncFolder(path string) {
	if d, err := os.Open(path); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}
