package live

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestBadOptionsAreRefused(t *testing.T) {
	t.Parallel()
	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints("127.0.0.1:1").WithLazyConnect())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	for name, opt := range map[string]Option{
		"nil":              nil,
		"nil defaults":     WithDefaults[server](nil),
		"nil validate":     WithValidate[server](nil),
		"nil unmarshal":    WithUnmarshal(nil),
		"timeout of 0":     WithValidateTimeout(0),
		"negative timeout": WithValidateTimeout(-1),
		"debounce":         WithDebounce(-1),
		"path":             WithLastGood(""),
		"other defaults":   WithDefaults(func() itself { return itself{} }),
		"other validate":   WithValidate(func(*itself) error { return nil }),
		"unmarshal":        WithUnmarshal(func([]byte) (map[string]any, error) { return nil, nil }),
	} {
		_, err := Open[server](context.Background(), client, "/c/", opt)
		require.ErrorIs(t, err, etcd.ErrInvalidArgument, name)
		var e *etcd.Error
		require.ErrorAs(t, err, &e, name)
		require.False(t, e.Sent, name)
		require.Equal(t, "/c/", e.Key, name)
	}
	_, err = OpenDocument[server](context.Background(), client, "/c/doc", WithAllKeys())
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	_, err = OpenDocument[server](context.Background(), client, "")
	require.ErrorIs(t, err, etcd.ErrEmptyKey)
	_, err = Open[server](context.Background(), client, "")
	require.ErrorIs(t, err, etcd.ErrEmptyPrefix)
	_, err = Open[server](context.Background(), nil, "/c/")
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	var none context.Context
	_, err = Open[server](none, client, "/c/")
	require.ErrorIs(t, err, etcd.ErrNilContext)
	_, err = Open[chan int](context.Background(), client, "/c/")
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	require.ErrorContains(t, err, "chan int")
}
