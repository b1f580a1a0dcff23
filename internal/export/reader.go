package export

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Reader reads a file and checks it. It is for one goroutine. An error about the content
// of the file matches ErrBad; any other comes from the input.
type Reader struct {
	in     *bufio.Reader
	hash   hash.Hash // of the lines read, except for the last
	header Header
	number int // number of the line read last
	count  int64
	last   string // the key read last
	line   []byte
	again  []byte
}

// NewReader reads and checks the first line.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), hash: sha256.New()}
	if err := r.read(); err != nil {
		return nil, err
	}
	var err error
	if r.header, err = parseHeader(r.line); err != nil {
		return nil, r.bad(err)
	}
	if r.header.Revision < 1 {
		return nil, r.bad(errors.New("revision is not positive"))
	}
	return r, nil
}

// Header returns the content of the first line.
func (r *Reader) Header() Header { return r.header }

// Line returns the number of the line that was read last, counted from 1.
func (r *Reader) Line() int { return r.number }

// Next returns the next entry. After the last one it checks the count and the checksum,
// and that nothing follows, and returns io.EOF.
func (r *Reader) Next() (Entry, error) {
	r.hash.Write(r.line)
	if err := r.read(); err != nil {
		return Entry{}, err
	}
	if bytes.HasPrefix(r.line, []byte(trailerStart)) {
		return Entry{}, r.end()
	}
	var e Entry
	var err error
	if e, r.again, err = parseEntry(r.line, r.again); err == nil {
		err = r.check(e)
	}
	if err != nil {
		return Entry{}, r.bad(err)
	}
	r.count++
	r.last = e.Key
	return e, nil
}

// check returns what is wrong with a well-formed entry.
func (r *Reader) check(e Entry) error {
	switch {
	case e.Key == "":
		return errors.New("empty key")
	case !strings.HasPrefix(e.Key, r.header.Prefix):
		return errors.New("key is not under the prefix of the file")
	case e.Key <= r.last:
		return errors.New("key is not after the one before")
	case r.header.Stored && !e.Stored:
		return errOtherForm
	case e.CreateRevision < 1 || e.ModRevision < e.CreateRevision || r.header.Revision < e.ModRevision || e.Version < 1:
		return errors.New("revisions contradict each other")
	case e.LeaseTTL < NoTTL || e.LeaseTTL > maxTTL:
		return errors.New("time to live is out of range")
	}
	return nil
}

// end checks the last line.
func (r *Reader) end() error {
	t, err := parseTrailer(r.line)
	switch {
	case err != nil:
	case t.count != r.count:
		err = fmt.Errorf("%d keys, and the last line counts %d", r.count, t.count)
	case !bytes.Equal(t.digest, r.hash.Sum(nil)):
		err = errors.New("checksum does not match: the file was changed")
	}
	if err != nil {
		return r.bad(err)
	}
	_, err = r.in.ReadByte()
	switch {
	case err == nil:
		return r.bad(errors.New("something follows the last line"))
	case !errors.Is(err, io.EOF):
		return r.failed(err)
	}
	return io.EOF
}

// read reads the next line.
func (r *Reader) read() error {
	r.number++
	r.line = r.line[:0]
	for {
		piece, err := r.in.ReadSlice('\n')
		if len(r.line)+len(piece) > MaxLine {
			return r.bad(fmt.Errorf("longer than %d bytes", MaxLine))
		}
		r.line = append(r.line, piece...)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, io.EOF):
			return r.bad(errors.New("the file ends without its last line"))
		case !errors.Is(err, bufio.ErrBufferFull):
			return r.failed(err)
		}
	}
}

func (r *Reader) bad(reason error) error {
	return fmt.Errorf("%w: line %d: %w", ErrBad, r.number, reason)
}

func (r *Reader) failed(err error) error {
	return fmt.Errorf("line %d: %w", r.number, err)
}
