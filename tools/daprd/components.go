package main

import (
	nameformat "github.com/dapr/components-contrib/nameresolution/nameformat"
	inmemory "github.com/dapr/components-contrib/pubsub/in-memory"
	"github.com/dapr/components-contrib/pubsub/kafka"
	"github.com/dapr/components-contrib/secretstores/local/env"
	"github.com/dapr/dapr/pkg/components/bindings"
	"github.com/dapr/dapr/pkg/components/configuration"
	"github.com/dapr/dapr/pkg/components/conversation"
	"github.com/dapr/dapr/pkg/components/crypto"
	"github.com/dapr/dapr/pkg/components/lock"
	middleware "github.com/dapr/dapr/pkg/components/middleware/http"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/secretstores"
	"github.com/dapr/dapr/pkg/components/state"
	"github.com/dapr/dapr/pkg/runtime/registry"
	"github.com/dapr/kit/logger"
)

// Made at start, as every logger must be: the format chosen by flags reaches only those that exist by then.
var contrib = logger.NewLogger("dapr.contrib")

// componentRegistry lists what the files under components/ may name. The kinds left empty must still have a registry,
// since the runtime asks each of them by name while it loads resources.
func componentRegistry() *registry.Options {
	brokers := pubsub.NewRegistry()
	brokers.Logger = contrib
	brokers.RegisterComponent(kafka.NewKafka, "kafka")
	brokers.RegisterComponent(inmemory.New, "in-memory")

	secrets := secretstores.NewRegistry()
	secrets.Logger = contrib
	secrets.RegisterComponent(env.NewEnvSecretStore, "local.env")

	// The resolver that makes no network call: the default, mDNS, would announce every sidecar on the local network.
	resolvers := nameresolution.NewRegistry()
	resolvers.Logger = contrib
	resolvers.RegisterComponent(nameformat.NewResolver, "nameformat")

	return registry.NewOptions().
		WithPubSubs(brokers).
		WithSecretStores(secrets).
		WithNameResolutions(resolvers).
		WithStateStores(state.NewRegistry()).
		WithConfigurations(configuration.NewRegistry()).
		WithLocks(lock.NewRegistry()).
		WithBindings(bindings.NewRegistry()).
		WithCryptoProviders(crypto.NewRegistry()).
		WithHTTPMiddlewares(middleware.NewRegistry()).
		WithConversations(conversation.NewRegistry())
}
