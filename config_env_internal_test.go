package etcd

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// setenv sets the environment to variables, for what ConfigFromEnv reads.
func setenv(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "ETCD") {
			t.Setenv(name, value) // has the cleanup restore it
			require.NoError(t, os.Unsetenv(name))
		}
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

func TestAnEmptyEnvironmentMeansTheDefaults(t *testing.T) {
	setenv(t, nil)
	c, err := ConfigFromEnv()
	require.NoError(t, err)
	assert.Equal(t, DefaultConfig(), c)

	empty := make(map[string]string)
	for _, name := range []string{
		"ENDPOINTS", "CACERT", "CERT", "KEY", "USER", "PASSWORD", "DIAL_TIMEOUT", "COMMAND_TIMEOUT",
		"KEEPALIVE_TIME", "KEEPALIVE_TIMEOUT", "INSECURE_SKIP_TLS_VERIFY", "INSECURE_TRANSPORT",
	} {
		empty["ETCDCTL_"+name] = ""
	}
	setenv(t, empty)
	c, err = ConfigFromEnv()
	require.NoError(t, err)
	assert.Equal(t, DefaultConfig(), c, "set but empty is not set")
}

func TestEachVariableOfEtcdctlSetsItsField(t *testing.T) {
	for name, row := range map[string]struct {
		variables map[string]string
		want      func(*Config)
	}{
		"endpoints":          {map[string]string{"ETCDCTL_ENDPOINTS": "a:1, https://b:2 "}, func(c *Config) { c.Endpoints = []string{"a:1", "https://b:2"} }},
		"own endpoints":      {map[string]string{"ETCD_ENDPOINTS": "a:1"}, func(c *Config) { c.Endpoints = []string{"a:1"} }},
		"both endpoints":     {map[string]string{"ETCD_ENDPOINTS": "a:1", "ETCDCTL_ENDPOINTS": "::::"}, func(c *Config) { c.Endpoints = []string{"a:1"} }},
		"user and password":  {map[string]string{"ETCDCTL_USER": "u:p:q"}, func(c *Config) { c.Username, c.Password = "u", "p:q" }},
		"password apart":     {map[string]string{"ETCDCTL_USER": "u", "ETCDCTL_PASSWORD": "p"}, func(c *Config) { c.Username, c.Password = "u", "p" }},
		"user with a colon":  {map[string]string{"ETCDCTL_USER": "u:v", "ETCDCTL_PASSWORD": "p"}, func(c *Config) { c.Username, c.Password = "u:v", "p" }},
		"files":              {map[string]string{"ETCDCTL_CERT": "c", "ETCDCTL_KEY": "k", "ETCDCTL_CACERT": "a"}, func(c *Config) { c.CertFile, c.KeyFile, c.CAFile = "c", "k", "a" }},
		"skip verification":  {map[string]string{"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "true"}, func(c *Config) { c.InsecureSkipVerify = true }},
		"secure transport":   {map[string]string{"ETCDCTL_INSECURE_TRANSPORT": "false"}, func(c *Config) { c.tls = true }},
		"insecure transport": {map[string]string{"ETCDCTL_INSECURE_TRANSPORT": "1"}, func(*Config) {}},
		"timeouts": {map[string]string{"ETCDCTL_DIAL_TIMEOUT": "2s", "ETCDCTL_COMMAND_TIMEOUT": "500ms"}, func(c *Config) {
			c.DialTimeout, c.RequestTimeout = 2*time.Second, 500*time.Millisecond
		}},
		"keep-alive": {map[string]string{"ETCDCTL_KEEPALIVE_TIME": "30s", "ETCDCTL_KEEPALIVE_TIMEOUT": "6s"}, func(c *Config) {
			c.KeepAliveInterval, c.KeepAliveTimeout = 30*time.Second, 6*time.Second
		}},
		"etcdctl's own keep-alive": {map[string]string{"ETCDCTL_KEEPALIVE_TIME": "2s"}, func(c *Config) { c.KeepAliveInterval = 10 * time.Second }},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, row.variables)
			want := DefaultConfig()
			row.want(want)
			c, err := ConfigFromEnv()
			require.NoError(t, err)
			assert.Equal(t, want, c)
		})
	}
}

func TestAllMalformedVariablesAreNamedWithoutPasswords(t *testing.T) {
	setenv(t, map[string]string{
		"ETCD_ENDPOINTS":                   "a:1,,http://u:hunter2@b",
		"ETCDCTL_ENDPOINTS":                "::::",
		"ETCDCTL_USER":                     ":hunter2",
		"ETCDCTL_PASSWORD":                 "hunter2",
		"ETCDCTL_DIAL_TIMEOUT":             "5",
		"ETCDCTL_COMMAND_TIMEOUT":          "-1s",
		"ETCDCTL_KEEPALIVE_TIME":           "often",
		"ETCDCTL_KEEPALIVE_TIMEOUT":        "1 s",
		"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "maybe",
		"ETCDCTL_INSECURE_TRANSPORT":       "2",
	})
	c, err := ConfigFromEnv()
	assert.Nil(t, c)
	require.ErrorIs(t, err, ErrInvalidConfig)
	for _, text := range []string{
		`ETCD_ENDPOINTS: endpoint "": is empty`, `ETCD_ENDPOINTS: endpoint "http://REDACTED@b"`,
		"ETCDCTL_DIAL_TIMEOUT", "ETCDCTL_COMMAND_TIMEOUT", "ETCDCTL_KEEPALIVE_TIME:", "ETCDCTL_KEEPALIVE_TIMEOUT:",
		"ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "ETCDCTL_INSECURE_TRANSPORT",
	} {
		assert.ErrorContains(t, err, text)
	}
	assert.NotContains(t, err.Error(), "ETCDCTL_ENDPOINTS", "it did not count")
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestEmptyEndpointListInEnvironmentIsRefused(t *testing.T) {
	for _, list := range []string{"", " "} {
		setenv(t, map[string]string{"ETCD_ENDPOINTS": list, "ETCDCTL_ENDPOINTS": "a:1"})
		_, err := ConfigFromEnv()
		assert.ErrorContains(t, err, "ETCD_ENDPOINTS: no endpoints")
	}
}
