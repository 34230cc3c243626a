"""Kubernetes manifests: rendered by a real kustomize, with secrets that no commit holds."""
