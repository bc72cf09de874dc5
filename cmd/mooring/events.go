// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/kube"
	"k8s.io/klog/v2"
)

// event has Kubernetes know of what an administrator should see.
type event func(ctx context.Context, reason, message string)

// events returns what tells events of the pod that this runs in. Without one there are none.
func events(o options) (event, error) {
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
