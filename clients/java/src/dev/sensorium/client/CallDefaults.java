package dev.sensorium.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/** Gives every call the token, and unary calls that have none a deadline. */
final class CallDefaults implements ClientInterceptor {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final Token token;
  private final Duration deadline;

  CallDefaults(Token token, Duration deadline) {
    this.token = token;
    this.deadline = deadline;
  }

  @Override
  public <Q, A> ClientCall<Q, A> interceptCall(
      MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    boolean unary = method.getType() == MethodDescriptor.MethodType.UNARY;
    CallOptions complete = unary && options.getDeadline() == null
        ? options.withDeadlineAfter(deadline.toNanos(), TimeUnit.NANOSECONDS)
        : options;
    return new SimpleForwardingClientCall<>(next.newCall(method, complete)) {
      @Override
      public void start(Listener<A> listener, Metadata headers) {
        try {
          String text = token.read();
          if (!text.isEmpty()) {
            headers.put(AUTHORIZATION, "Bearer " + text);
          }
        } catch (IOException error) {
          throw Status.UNAUTHENTICATED.withDescription("token: cannot read " + error.getMessage())
              .withCause(error)
              .asRuntimeException();
        }
        super.start(listener, headers);
      }
    };
  }
}
