// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/kube"
	"k8s.io/klog/v2"
)

// recordEvent records a Kubernetes event for the administrator.
type recordEvent func(ctx context.Context, reason, message string)

// newEventRecorder returns a function that records events of the driver's pod. Without --pod it records none.
func newEventRecorder(o options) (recordEvent, error) {
	if o.pod == "" {
		return func(context.Context, string, string) {}, nil
	}
	pod, err := kube.ParsePod(o.pod)
	if err != nil {
		return nil, fmt.Errorf("--pod: %w", err)
	}
	client, err := kube.Open("", "")
	if err != nil {
		return nil, fmt.Errorf("--pod: %w", err)
	}
	return func(ctx context.Context, reason, message string) {
		if err := client.Event(ctx, pod, o.driverName, reason, message); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot record an event", "reason", reason, "message", message)
		}
	}, nil
}
