// Command etcdctl runs upstream's etcdctl 3.6, taken whole from its published module. It is here so that tests need no
// prebuilt binary; nothing of etcdctl's behaviour is changed.
package main

import "go.etcd.io/etcd/etcdctl/v3/ctlv3"

func main() {
	ctlv3.MustStart()
}
