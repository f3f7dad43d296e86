//go:build tools

// Package conformance pins what `make conformance` builds: upstream's suite, its runner, and the programs of its
// test images. Nothing here is changed or copied; the modules are fetched when they are built.
package conformance

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
	_ "k8s.io/kubernetes/test/images/nonewprivs"
)
