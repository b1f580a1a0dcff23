package discovery

import (
	"cmp"
	"fmt"
	"net/url"
	"unicode/utf8"

	"github.com/blueprint-go/etcd"
)

// DefaultPrefix is what the keys of all services begin with, unless [WithPrefix] says
// otherwise.
const DefaultPrefix = "/services/"

// maxName bounds the prefix, the name of a service, and an id, so that a key has room for all of
// them, however they are escaped. The doc of Register names it.
const maxName = 4 << 10

// checkName returns an error for what is too long.
func checkName(what, name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", etcd.ErrTooLarge, what, len(name), maxName)
	}
	return nil
}

// placeOf returns the prefix of the keys of a service.
func placeOf(prefix, service string) (string, error) {
	if service == "" {
		return "", fmt.Errorf("%w: empty name of a service", etcd.ErrInvalidArgument)
	}
	if !utf8.ValidString(service) {
		return "", fmt.Errorf("%w: name of a service that is not UTF-8", etcd.ErrInvalidArgument)
	}
	if err := cmp.Or(checkName("name of a service", service), checkName("prefix", prefix)); err != nil {
		return "", err
	}
	return prefix + url.PathEscape(service) + "/", nil
}

// idOf returns the id that the rest of a key stands for.
func idOf(rest string) (string, error) {
	id, err := url.PathUnescape(rest)
	if err != nil || id == "" || url.PathEscape(id) != rest {
		return "", fmt.Errorf("%w: not the key of an instance", etcd.ErrEncoding)
	}
	return id, nil
}
