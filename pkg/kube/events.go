// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Pod names a pod.
type Pod struct{ Namespace, Name, UID string }

// ParsePod reads "namespace/name/uid".
func ParsePod(text string) (Pod, error) {
	part := strings.Split(text, "/")
	if len(part) != 3 || part[0] == "" || part[1] == "" || part[2] == "" {
		return Pod{}, fmt.Errorf("%q is not a pod: use NAMESPACE/NAME/UID", text)
	}
	return Pod{part[0], part[1], part[2]}, nil
}

// Event records an event of a pod, as kubectl describe shows it: reporter is the name of the driver,
// reason one word in CamelCase (Kubernetes API, Event v1 core).
func (c *Client) Event(ctx context.Context, pod Pod, reporter, reason, message string) error {
	type object = map[string]any
	now := time.Now().UTC().Format(time.RFC3339)
	return c.create(ctx, "/api/v1/namespaces/"+pod.Namespace+"/events", object{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       object{"generateName": pod.Name + ".", "namespace": pod.Namespace},
		"involvedObject": object{"apiVersion": "v1", "kind": "Pod", "namespace": pod.Namespace, "name": pod.Name, "uid": pod.UID},
		"type":           "Normal", "reason": reason, "message": message,
		"source": object{"component": reporter}, "reportingComponent": reporter, "reportingInstance": pod.Name,
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	})
}
