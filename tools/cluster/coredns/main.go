// Command coredns is CoreDNS with just what names inside a cluster need.
//
// The stock main package links some fifty plugins in, among them those of three clouds, which is most of its size and
// build time; that is the whole reason for this module.
package main

import (
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"

	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
