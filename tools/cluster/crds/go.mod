module taskwire/tools/cluster/crds

go 1.26.4

require (
	github.com/dapr/dapr v1.18.1
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
