module github.com/blueprint-go/etcd/examples

go 1.26.0
