package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/live"
)

func TestConfigurationFollowsItsKeys(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		p := prefix(t)
		first := commit(t, c, map[string]string{p + "name": "a", p + "server/host": "h", p + "server/port": "1", p + "limits/x": "5"})
		v := liveOf[service](t, c, p)
		steps := stepsOf(within(t, patience), v)
		before := v.Load()
		require.Equal(t, "a", before.Name)
		require.Equal(t, "h", before.Server.Host)
		require.Equal(t, map[string]int{"x": 5}, before.Limits)
		require.Equal(t, first, v.Revision())
		require.NoError(t, v.Err())

		second := commit(t, c, map[string]string{p + "server/port": "2", p + "limits/y": "6"})
		step := next(t, steps)
		require.Equal(t, []string{"Limits", "Server.Port"}, step.Fields)
		require.Same(t, before, step.Old)
		require.Same(t, v.Load(), step.New)
		require.Equal(t, second, step.Revision)
		require.Equal(t, second, v.Revision())
		require.EqualValues(t, 2, step.New.Server.Port)
		require.Equal(t, map[string]int{"x": 5, "y": 6}, step.New.Limits)
		require.EqualValues(t, 1, before.Server.Port, "what was loaded doesn't change")

		_, err := c.Delete(t.Context(), p+"server/host")
		require.NoError(t, err)
		step = next(t, steps)
		require.Equal(t, []string{"Server.Host"}, step.Fields)
		require.Empty(t, step.New.Server.Host)

		status := v.Status()
		require.Equal(t, live.FromEtcd, status.Source)
		require.True(t, status.Connected)
		require.NoError(t, status.Err())
		require.Equal(t, v.Revision(), status.Revision)
		require.False(t, status.Confirmed.IsZero())
	})
}

func TestDocumentUnderOneKeyFillsAConfiguration(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		key := prefix(t) + "doc"
		ctx := within(t, patience)
		require.NoError(t, c.Put(ctx, key, []byte(`{"name": "a", "server": {"port": 1}}`)))
		require.NoError(t, c.Put(ctx, key+"ument", []byte(`another key`)))
		v, err := live.OpenDocument[service](ctx, c, key)
		require.NoError(t, err)
		defer v.Close()
		steps := stepsOf(ctx, v)
		require.Equal(t, "a", v.Load().Name)
		require.NoError(t, c.Put(ctx, key+"ument", []byte(`still another key`)))
		revision := commit(t, c, map[string]string{key: `{"name": "a", "server": {"port": 2}}`})
		step := next(t, steps)
		require.Equal(t, []string{"Server.Port"}, step.Fields)
		require.Equal(t, revision, v.Revision())

		revision = commit(t, c, map[string]string{key: `{"name": "a", "server": {"port": 99999}}`})
		refused := refusedAt(t, v, revision)
		require.ErrorIs(t, refused, etcd.ErrEncoding)
		require.Equal(t, key, refused.Key)
		require.Equal(t, "Server.Port", refused.Field)
		var deleted etcd.WriteResult
		require.NoError(t, second(c.Delete(ctx, key, etcd.WithResult(&deleted))))
		require.ErrorIs(t, refusedAt(t, v, deleted.Revision), etcd.ErrKeyNotFound)
		require.EqualValues(t, 2, v.Load().Server.Port)
		require.NoError(t, c.Put(ctx, key, []byte(`{"name": "b"}`)))
		require.Equal(t, "b", next(t, steps).New.Name)
		require.NoError(t, v.Err())
	})
}

func TestOtherDocumentsAreParsedByTheApplication(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	key := prefix(t) + "doc"
	require.NoError(t, c.Put(t.Context(), key, []byte("name = a\nlimits.x = 1\n")))
	v, err := live.OpenDocument[service](within(t, patience), c, key, live.WithUnmarshal(parseLines))
	require.NoError(t, err)
	defer v.Close()
	require.Equal(t, "a", v.Load().Name)
	refused := refusedAt(t, v, commit(t, c, map[string]string{key: secret}))
	require.ErrorIs(t, refused, errLine)
	require.NotContains(t, refused.Error(), secret)
}

var errLine = errors.New("a line without an equals sign")

// parseLines parses lines such as "name = value".
func parseLines(data []byte) (map[string]any, error) {
	out := map[string]any{}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("%w: %q", errLine, line)
		}
		if name, value = strings.TrimSpace(name), strings.TrimSpace(value); strings.Contains(name, ".") {
			name, inner, _ := strings.Cut(name, ".")
			out[name] = map[string]any{inner: value}
			continue
		}
		out[name] = value
	}
	return out, nil
}

func TestBadConfigurationIsNamedAndNotServed(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "good", p + "server/port": "80"})
	own := errors.New("port 13 is unlucky")
	v := liveOf[service](t, c, p, live.WithStrict(), live.WithValidate(func(s *service) error {
		if s.Server.Port == 13 {
			return own
		}
		return nil
	}))
	steps := stepsOf(within(t, patience), v)
	for _, bad := range []struct {
		key, value, field string
		want              error
	}{
		{"server/port", secret, "Server.Port", etcd.ErrEncoding},
		{"server/port", "13", "", own},
		{"server/prot", "1", "Server", live.ErrUnknownField},
		{"NAME", "again", "Name", live.ErrSameField},
		{"name/below", "again", "Name", live.ErrSameField},
	} {
		revision := commit(t, c, map[string]string{p + bad.key: bad.value})
		refused := refusedAt(t, v, revision)
		require.ErrorIs(t, refused, bad.want, bad.key)
		require.Equal(t, bad.field, refused.Field, bad.key)
		require.NotContains(t, refused.Error(), secret)
		if bad.field != "" {
			require.ErrorContains(t, refused, p+bad.key)
		}
		require.EqualValues(t, 80, v.Load().Server.Port)
		require.Error(t, v.Status().Err())
		mend := []etcd.Op{etcd.OpPut(p+"server/port", []byte("80"))}
		if bad.key != "server/port" {
			mend = append(mend, etcd.OpDelete(p+bad.key))
		}
		require.NoError(t, second(c.Txn().Then(mend...).Commit(t.Context())))
		require.Eventually(t, func() bool { return v.Err() == nil }, patience, time.Millisecond)
	}
	// A value that can't be decrypted refuses the whole as well.
	plant(t, c, p+"server/host", planted)
	require.Eventually(t, func() bool { return errors.Is(v.Err(), etcd.ErrNotEncrypted) }, patience, time.Millisecond)
	require.Equal(t, p+"server/host", v.Err().(*live.RejectedError).Key)
	require.NotContains(t, v.Err().Error(), strings.TrimSpace(planted))
	require.NoError(t, c.Put(t.Context(), p+"server/host", []byte("h")))
	served(t, v, func(s *service) bool { return s.Server.Host == "h" })
	require.Equal(t, []string{"Server.Host"}, next(t, steps).Fields, "nothing but good ones was served")
}

func TestDeletingEverythingKeepsTheConfiguration(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a", p + "server/port": "1"})
	v := liveOf[service](t, c, p)
	defaulted := liveOf[service](t, c, p, live.WithDefaults(func() service { return service{Name: "default"} }))
	var deleted etcd.WriteResult
	require.NoError(t, second(c.DeletePrefix(t.Context(), p, etcd.WithResult(&deleted))))
	require.ErrorIs(t, refusedAt(t, v, deleted.Revision), etcd.ErrKeyNotFound)
	require.Equal(t, "a", v.Load().Name)
	served(t, defaulted, func(s *service) bool { return s.Name == "default" && s.Server.Port == 0 })
	require.NoError(t, defaulted.Err())
}

func TestRevisionWithoutChangesOfFieldsIsNoChange(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a"})
	v := liveOf[service](t, c, p)
	steps, before := stepsOf(within(t, patience), v), v.Load()
	revision := commit(t, c, map[string]string{p + "name": "a", p + "unknown": "u"})
	require.Eventually(t, func() bool { return v.Revision() == revision }, patience, time.Millisecond)
	require.Same(t, before, v.Load())
	commit(t, c, map[string]string{p + "name": "b"})
	require.Equal(t, "b", next(t, steps).New.Name)
}

func TestOddKeysAndLargeValuesAreNoTrouble(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := "\xff\x00" + prefix(t)
	type odd struct {
		Large []byte
		Text  string
		Rest  map[string]any `mapstructure:",remain"`
	}
	large := strings.Repeat("x", 1_400_000)
	values := map[string]string{p + "large": large, p + "\x00\xff": "binary", p: "the prefix itself"}
	for key, value := range values {
		require.NoError(t, c.Put(t.Context(), key, []byte(value)))
	}
	v := liveOf[odd](t, c, p)
	require.Len(t, v.Load().Large, len(large))
	require.Equal(t, map[string]any{"\x00\xff": "binary", "": "the prefix itself"}, v.Load().Rest)

	require.NoError(t, c.Put(t.Context(), p+"text", []byte(large)))
	served(t, v, func(o *odd) bool { return len(o.Text) == len(large) })
	require.Len(t, v.Load().Rest, 2)
	require.NoError(t, v.Err())
}

func TestClaimsArePartOfNoConfiguration(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a"})
	hold := func(name string) {
		lock, err := c.NewLock(p + name)
		require.NoError(t, err)
		require.NoError(t, lock.Lock(within(t, patience)))
		t.Cleanup(func() { require.NoError(t, lock.Close()) })
	}
	hold("before")
	v := liveOf[service](t, c, p, live.WithStrict())
	hold("after")
	commit(t, c, map[string]string{p + "name": "b"})
	served(t, v, func(s *service) bool { return s.Name == "b" })
	require.NoError(t, v.Err())
}

func TestConfigurationOfAWholeNamespace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithNamespace("/service/"))
	commit(t, c, map[string]string{"name": "a", "server/port": "1"})
	require.NoError(t, client(t, config(srv)).Put(t.Context(), "/other/name", nil))
	v := liveOf[service](t, c, "", live.WithAllKeys(), live.WithStrict())
	require.Equal(t, "a", v.Load().Name)
	require.EqualValues(t, 1, v.Load().Server.Port)
}

func TestOpenFailsOnABadFirstConfiguration(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	_, err := live.Open[service](within(t, patience), c, p)
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
	revision := commit(t, c, map[string]string{p + "server/port": "x"})
	_, err = live.Open[service](within(t, patience), c, p)
	var r *live.RejectedError
	require.ErrorAs(t, err, &r)
	require.Equal(t, revision, r.Revision)
	require.Equal(t, p+"server/port", r.Key)
	var e *etcd.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, p, e.Key)
	_, err = live.OpenDocument[service](within(t, patience), c, p+"none")
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
}

func TestBadOpenSendsNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	type clash struct {
		A int `mapstructure:"x"`
		B int `mapstructure:"X"`
	}
	type forJSON struct {
		A int `json:"b"`
	}
	closed := client(t, config(srv))
	require.NoError(t, closed.Close())
	for name, call := range map[string]func() error{
		"tag": func() error { return second(live.OpenDocument[forJSON](t.Context(), c, "k")) },
		"folder": func() error {
			return second(live.Open[service](t.Context(), c, "/p/", live.WithLastGood(t.TempDir()+"/none/x")))
		},
		"type":   func() error { return second(live.Open[clash](t.Context(), c, "/p/")) },
		"prefix": func() error { return second(live.Open[service](t.Context(), c, "")) },
		"key":    func() error { return second(live.OpenDocument[service](t.Context(), c, "")) },
		"option": func() error { return second(live.Open[service](t.Context(), c, "/p/", nil)) },
		"validate": func() error {
			return second(live.Open[service](t.Context(), c, "/p/", live.WithValidate[service](nil)))
		},
		"other type": func() error {
			return second(live.Open[service](t.Context(), c, "/p/", live.WithValidate(func(*clash) error { return nil })))
		},
		"long key": func() error { return second(live.OpenDocument[service](t.Context(), c, longKey)) },
		"closed": func() error {
			return second(live.Open[service](t.Context(), closed, "/p/", live.WithLastGood(t.TempDir()+"/x")))
		},
		"closed key": func() error { return second(live.OpenDocument[service](t.Context(), closed, "k")) },
	} {
		var err error
		require.Empty(t, o.during(func() { err = call() }), name)
		require.True(t, etcdAny(err, etcd.ErrInvalidArgument, etcd.ErrEmptyKey, etcd.ErrEmptyPrefix, etcd.ErrTooLarge, etcd.ErrClosed), "%s: %v", name, err)
		var e *etcd.Error
		require.ErrorAs(t, err, &e, name)
		require.False(t, e.Sent, name)
	}
}

func TestLoadAllocatesNothing(t *testing.T) {
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a"})
	v := liveOf[service](t, c, p)
	require.Zero(t, testing.AllocsPerRun(1000, func() { _ = v.Load().Name }))
}

func BenchmarkLiveLoad(b *testing.B) {
	c := client(b, config(server(b)))
	require.NoError(b, c.Put(b.Context(), "/live/name", []byte("a")))
	v, err := live.Open[service](b.Context(), c, "/live/")
	require.NoError(b, err)
	b.Cleanup(v.Close)
	for b.Loop() {
		_ = v.Load().Name
	}
}
