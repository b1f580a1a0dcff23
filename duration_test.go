package etcd_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestDurationsOfNanosecondsAreRefused(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]*etcd.Config{
		"RequestTimeout":    etcd.DefaultConfig().WithTimeout(5),
		"DialTimeout":       etcd.DefaultConfig().WithDialTimeout(5),
		"KeepAliveInterval": etcd.DefaultConfig().WithKeepAlive(5, 0),
		"KeepAliveTimeout":  etcd.DefaultConfig().WithKeepAlive(0, 5),
		"AutoSyncInterval":  etcd.DefaultConfig().WithAutoSync(5),
	} {
		_, err := etcd.NewClient(cfg)
		require.ErrorIs(t, err, etcd.ErrInvalidConfig)
		assert.ErrorContains(t, err, field+": 5ns is below 1ms; a bare number counts nanoseconds, did you mean 5*time.Second?")
	}
	require.NoError(t, etcd.DefaultConfig().WithTimeout(time.Millisecond).Validate())
}

// JSON knows no durations, so that a number is one of nanoseconds there too.
func TestNumbersOfJSONAreNoSeconds(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"RequestTimeout": 5}`, `{"DialTimeout": 5000}`} {
		var cfg etcd.Config
		require.NoError(t, json.Unmarshal([]byte(text), &cfg))
		err := cfg.Validate()
		require.ErrorIs(t, err, etcd.ErrInvalidConfig)
		assert.ErrorContains(t, err, "a bare number counts nanoseconds")
	}
}

func TestLargestDurationsMeanForEver(t *testing.T) {
	t.Parallel()
	const forever = time.Duration(math.MaxInt64)
	c := stubClient(t, &stub{}, func(cfg *etcd.Config) {
		cfg.LazyConnect = false
		cfg.WithTimeout(forever).WithDialTimeout(forever).WithKeepAlive(forever, forever).WithAutoSync(forever)
	})
	require.NoError(t, c.Put(t.Context(), "key", nil))
}
