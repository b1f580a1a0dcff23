package export

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// Writer writes a file. It is for one goroutine. After an error the file can't be
// completed.
type Writer struct {
	out   *bufio.Writer
	hash  hash.Hash
	count int64
	line  []byte
}

// NewWriter begins a file.
func NewWriter(out io.Writer, h Header) (*Writer, error) {
	w := &Writer{out: bufio.NewWriterSize(out, 64<<10), hash: sha256.New()}
	w.line = appendHeader(nil, h)
	return w, w.flush()
}

// Write adds an entry. The keys must ascend and begin with the prefix of the header.
func (w *Writer) Write(e Entry) error {
	w.count++
	w.line = appendEntry(w.line[:0], e)
	return w.flush()
}

// Close completes the file, which is not valid before. It does not close the underlying
// writer.
func (w *Writer) Close() error {
	w.line = appendTrailer(w.line[:0], trailer{w.count, w.hash.Sum(nil)})
	if err := w.flush(); err != nil {
		return err
	}
	return w.out.Flush()
}

func (w *Writer) flush() error {
	if len(w.line) > MaxLine {
		return fmt.Errorf("a line of %d bytes, the limit is %d", len(w.line), MaxLine)
	}
	w.hash.Write(w.line)
	_, err := w.out.Write(w.line)
	return err
}
