package main

import (
	"context"

	"go.opencensus.io/stats/view"

	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/metrics"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/kit/concurrency"
)

// run starts one sidecar and returns when ctx has ended and the runtime has drained.
func run(ctx context.Context, opts *options.Options) error {
	health := healthz.New()
	identity, err := security.New(ctx, securityOptions(opts, health))
	if err != nil {
		return err
	}

	sidecar := func(ctx context.Context) error {
		handler, err := identity.Handler(ctx)
		if err != nil {
			return err
		}
		config := runtimeConfig(opts, health)
		config.Security = handler
		rt, err := runtime.FromConfig(ctx, config)
		if err != nil {
			return err
		}
		return rt.Run(ctx)
	}
	// The identity provider must outlive the drain: the manager ends both together.
	return concurrency.NewRunnerManager(identity.Run, sidecar).Run(ctx)
}

func securityOptions(opts *options.Options, health healthz.Healthz) security.Options {
	return security.Options{
		Mode:                    modes.DaprMode(opts.Mode),
		AppID:                   opts.AppID,
		Healthz:                 health,
		MTLSEnabled:             opts.EnableMTLS,
		SentryAddress:           opts.SentryAddress,
		TrustAnchors:            opts.TrustAnchors,
		ControlPlaneTrustDomain: opts.ControlPlaneTrustDomain,
		ControlPlaneNamespace:   opts.ControlPlaneNamespace,
		JwtAudiences:            opts.SentryRequestJwtAudiences,
	}
}

func metricsOptions(opts *options.Options, health healthz.Healthz) metrics.Options {
	return metrics.Options{
		Log:           log,
		Healthz:       health,
		Meter:         view.NewMeter(),
		Namespace:     metrics.DefaultMetricNamespace,
		Enabled:       opts.Metrics.Enabled(),
		Port:          opts.Metrics.Port(),
		ListenAddress: opts.Metrics.ListenAddress(),
	}
}

// runtimeConfig hands every flag on: one that is parsed and not passed here would be accepted and then ignored.
func runtimeConfig(opts *options.Options, health healthz.Healthz) *runtime.Config {
	return &runtime.Config{
		Healthz:  health,
		Metrics:  metricsOptions(opts, health),
		Registry: componentRegistry(),

		AppID:          opts.AppID,
		Mode:           opts.Mode,
		Config:         opts.Config,
		ResourcesPath:  opts.ResourcesPath,
		ComponentsPath: opts.ComponentsPath,

		ApplicationPort:        opts.AppPort,
		AppProtocol:            opts.AppProtocol,
		AppChannelAddress:      opts.AppChannelAddress,
		AppMaxConcurrency:      opts.AppMaxConcurrency,
		AppSSL:                 opts.AppSSL,
		EnableAppHealthCheck:   opts.EnableAppHealthCheck,
		AppHealthCheckPath:     opts.AppHealthCheckPath,
		AppHealthProbeInterval: opts.AppHealthProbeInterval,
		AppHealthProbeTimeout:  opts.AppHealthProbeTimeout,
		AppHealthThreshold:     opts.AppHealthThreshold,

		DaprHTTPPort:                  opts.DaprHTTPPort,
		DaprAPIGRPCPort:               opts.DaprAPIGRPCPort,
		DaprAPIListenAddresses:        opts.DaprAPIListenAddresses,
		DaprInternalGRPCPort:          opts.DaprInternalGRPCPort,
		DaprInternalGRPCListenAddress: opts.DaprInternalGRPCListenAddress,
		DaprPublicPort:                opts.DaprPublicPort,
		DaprPublicListenAddress:       opts.DaprPublicListenAddress,
		UnixDomainSocket:              opts.UnixDomainSocket,
		AllowedOrigins:                opts.AllowedOrigins,
		MaxRequestSize:                opts.MaxRequestSize,
		ReadBufferSize:                opts.ReadBufferSize,
		DisableInitEndpoints:          opts.DisableInitEndpoints,
		EnableAPILogging:              opts.EnableAPILogging,
		ProfilePort:                   opts.ProfilePort,
		EnableProfiling:               opts.EnableProfiling,

		DaprGracefulShutdownSeconds: opts.DaprGracefulShutdownSeconds,
		DaprBlockShutdownDuration:   opts.DaprBlockShutdownDuration,

		EnableMTLS:                   opts.EnableMTLS,
		SentryAddress:                opts.SentryAddress,
		ControlPlaneAddress:          opts.ControlPlaneAddress,
		DisableBuiltinK8sSecretStore: opts.DisableBuiltinK8sSecretStore,

		ActorsService:              opts.ActorsService,
		ActorsDisseminationTimeout: opts.ActorsDisseminationTimeout,
		RemindersService:           opts.RemindersService,
		SchedulerAddress:           opts.SchedulerAddress,
		SchedulerStreams:           opts.SchedulerJobStreams,
	}
}
