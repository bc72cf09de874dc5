// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc/codes"
	"k8s.io/klog/v2"
)

// TestLogJSON checks the lines of --log-format json.
func TestLogJSON(t *testing.T) {
	defer klog.CaptureState().Restore()
	var out bytes.Buffer
	if err := setLogFormat("json", &out); err != nil {
		t.Fatal(err)
	}
	log := klog.Background().WithValues("share", "nas1", "volume", "nas1/v1")
	log.Error(errors.New("no route"), "RPC failed", "duration", 1500*time.Millisecond, "code", codes.Unavailable, "share", "nas2")
	log.Error(nil, "Panic", "entries", 3)
	log.Info("RPC done")
	log.V(9).Info("not with this verbosity")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("the log is %s", &out)
	}
	for i, want := range []map[string]any{
		{"level": "ERROR", "msg": "RPC failed", "err": "no route", "duration": "1.5s", "code": "Unavailable", "share": "nas2", "volume": "nas1/v1"},
		{"level": "ERROR", "msg": "Panic", "entries": 3.0, "share": "nas1", "volume": "nas1/v1"},
		{"level": "INFO", "msg": "RPC done", "share": "nas1", "volume": "nas1/v1"},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		caller, _ := got["caller"].(string)
		if got["time"] == nil || !strings.HasPrefix(caller, "logging_test.go:") || len(got) != len(want)+2 || strings.Count(lines[i], `"share"`) != 1 {
			t.Errorf("the line is %s", lines[i])
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s is %v, want %v: %s", key, got[key], value, lines[i])
			}
		}
	}
	out.Reset()
	var none *volume.PVC
	log.Info("Values", "source", "nas1/v2", "claim", none, "text", "\xff\x1b\n")
	var got map[string]any
	line := out.String()
	if err := json.Unmarshal([]byte(line), &got); err != nil || got["source"] != "nas1/v2" || got["claim"] != "<nil>" || strings.Count(line, `"source"`) != 1 {
		t.Errorf("%v: the line is %s", err, line)
	}
	if err := setLogFormat("xml", io.Discard); err == nil {
		t.Error("the format xml is accepted")
	}
	if err := setLogFormat("text", io.Discard); err != nil {
		t.Error(err)
	}
}
