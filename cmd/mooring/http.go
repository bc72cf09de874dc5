// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

const (
	// httpRetryInterval is how often the process tries to listen on an occupied address.
	httpRetryInterval = 30 * time.Second
	// httpHeaderTimeout bounds reading the header of a request.
	httpHeaderTimeout = 10 * time.Second
)

// profiles serves Go's profiles at /debug/pprof/.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serveHTTP serves metrics or profiles in the background, if address is not "". If the address is in use, for
// example by another replica on the same host network, it tries again: that must not keep the process
// from serving volumes.
func serveHTTP(ctx context.Context, background *sync.WaitGroup, address string, handler http.Handler) {
	if address == "" {
		return
	}
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: httpHeaderTimeout}
	background.Go(func() {
		for {
			err := server.ListenAndServe()
			if errors.Is(err, http.ErrServerClosed) {
				return
			}
			klog.FromContext(ctx).Error(err, "Cannot serve HTTP yet", "address", address)
			select {
			case <-ctx.Done():
				return
			case <-time.After(httpRetryInterval):
			}
		}
	})
	background.Go(func() {
		<-ctx.Done()
		_ = server.Close()
	})
}
