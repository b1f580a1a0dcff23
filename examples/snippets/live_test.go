package snippets

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/live"
	"github.com/blueprint-go/etcd/mirror"
)

func copyOf(ctx context.Context, client *etcd.Client, prefix string, apply func(etcd.KeyValue), change func(mirror.Change)) error {
	m, err := mirror.Open(ctx, client, prefix)
	if err != nil {
		return err
	}
	defer m.Close()
	changes := m.Changes(ctx) // before All, so that none is missed
	for kv := range m.All() {
		apply(kv)
	}
	for c := range changes {
		if c.Type == mirror.Ended {
			return c.Err
		}
		change(c)
	}
	return ctx.Err()
}

type settings struct{ Port uint16 }

func validate(s *settings) error {
	if s.Port == 0 {
		return errors.New("no port")
	}
	return nil
}

func followConfiguration(ctx context.Context, client *etcd.Client, use func(*settings)) error {
	config, err := live.Open[settings](ctx, client, "/shop/config/", live.WithValidate(validate))
	if err != nil {
		return err
	}
	defer config.Close()
	changes := config.Changes(ctx) // before Load, so that none is missed
	use(config.Load())
	for change := range changes {
		if change.Err != nil {
			return change.Err
		}
		use(change.New)
	}
	return ctx.Err()
}

func TestCopyOfAPrefixFollowsIt(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	put := func(value string) { require.NoError(t, client.Put(t.Context(), "/p/k", []byte(value))) }
	put("1")
	ctx, cancel := context.WithCancel(t.Context())
	var seen []string
	err := copyOf(ctx, client, "/p/", func(kv etcd.KeyValue) {
		seen = append(seen, string(kv.Value))
		put("2")
	}, func(c mirror.Change) {
		seen = append(seen, string(c.New.Value))
		cancel()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"1", "2"}, seen)
}

func TestConfigurationIsUsedAsItChanges(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	put := func(value string) { require.NoError(t, client.Put(t.Context(), "/shop/config/port", []byte(value))) }
	put("1")
	ctx, cancel := context.WithCancel(t.Context())
	var seen []uint16
	err := followConfiguration(ctx, client, func(s *settings) {
		if seen = append(seen, s.Port); s.Port == 2 {
			cancel()
			return
		}
		put("2")
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []uint16{1, 2}, seen)
}
