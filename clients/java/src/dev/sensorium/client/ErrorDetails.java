package dev.sensorium.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/**
 * What the mesh said about a call that failed.
 *
 * @param code the gRPC status code
 * @param message for people
 * @param reason for programs, e.g. {@code TOKEN_EXPIRED}; empty where there is none
 * @param violations the fields that are wrong
 * @param retryAfter when to try again; null where it does not say
 * @param requestId what to ask the mesh's logs for; empty if the mesh was not reached
 */
public record ErrorDetails(Status.Code code, String message, String reason, List<Violation> violations,
    Duration retryAfter, String requestId) {
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  /** One field of the request that is wrong. */
  public record Violation(String field, String description) {}

  /** Reads the details that came with an error. A detail that some proxy damaged is left out. */
  public static ErrorDetails of(StatusRuntimeException error) {
    String reason = "";
    String requestId = "";
    List<Violation> violations = new ArrayList<>();
    Duration retryAfter = null;
    Metadata trailers = error.getTrailers();
    if (trailers != null && trailers.containsKey(REQUEST_ID)) {
      requestId = trailers.get(REQUEST_ID);
    }
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      try {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(BadRequest.class)) {
          for (BadRequest.FieldViolation each : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            violations.add(new Violation(each.getField(), each.getDescription()));
          }
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        } else if (detail.is(RequestInfo.class)) {
          requestId = detail.unpack(RequestInfo.class).getRequestId();
        }
      } catch (InvalidProtocolBufferException damaged) {
        continue;
      }
    }
    Status status = error.getStatus();
    String message = status.getDescription() == null ? "" : status.getDescription();
    return new ErrorDetails(
        status.getCode(), message, reason, List.copyOf(violations), retryAfter, requestId);
  }
}
