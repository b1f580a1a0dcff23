package etcd

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
)

// ConfigFromEnv returns the configuration that the environment describes, for
// what it leaves open the defaults. It understands ETCD_ENDPOINTS and these
// variables of etcdctl, with etcdctl's meaning:
//
//	ETCDCTL_ENDPOINTS                 Endpoints, separated by commas
//	ETCDCTL_USER                      Username, or Username:Password
//	ETCDCTL_PASSWORD                  Password; the user is then taken whole
//	ETCDCTL_CERT, ETCDCTL_KEY         CertFile, KeyFile
//	ETCDCTL_CACERT                    CAFile
//	ETCDCTL_INSECURE_SKIP_TLS_VERIFY  InsecureSkipVerify
//	ETCDCTL_INSECURE_TRANSPORT        false: TLS for endpoints without a scheme
//	ETCDCTL_DIAL_TIMEOUT              DialTimeout, such as "2s"
//	ETCDCTL_COMMAND_TIMEOUT           RequestTimeout
//	ETCDCTL_KEEPALIVE_TIME            KeepAliveInterval; raised to 10 seconds as
//	                                  gRPC does for etcdctl
//	ETCDCTL_KEEPALIVE_TIMEOUT         KeepAliveTimeout
//
// ETCD_ENDPOINTS has the same form as ETCDCTL_ENDPOINTS and wins over it. A
// variable of etcdctl that is set but empty counts as not set; an empty
// ETCD_ENDPOINTS is refused, so that a failed look-up does not end at another
// cluster. Blanks around endpoints are dropped.
//
// A value that can't be understood is an [ErrInvalidConfig] that names the
// variable, and all of them are named at once. Whether the values fit together
// is left to [Config.Validate].
func ConfigFromEnv() (*Config, error) {
	e := environment{config: DefaultConfig()}
	c := e.config
	e.endpoints()
	e.user()
	e.text("ETCDCTL_CERT", &c.CertFile)
	e.text("ETCDCTL_KEY", &c.KeyFile)
	e.text("ETCDCTL_CACERT", &c.CAFile)
	e.flag("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", &c.InsecureSkipVerify)
	plaintext := true
	e.flag("ETCDCTL_INSECURE_TRANSPORT", &plaintext)
	c.tls = !plaintext
	e.duration("ETCDCTL_DIAL_TIMEOUT", &c.DialTimeout)
	e.duration("ETCDCTL_COMMAND_TIMEOUT", &c.RequestTimeout)
	e.duration("ETCDCTL_KEEPALIVE_TIME", &c.KeepAliveInterval)
	c.KeepAliveInterval = max(c.KeepAliveInterval, minKeepAliveInterval)
	e.duration("ETCDCTL_KEEPALIVE_TIMEOUT", &c.KeepAliveTimeout)
	if e.problems != nil {
		return nil, &invalidConfig{e.problems}
	}
	return c, nil
}

// environment is a Config on its way out of the environment.
type environment struct {
	config   *Config
	problems []error
}

func (e *environment) refuse(variable string, err error) {
	e.problems = append(e.problems, &problem{field: variable, err: err})
}

func (e *environment) endpoints() {
	const own, etcdctl = "ETCD_ENDPOINTS", "ETCDCTL_ENDPOINTS"
	if list, set := os.LookupEnv(own); set {
		e.split(own, list)
	} else if list := os.Getenv(etcdctl); list != "" {
		e.split(etcdctl, list)
	}
}

func (e *environment) split(variable, list string) {
	if strings.TrimSpace(list) == "" {
		e.refuse(variable, errors.New("no endpoints"))
		return
	}
	e.config.Endpoints = nil
	for raw := range strings.SplitSeq(list, ",") {
		raw = strings.TrimSpace(raw)
		if _, err := parseEndpoint(raw); err != nil {
			e.refuse(variable, err)
		}
		e.config.Endpoints = append(e.config.Endpoints, raw)
	}
}

func (e *environment) user() {
	c := e.config
	c.Username, c.Password = os.Getenv("ETCDCTL_USER"), os.Getenv("ETCDCTL_PASSWORD")
	if c.Password == "" {
		c.Username, c.Password, _ = strings.Cut(c.Username, ":")
	}
}

func (e *environment) text(variable string, field *string) { *field = os.Getenv(variable) }

func (e *environment) flag(variable string, field *bool) {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		e.refuse(variable, errors.New("neither true nor false"))
		return
	}
	*field = v
}

func (e *environment) duration(variable string, field *time.Duration) {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		e.refuse(variable, errors.New("not a duration such as 2s or 500ms"))
		return
	}
	*field = v
}
