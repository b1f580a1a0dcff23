package etcd

import (
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blueprint-go/etcd/internal/dial"
)

// ConfigFromEnv returns the configuration that the environment describes, and the
// defaults for the rest. It understands ETCD_ENDPOINTS and these variables of etcdctl,
// with etcdctl's meaning:
//
//	ETCDCTL_ENDPOINTS                 Endpoints, separated by commas
//	ETCDCTL_USER                      Username, or Username:Password
//	ETCDCTL_PASSWORD                  Password; the user is then taken whole
//	ETCDCTL_AUTH_JWT_TOKEN            Token
//	ETCDCTL_CERT, ETCDCTL_KEY         CertFile, KeyFile
//	ETCDCTL_CACERT                    CAFile
//	ETCDCTL_INSECURE_SKIP_TLS_VERIFY  InsecureSkipVerify
//	ETCDCTL_INSECURE_TRANSPORT        false: TLS for endpoints without a scheme
//	ETCDCTL_DIAL_TIMEOUT              DialTimeout, such as "2s"
//	ETCDCTL_COMMAND_TIMEOUT           RequestTimeout
//	ETCDCTL_KEEPALIVE_TIME            KeepAliveInterval; raised to 10 seconds as
//	                                  gRPC does for etcdctl
//	ETCDCTL_KEEPALIVE_TIMEOUT         KeepAliveTimeout
//	ETCDCTL_MAX_REQUEST_BYTES         MaxRequestBytes
//	ETCDCTL_DISCOVERY_SRV             Endpoints, looked up at once as DiscoverySRV
//	                                  is; wins over ETCDCTL_ENDPOINTS
//	ETCDCTL_DISCOVERY_SRV_NAME        as DiscoverySRVName
//	ETCDCTL_INSECURE_DISCOVERY        false: RequireTLS, and the domain as ServerName
//
// Variables that only affect what etcdctl prints are ignored: ETCDCTL_WRITE_OUT,
// ETCDCTL_HEX, ETCDCTL_DEBUG, ETCDCTL_WATCH_KEY, ETCDCTL_WATCH_RANGE_END and an
// ETCDCTL_API of 3. Variables that a client would have to follow and this one can't are
// refused by name: ETCDCTL_MAX_RECV_BYTES, and all of API version 2, such as
// ETCDCTL_CA_FILE.
//
// ETCD_ENDPOINTS has the same form as ETCDCTL_ENDPOINTS and wins over it. Together with
// ETCDCTL_DISCOVERY_SRV it is refused. A variable of etcdctl that is set but empty counts
// as not set; an empty ETCD_ENDPOINTS is refused, so that a failed lookup does not end at
// another cluster. Blanks around endpoints are dropped.
//
// A value that can't be understood is an [ErrInvalidConfig] that names the variable; all
// such variables are named at once. [Config.Validate] checks whether the values fit
// together.
func ConfigFromEnv() (*Config, error) { return configFromEnv(nil) }

// configFromEnv takes the resolver for SRV records; nil means the default.
func configFromEnv(r *net.Resolver) (*Config, error) {
	e := environment{config: DefaultConfig(), resolver: r}
	c := e.config
	e.endpoints()
	e.user()
	e.text("ETCDCTL_AUTH_JWT_TOKEN", &c.Token)
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
	e.number("ETCDCTL_MAX_REQUEST_BYTES", &c.MaxRequestBytes)
	e.discovery()
	e.strangers()
	if e.problems != nil {
		return nil, &invalidConfig{e.problems}
	}
	return c, nil
}

// environment is a Config while it is read from the environment.
type environment struct {
	config   *Config
	resolver *net.Resolver
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
		if _, err := dial.ParseEndpoint(raw); err != nil {
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

// discovery reads the variables for SRV records as etcdctl does: they win over endpoints,
// and say what the servers' certificates must hold only if insecure records are refused.
func (e *environment) discovery() {
	const variable = "ETCDCTL_DISCOVERY_SRV"
	c := e.config
	domain, insecure := os.Getenv(variable), true
	e.flag("ETCDCTL_INSECURE_DISCOVERY", &insecure)
	if domain == "" {
		return
	}
	if _, set := os.LookupEnv("ETCD_ENDPOINTS"); set {
		e.refuse(variable, errors.New("is set together with ETCD_ENDPOINTS"))
	}
	c.WithDiscoverySRV(domain, os.Getenv("ETCDCTL_DISCOVERY_SRV_NAME"))
	if !insecure {
		c.RequireTLS, c.ServerName = true, domain
	}
	if err := checkDiscovery(c); err != nil {
		e.refuse(variable, err)
	}
	if e.problems != nil {
		return
	}
	c.Resolver = e.resolver
	if err := c.discover(); err != nil {
		e.refuse(variable, err)
	}
	c.Resolver = nil
}

// otherVariables are the variables of etcdctl 3.4 to 3.7 that would make it connect or
// behave differently and that have no meaning here, each with what to do instead.
var otherVariables = map[string]string{
	"ETCDCTL_MAX_RECV_BYTES": "this client has no limit for answers",

	"ETCDCTL_PEERS":         "is of API version 2; set ETCDCTL_ENDPOINTS",
	"ETCDCTL_ENDPOINT":      "is of API version 2; set ETCDCTL_ENDPOINTS",
	"ETCDCTL_CERT_FILE":     "is of API version 2; set ETCDCTL_CERT",
	"ETCDCTL_KEY_FILE":      "is of API version 2; set ETCDCTL_KEY",
	"ETCDCTL_CA_FILE":       "is of API version 2; set ETCDCTL_CACERT",
	"ETCDCTL_USERNAME":      "is of API version 2; set ETCDCTL_USER",
	"ETCDCTL_TIMEOUT":       "is of API version 2; set ETCDCTL_DIAL_TIMEOUT",
	"ETCDCTL_TOTAL_TIMEOUT": "is of API version 2; set ETCDCTL_COMMAND_TIMEOUT",
}

// strangers refuses the variables that this package doesn't follow.
func (e *environment) strangers() {
	for _, variable := range slices.Sorted(maps.Keys(otherVariables)) {
		if v := os.Getenv(variable); v != "" && (variable != "ETCDCTL_MAX_RECV_BYTES" || v != "0") {
			e.refuse(variable, errors.New(otherVariables[variable]))
		}
	}
	if v := os.Getenv("ETCDCTL_API"); v != "" && v != "3" {
		e.refuse("ETCDCTL_API", errors.New("only version 3 is spoken here"))
	}
}

func (e *environment) number(variable string, field *int) {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 0 {
		e.refuse(variable, errors.New("is not a number of bytes"))
		return
	}
	if v > 0 { // 0 is etcdctl's default
		*field = v
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
