module github.com/blueprint-go/etcd/internal/integration

go 1.26.0
