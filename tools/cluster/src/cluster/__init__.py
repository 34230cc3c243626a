"""A Kubernetes cluster from Go modules: an API server alone, or one whole node with Dapr's control plane."""
