package etcd

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// claimRecord is the value of a claim: whose it is, for those who list the queue. Nothing else
// depends on it.
type claimRecord struct {
	Host  string `json:"host,omitempty"`
	PID   int    `json:"pid"`
	Text  string `json:"owner,omitempty"`
	Since int64  `json:"since"` // Unix time, in milliseconds
}

var hostname = sync.OnceValue(func() string {
	name, _ := os.Hostname() // a record without it is better than no lock
	return name
})

// claimRecord returns the record of a claim as stored under its key, with the owner's text. It
// is empty if it can't be encrypted: a client without a primary key can lock too. It is not
// sealed again if a key is promoted meanwhile, since a claim that nobody can read is no harm.
func (c *Client) claimRecord(ctx context.Context, stored []byte, text string) []byte {
	value, err := json.Marshal(claimRecord{hostname(), os.Getpid(), text, time.Now().UnixMilli()})
	if err != nil {
		return nil
	}
	value, _, err = c.codec.encode(ctx, stored, value)
	if err != nil {
		return nil
	}
	return value
}
