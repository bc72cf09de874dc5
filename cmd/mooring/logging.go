// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"k8s.io/klog/v2"
)

// Formats of the log.
const (
	logText = "text" // klog's
	logJSON = "json"
)

// setLogFormat makes the process log in a format. JSON goes to out, one object a line.
func setLogFormat(format string, out io.Writer) error {
	switch format {
	case logText:
	case logJSON:
		klog.SetSlogLogger(slog.New(newJSONHandler(out)))
	default:
		return fmt.Errorf("--log-format: %q is neither %s nor %s", format, logText, logJSON)
	}
	return nil
}

// loggedError is the error of a process that has logged it.
type loggedError struct{ error }

// logError logs why the process ends, if the log is JSON. Text goes to stderr as the error of a command.
func logError(format string, err error) error {
	if err == nil || format != logJSON {
		return err
	}
	klog.Background().Error(err, "Mooring ends")
	return loggedError{err}
}

// jsonHandler writes log records as JSON. It collects the attributes of a logger, because slog's own
// handler writes a key twice that a logger and one of its records have. The verbosity is klog's: --v.
type jsonHandler struct {
	slog.Handler
	attributes []slog.Attr
}

func newJSONHandler(out io.Writer) slog.Handler {
	return &jsonHandler{Handler: slog.NewJSONHandler(out, &slog.HandlerOptions{AddSource: true, Level: slog.Level(-127), ReplaceAttr: formatAttribute})}
}

// Enabled reports whether --v includes a level. klog's V(4) is slog's level -4.
func (h *jsonHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= 0 || klog.V(klog.Level(-level)).Enabled()
}

// WithAttrs returns a handler with more attributes.
func (h *jsonHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &jsonHandler{h.Handler, mergeAttributes(h.attributes, attributes)}
}

// Handle writes a record. It implements slog.Handler.
func (h *jsonHandler) Handle(ctx context.Context, record slog.Record) error {
	all := h.attributes
	record.Attrs(func(a slog.Attr) bool {
		all = mergeAttributes(all, []slog.Attr{a})
		return true
	})
	merged := slog.NewRecord(record.Time, record.Level, record.Message, record.PC)
	merged.AddAttrs(all...)
	return h.Handler.Handle(ctx, merged)
}

// mergeAttributes returns the attributes with one value per key: the last.
func mergeAttributes(before, after []slog.Attr) []slog.Attr {
	merged := make([]slog.Attr, 0, len(before)+len(after))
	index := map[string]int{}
	for _, list := range [][]slog.Attr{before, after} {
		for _, a := range list {
			if i, exists := index[a.Key]; exists {
				merged[i] = a
				continue
			}
			index[a.Key] = len(merged)
			merged = append(merged, a)
		}
	}
	return merged
}

// formatAttribute writes levels, places in the code and values as klog's text does.
func formatAttribute(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case slog.Level:
		if v < 0 {
			return slog.String(a.Key, slog.LevelDebug.String())
		}
	case *slog.Source:
		return slog.String("caller", fmt.Sprintf("%s:%d", filepath.Base(v.File), v.Line)) // a copy has a "source"
	case nil: // the error of Error(nil, ...)
		return slog.Attr{}
	case error, json.Marshaler, encoding.TextMarshaler:
	case fmt.Stringer:
		return slog.String(a.Key, fmt.Sprint(v)) // String may panic: v may be nil
	}
	return a
}
