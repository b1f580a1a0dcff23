package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// fipsVariable makes the test binary be a client of the endpoint that it holds,
// instead of running the tests.
const fipsVariable = "ETCD_INTEGRATION_FIPS_CLIENT"

// The server itself names its members by SHA-1 and does not start there, so that
// the client is a process of its own.
func TestEncryptionWorksWhereOnlyApprovedServicesRun(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(within(t, busyTimeout), self)
	cmd.Env = append(os.Environ(), fipsVariable+"="+server(t).Endpoint(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "all is well\n", string(out))
}

// beFIPSClientIfAsked uses all of encryption, if this process is the child of the
// test above, and reports whether it was.
func beFIPSClientIfAsked() bool {
	endpoint := os.Getenv(fipsVariable)
	if endpoint == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), busyTimeout)
	defer cancel()
	err := errors.Join(fipsPaths(ctx, endpoint), fipsRotation(ctx, endpoint), fipsStoredRing(ctx, endpoint))
	if err == nil {
		err = errors.New("all is well")
	}
	fmt.Println(err)
	return true
}

// withFIPSClient has f use a client.
func withFIPSClient(endpoint string, set func(*etcd.Config) *etcd.Config, f func(c *etcd.Client) error) error {
	c, err := etcd.NewClient(set(etcd.DefaultConfig().WithEndpoints(endpoint)))
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// fipsPaths writes and reads in every way, in every suite.
func fipsPaths(ctx context.Context, endpoint string) error {
	secret, err := etcd.KeyFromPassphrase("a passphrase", []byte("0123456789abcdef"))
	if err != nil {
		return err
	}
	key, err := etcd.NewEncryptionKey(secret)
	if err != nil {
		return err
	}
	ring, err := etcd.NewKeyring(key.WithPlainGCM())
	if err != nil {
		return err
	}
	var errs []error
	for name, set := range map[string]func(*etcd.Config) *etcd.Config{
		"XAES": func(c *etcd.Config) *etcd.Config { return c.WithEncryption(secret).WithCompression(1024) },
		"GCM":  func(c *etcd.Config) *etcd.Config { return c.WithKeyring(ring) },
		"AEAD": func(c *etcd.Config) *etcd.Config { return c.WithAEAD(etcd.KeyID{1}, newTestAEAD("a")) },
	} {
		errs = append(errs, withFIPSClient(endpoint, set, func(c *etcd.Client) error {
			p := "/" + name + "/"
			for path, write := range writePaths {
				if err := write(ctx, c, p+"write/"+path); err != nil {
					return fmt.Errorf("%s through %s: %w", name, path, err)
				}
			}
			p += "read/"
			if err := c.BulkPut(ctx, map[string][]byte{p + "good": []byte(large), p + "odd": secret}); err != nil {
				return err
			}
			for path, read := range readPaths {
				got, err := read.read(ctx, c, p, p+"odd")
				if err != nil || got[p+"odd"] != string(secret) {
					return fmt.Errorf("%s through %s: %w", name, path, err)
				}
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// fipsRotation moves a value of another key, and one of the Blueprint provider.
func fipsRotation(ctx context.Context, endpoint string) error {
	now, err := etcd.NewEncryptionKey(testKey)
	if err != nil {
		return err
	}
	old, err := etcd.NewEncryptionKey(etcd.GenerateKey())
	if err != nil {
		return err
	}
	ring, err := etcd.NewKeyring(old, now)
	if err != nil {
		return err
	}
	set := func(c *etcd.Config) *etcd.Config { return c.WithKeyring(ring).WithLegacyKey(legacyKey, "") }
	return withFIPSClient(endpoint, set, func(c *etcd.Client) error {
		if _, err := c.Raw().Do(ctx, clientv3.OpPut("/rotate/legacy", legacyValue("of the provider"))); err != nil {
			return err
		}
		err := errors.Join(c.Put(ctx, "/rotate/old", []byte("old")), ring.Replace(now, old))
		if err != nil {
			return err
		}
		report, err := c.Reencrypt(ctx, "/rotate/")
		if err != nil || report.Rewritten != 2 {
			return fmt.Errorf("%+v: %w", report, err)
		}
		value, err := c.Get(ctx, "/rotate/legacy")
		if err == nil && string(value) != "of the provider" {
			err = fmt.Errorf("got %q", value)
		}
		return err
	})
}

// fipsStoredRing makes a stored ring and rotates it.
func fipsStoredRing(ctx context.Context, endpoint string) error {
	return withFIPSClient(endpoint, func(c *etcd.Config) *etcd.Config { return c }, func(c *etcd.Client) error {
		s, err := etcd.CreateKeyring(ctx, c, ringKey, newTestAEAD("outer"))
		if err != nil {
			return err
		}
		id, err := s.AddKey(ctx)
		return errors.Join(err, s.Promote(ctx, id), s.Close())
	})
}
