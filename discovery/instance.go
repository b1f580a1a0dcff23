package discovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"unicode/utf8"

	"github.com/blueprint-go/etcd"
)

// Instance is one instance of a service: where it is, and what its clients choose by.
type Instance struct {
	// ID tells the instances of a service apart. Empty means a random one, which suits
	// whatever may be started anew: it never finds its place taken by its predecessor, whose
	// lease has yet to end.
	ID string
	// Address is where the instance serves, as its clients dial it: "10.0.0.7:8080". It is
	// required.
	Address string
	// Zone is where it runs, such as "eu-1a"; may be empty.
	Zone string
	// Version is the version that it runs; may be empty.
	Version string
	// Weight is its share of the calls beside the others', for clients that heed it. 0 counts
	// as 1.
	Weight uint32
	// Metadata is whatever else its clients need to know.
	Metadata map[string]string
	// Draining says that the instance is about to stop and should get no new calls:
	// [Registration.Drain] sets it.
	Draining bool
}

// maxInstance bounds what is stored of an instance: all of its service's clients hold it.
const maxInstance = 64 << 10

// record is what is stored of an instance.
type record struct {
	Address  string            `json:"address"`
	Zone     string            `json:"zone,omitempty"`
	Version  string            `json:"version,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Draining bool              `json:"draining,omitempty"`
	// Registration is unique to the one that put it.
	Registration string `json:"registration,omitempty"`
}

// instance returns what r was made of, without a copy of the metadata.
func (r record) instance(id string) Instance {
	return Instance{
		ID: id, Address: r.Address, Zone: r.Zone, Version: r.Version, Weight: r.Weight,
		Metadata: r.Metadata, Draining: r.Draining,
	}
}

// clone returns a copy that shares nothing.
func (i Instance) clone() Instance {
	i.Metadata = maps.Clone(i.Metadata)
	return i
}

// encode returns what is stored of i, or why it can't be.
func (i Instance) encode(registration string) ([]byte, error) {
	if err := i.check(); err != nil {
		return nil, err
	}
	data, err := encoding{}.Marshal(record{
		Address: i.Address, Zone: i.Zone, Version: i.Version, Weight: i.Weight,
		Metadata: i.Metadata, Draining: i.Draining, Registration: registration,
	})
	if err == nil && len(data) > maxInstance {
		err = fmt.Errorf("%w: instance of %d bytes, at most %d", etcd.ErrTooLarge, len(data), maxInstance)
	}
	return data, err
}

func (i Instance) check() error {
	if i.Address == "" {
		return fmt.Errorf("%w: instance without an address", etcd.ErrInvalidArgument)
	}
	texts := []string{i.ID, i.Address, i.Zone, i.Version}
	for k, v := range i.Metadata {
		texts = append(texts, k, v)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) { // JSON would change it
			return fmt.Errorf("%w: instance with text that is not UTF-8", etcd.ErrInvalidArgument)
		}
	}
	return nil
}

// encoding is that of records. What isn't an instance fails, so that it is never dialled.
type encoding struct{}

// Marshal implements [etcd.Encoding].
func (encoding) Marshal(r record) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(r)
	return bytes.TrimSpace(b.Bytes()), err
}

// Unmarshal implements [etcd.Encoding].
func (encoding) Unmarshal(data []byte) (record, error) {
	r, err := etcd.JSON[record]{}.Unmarshal(data)
	if err == nil && r.Address == "" {
		err = errNoAddress
	}
	return r, err
}

var errNoAddress = errors.New("instance without an address")
