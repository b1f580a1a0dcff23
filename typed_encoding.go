package etcd

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Encoding turns values of a Go type into bytes and back, for [Typed]. It must be safe
// for concurrent use. [JSON] is the default; two wrapper methods make one of protobuf,
// YAML or anything else.
type Encoding[T any] interface {
	Marshal(value T) ([]byte, error)
	Unmarshal(data []byte) (T, error)
}

// JSON is the [Encoding] of package encoding/json. Its zero value is ready to use.
type JSON[T any] struct{}

// Marshal implements [Encoding].
func (JSON[T]) Marshal(value T) ([]byte, error) { return json.Marshal(value) }

// Unmarshal implements [Encoding]. It refuses null for a type whose values never marshal
// to it: encoding/json would leave the value zero.
func (JSON[T]) Unmarshal(data []byte) (T, error) {
	var value, zero T
	if isNull(data) {
		if own, err := json.Marshal(zero); err != nil || !isNull(own) {
			return zero, errNull
		}
	}
	if err := json.Unmarshal(data, &value); err != nil {
		return zero, err
	}
	return value, nil
}

var errNull = errors.New("json: unexpected null")

func isNull(data []byte) bool { return string(bytes.TrimSpace(data)) == "null" }
