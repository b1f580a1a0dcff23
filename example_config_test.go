package etcd_test

import (
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/blueprint-go/etcd"
)

// Setters chain. A password that a setter was given shows nowhere.
func ExampleDefaultConfig() {
	config := etcd.DefaultConfig().
		WithEndpoints("https://etcd-1:2379", "https://etcd-2:2379").
		WithRequireTLS().
		WithAuth("app", "hunter2").
		WithTimeout(2 * time.Second).
		WithNamespace("/tenants/7/")
	if err := config.Validate(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(fmt.Sprintf("%#v", config), "hunter2"))
	// Output: false
}

// The environment is that of etcdctl, and ETCD_ENDPOINTS.
func ExampleConfigFromEnv() {
	for name, value := range map[string]string{
		"ETCD_ENDPOINTS":          "https://etcd-1:2379,https://etcd-2:2379",
		"ETCDCTL_COMMAND_TIMEOUT": "3s",
	} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
		defer func() { _ = os.Unsetenv(name) }()
	}

	config, err := etcd.ConfigFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(config.Endpoints, config.RequestTimeout)
	// Output: [https://etcd-1:2379 https://etcd-2:2379] 3s
}
