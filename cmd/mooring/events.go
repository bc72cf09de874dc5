// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/kube"
	"k8s.io/klog/v2"
)

// recordEvent has Kubernetes know of what an administrator should see.
type recordEvent func(ctx context.Context, reason, message string)

// newEventRecorder returns what tells newEventRecorder of the pod that this runs in. Without one there are none.
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
			klog.FromContext(ctx).Error(err, "Event is lost", "reason", reason, "message", message)
		}
	}, nil
}
