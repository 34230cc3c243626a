//go:build tools

// Package tools names the store behind a cluster's API, so that go.mod and go.sum pin all it is made of.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
