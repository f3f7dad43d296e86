// Command etcd runs upstream's etcd, taken whole from its published module. It is here so that `make bench` can measure
// corten-store beside its real peer in one run; nothing of etcd's behaviour is changed.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
