// Modules of which only files are read: definitions of custom resources, and Dapr's chart.
module taskwire/tools/cluster/crds

go 1.26.4

require (
	github.com/dapr/dapr v1.18.1
	github.com/external-secrets/external-secrets v1.3.2
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
