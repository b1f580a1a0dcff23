package etcdtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxTroubles is how many errors explain a failed start: the first ones, since the trace
// of a panic follows its reason.
const maxTroubles = 5

// childLog takes the output of an etcd program, one JSON entry per line, and writes it to
// a logger.
type childLog struct {
	to *zap.Logger

	mu       sync.Mutex
	rest     []byte   // a line that isn't complete
	troubles []string // the first errors
}

// Write implements [io.Writer]. It never fails: that would end the child.
func (l *childLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, complete := bytes.Cut(l.rest, []byte("\n"))
		if !complete {
			return len(p), nil
		}
		l.entry(line)
		l.rest = rest
	}
}

// entry takes one line. A line that is not an entry, such as a panic or a complaint about
// the flags, counts as an error.
func (l *childLog) entry(line []byte) {
	level, msg := zap.ErrorLevel, string(line)
	var content map[string]any
	if json.Unmarshal(line, &content) == nil {
		msg, _ = content["msg"].(string)
		name, _ := content["level"].(string)
		if known, err := zapcore.ParseLevel(name); err == nil {
			level = min(known, zap.ErrorLevel) // higher levels make zap end this process
		}
	}
	if level == zap.ErrorLevel && len(l.troubles) < maxTroubles {
		l.troubles = append(l.troubles, strings.TrimSpace(msg+" "+text(content["error"])))
	}
	checked := l.to.Check(level, msg)
	if checked == nil {
		return
	}
	var fields []zap.Field
	for name, value := range content {
		if !slices.Contains([]string{"level", "ts", "caller", "msg"}, name) {
			fields = append(fields, zap.Any(name, value))
		}
	}
	checked.Write(fields...)
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// explain adds to err, the error of a start, what the program has complained of. It marks
// a port in use, because launch then tries another one.
func (l *childLog) explain(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := strings.Join(l.troubles, "; ")
	if strings.Contains(said, syscall.EADDRINUSE.Error()) {
		return errors.Join(fmt.Errorf("%w: %s", err, said), syscall.EADDRINUSE)
	}
	return fmt.Errorf("%w: %s", err, said)
}
