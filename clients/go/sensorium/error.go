package sensorium

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Error is a call that failed, with what the mesh said about it. errors.As finds it in what a unary call of a Mesh returns.
type Error struct {
	Code    codes.Code
	Message string
	// Reason is for programs, e.g. TOKEN_EXPIRED; empty where there is none.
	Reason string
	// Violations are the fields that are wrong.
	Violations []Violation
	// RetryAfter says when to try again; 0 where it does not.
	RetryAfter time.Duration
	// RequestID is what to ask the mesh's logs for; empty if the mesh was not reached.
	RequestID string

	status *status.Status
}

// Violation is one field of the request that is wrong.
type Violation struct{ Field, Description string }

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// GRPCStatus lets status.FromError and status.Code see through an Error.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// fromStatus reads the details of a failed call. A reply that is only trailers carries its metadata in either place.
func fromStatus(err error, header, trailer metadata.MD) error {
	said, ok := status.FromError(err)
	if !ok {
		return err
	}
	failed := &Error{Code: said.Code(), Message: said.Message(), status: said}
	for _, value := range append(trailer.Get("x-request-id"), header.Get("x-request-id")...) {
		failed.RequestID = value
		break
	}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failed.Reason = detail.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failed.Violations = append(failed.Violations, Violation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			failed.RetryAfter = detail.GetRetryDelay().AsDuration()
		case *errdetails.RequestInfo:
			failed.RequestID = detail.GetRequestId()
		}
	}
	return failed
}
