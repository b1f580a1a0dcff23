package integration

import (
	"errors"
	"strconv"

	"github.com/blueprint-go/etcd"
)

func incrementIn(tx *etcd.Tx, key string) error { return addIn(tx, key, 1) }

// numberIn reads a number in a transaction; a missing key counts as 0.
func numberIn(tx *etcd.Tx, key string) (int, error) {
	value, err := tx.Get(key)
	switch {
	case errors.Is(err, etcd.ErrKeyNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return strconv.Atoi(string(value))
}

// addIn adds to a number in a transaction.
func addIn(tx *etcd.Tx, key string, n int) error {
	old, err := numberIn(tx, key)
	if err != nil {
		return err
	}
	tx.Put(key, []byte(strconv.Itoa(old+n)))
	return nil
}
