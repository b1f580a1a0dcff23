package mirror

import (
	"errors"
	"fmt"

	"github.com/blueprint-go/etcd"
)

// errNotYet is the cause of a mirror whose watch was not registered yet.
var errNotYet = errors.New("watch is not registered yet")

// errExited is why a mirror has ended whose goroutine the application's code ended.
var errExited = fmt.Errorf("%w: encoding ended the goroutine of the mirror", etcd.ErrEncoding)

// errClosed is the etcd.ErrClosed of a mirror whose client is open.
var errClosed error = closedError("mirror is closed")

type closedError string

func (e closedError) Error() string { return string(e) }

// Is reports that e is an ErrClosed.
func (closedError) Is(target error) bool { return target == etcd.ErrClosed }
