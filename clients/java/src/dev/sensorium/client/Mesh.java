package dev.sensorium.client;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import dev.sensorium.mesh.v1.MeshServiceGrpc;
import dev.sensorium.nlp.v1.NlpServiceGrpc;
import dev.sensorium.oip.v2.GRPCInferenceServiceGrpc;
import dev.sensorium.speech.v1.SpeechServiceGrpc;
import dev.sensorium.vision.v1.VisionServiceGrpc;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;

/**
 * A connection to a Sensorium mesh: address, token, deadline and retries, with the generated stubs of all
 * services. What a failed call says is read by {@link ErrorDetails}. Safe for concurrent use; keep one for
 * long.
 */
public final class Mesh implements AutoCloseable {
  /** Deadline of a unary call that says nothing else; streams have none. */
  public static final Duration DEFAULT_DEADLINE = Duration.ofSeconds(60);

  // Two large images and their reply fit; what a mesh accepts is its own matter (GetLimits).
  private static final int MAX_MESSAGE_BYTES = 128 << 20;

  private final ManagedChannel connection;
  private final Channel channel;

  private Mesh(Builder options) throws IOException {
    Address address = Address.parse(options.address, System.getenv());
    Token token = Token.find(options.token, address, System.getenv());
    connection = Grpc.newChannelBuilder(address.target(), credentials(address, options.rootCertificates))
                     .defaultServiceConfig(serviceConfig())
                     .enableRetry()
                     .maxInboundMessageSize(MAX_MESSAGE_BYTES)
                     // Finds a dead peer while a call waits. gRPC servers take three pings without data in
                     // five minutes for abuse.
                     .keepAliveTime(2, TimeUnit.MINUTES)
                     .keepAliveTimeout(20, TimeUnit.SECONDS)
                     .userAgent("sensorium-java/0.1.0")
                     .build();
    channel = ClientInterceptors.intercept(connection, new CallDefaults(token, options.deadline));
  }

  /** A mesh where the environment says. It does not wait for it: the first call connects. */
  public static Mesh connect() throws IOException {
    return builder().connect();
  }

  /** For what differs from the environment. */
  public static Builder builder() {
    return new Builder();
  }

  /** Images. */
  public VisionServiceGrpc.VisionServiceBlockingStub vision() {
    return VisionServiceGrpc.newBlockingStub(channel);
  }

  /** Texts. */
  public NlpServiceGrpc.NlpServiceBlockingStub nlp() {
    return NlpServiceGrpc.newBlockingStub(channel);
  }

  /** Sound. */
  public SpeechServiceGrpc.SpeechServiceBlockingStub speech() {
    return SpeechServiceGrpc.newBlockingStub(channel);
  }

  /** Models, replicas and limits. */
  public MeshServiceGrpc.MeshServiceBlockingStub models() {
    return MeshServiceGrpc.newBlockingStub(channel);
  }

  /** Tensors in, tensors out: the Open Inference Protocol. Its stream needs an asynchronous stub. */
  public GRPCInferenceServiceGrpc.GRPCInferenceServiceStub tensors() {
    return GRPCInferenceServiceGrpc.newStub(channel);
  }

  /** Lets calls end for five seconds, then ends them. */
  @Override
  public void close() {
    try {
      if (!connection.shutdown().awaitTermination(5, TimeUnit.SECONDS)) {
        connection.shutdownNow();
      }
    } catch (InterruptedException interrupted) {
      connection.shutdownNow();
      Thread.currentThread().interrupt();
    }
  }

  private static ChannelCredentials credentials(Address address, File roots) throws IOException {
    if (!address.secure()) {
      return InsecureChannelCredentials.create();
    }
    return roots == null ? TlsChannelCredentials.create()
                         : TlsChannelCredentials.newBuilder().trustManager(roots).build();
  }

  /** The retry policy of all clients. */
  private static Map<String, ?> serviceConfig() {
    try (Reader text = new InputStreamReader(
             Objects.requireNonNull(Mesh.class.getResourceAsStream("service_config.json")),
             StandardCharsets.UTF_8)) {
      return new Gson().fromJson(text, new TypeToken<Map<String, Object>>() {}.getType());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** What differs from the environment. */
  public static final class Builder {
    private String address;
    private String token;
    private File rootCertificates;
    private Duration deadline = DEFAULT_DEADLINE;

    private Builder() {}

    /**
     * {@code host:port}, {@code http://…} or {@code https://…}. Default: SENSORIUM_ADDRESS, else
     * 127.0.0.1:8080.
     */
    public Builder address(String address) {
      this.address = address;
      return this;
    }

    /** What to send; empty sends none. Default: see README.md. */
    public Builder token(String token) {
      this.token = token;
      return this;
    }

    /** PEM file, for a mesh whose certificate is of a private authority. Default: the system's. */
    public Builder rootCertificates(File pem) {
      this.rootCertificates = pem;
      return this;
    }

    /** Deadline of unary calls that say nothing else. */
    public Builder deadline(Duration deadline) {
      this.deadline = deadline;
      return this;
    }

    /**
     * Throws IllegalArgumentException for an address that is none, IOException for certificates that cannot
     * be read.
     */
    public Mesh connect() throws IOException {
      return new Mesh(this);
    }
  }
}
