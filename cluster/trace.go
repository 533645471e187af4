package cluster

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// traceparent returns the W3C trace context of ctx's span, "" for none.
func traceparent(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}
