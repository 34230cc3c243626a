// Command daprd is the Dapr runtime with just the components Taskwire uses.
//
// It takes daprd's own flags and behaves as daprd does, so that the stack can start either. The stock main package
// (cmd/daprd/app) refuses to start unless a build tag links some fifty components in, which is most of its size and
// build time; that is the whole reason for this module.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/signals"
)

const daprModule = "github.com/dapr/dapr"

var log = logger.NewLogger("dapr.runtime")

func main() {
	opts, err := options.New(os.Args[1:])
	if err != nil {
		log.Fatalf("Cannot read the command line: %v", err)
	}

	switch {
	case opts.RuntimeVersion:
		fmt.Println(linkedVersion())
		return
	case opts.BuildInfo:
		fmt.Printf("Version: %s (linked by Taskwire)\n", linkedVersion())
		return
	case opts.WaitCommand:
		runtime.WaitUntilDaprOutboundReady(opts.DaprHTTPPort)
		return
	}

	logger.DaprVersion = linkedVersion()
	opts.Logger.SetAppID(opts.AppID)
	if err := logger.ApplyOptionsToLoggers(&opts.Logger); err != nil {
		log.Fatalf("Cannot set up logging: %v", err)
	}
	log.Infof("Starting Dapr %s as linked by Taskwire, log level %s", linkedVersion(), opts.Logger.OutputLevel)

	if err := serve(signals.Context(), opts); err != nil {
		log.Fatalf("The Dapr runtime stopped: %v", err)
	}
	log.Info("Daprd shutdown gracefully")
}

// serve runs the sidecar until a signal ends it, and again from its files after each SIGHUP.
//
// The signal cancels ctx; the runtime then drains by itself, within --dapr-graceful-shutdown-seconds, before run returns.
func serve(ctx context.Context, opts *options.Options) error {
	generations := signals.OnHUP(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case generation, open := <-generations:
			if !open {
				return nil
			}
			if err := run(generation, opts); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			if generation.Err() == nil {
				return nil // ended by the shutdown API, not by a signal
			}
		}
	}
}

// linkedVersion is the version of the Dapr module inside this binary, without the leading v, as daprd prints it.
func linkedVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == daprModule && len(module.Version) > 1 {
				return module.Version[1:]
			}
		}
	}
	return "unknown"
}
