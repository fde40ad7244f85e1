# frozen_string_literal: true

require 'grpc'
require 'sensorium/address'
require 'sensorium/error_details'
require 'sensorium/token'
require 'sensorium/mesh/v1/mesh_service_services_pb'
require 'sensorium/nlp/v1/nlp_service_services_pb'
require 'sensorium/oip/v2/inference_services_pb'
require 'sensorium/speech/v1/speech_service_services_pb'
require 'sensorium/vision/v1/vision_service_services_pb'

module Sensorium
  # A connection to a mesh with the generated stubs of all services; keep one for long. A failed call raises
  # GRPC::BadStatus, which ErrorDetails reads.
  class Client
    # Seconds that a call has which says nothing else. Streams too: give a longer one its own `deadline:`.
    DEFAULT_TIMEOUT_S = 60
    # Two large images and their reply fit; what a mesh accepts is its own matter (GetLimits).
    MAX_MESSAGE_BYTES = 128 << 20
    # No proxy of the environment stands between this machine and itself.
    DIRECT = { 'grpc.enable_http_proxy' => 0 }.freeze
    OPTIONS = {
      'grpc.service_config' => File.read(File.expand_path('../../../service_config.json', __dir__)),
      'grpc.enable_retries' => 1,
      'grpc.max_receive_message_length' => MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length' => MAX_MESSAGE_BYTES,
      # Finds a dead peer while a call waits. gRPC servers take three pings without data in five minutes for abuse.
      'grpc.keepalive_time_ms' => 120_000,
      'grpc.keepalive_timeout_ms' => 20_000,
      'grpc.primary_user_agent' => 'sensorium-ruby/0.1.0'
    }.freeze

    # The stubs. `tensors` is the Open Inference Protocol: tensors in, tensors out.
    attr_reader :vision, :nlp, :speech, :mesh, :tensors

    # address: host:port, http://… or https://…; default SENSORIUM_ADDRESS, else 127.0.0.1:8080. token: '' sends none;
    # default see Token. root_certificates: PEM, for a mesh whose certificate is of a private authority. It does not
    # wait for the mesh: the first call connects.
    def initialize(address: nil, token: nil, root_certificates: nil, timeout_s: DEFAULT_TIMEOUT_S)
      where = Address.find(address)
      credentials = where.secure ? GRPC::Core::ChannelCredentials.new(root_certificates) : :this_channel_is_insecure
      @channel = GRPC::ClientStub.setup_channel(nil, where.target, credentials, OPTIONS.merge(where.loopback? ? DIRECT : {}))
      options = { channel_override: @channel, timeout: timeout_s,
                  interceptors: [Authorization.new(Token.find(token, where))] }
      @vision, @nlp, @speech, @mesh, @tensors =
        [Vision::V1::VisionService, Nlp::V1::NlpService, Speech::V1::SpeechService, Mesh::V1::MeshService,
         Inference::GRPCInferenceService].map { |service| service::Stub.new(where.target, credentials, **options) }
    end

    # Ends the connection and the calls on it.
    def close
      @channel.close
    end

    # Puts the token into the metadata of every call.
    class Authorization < GRPC::ClientInterceptor
      def initialize(token)
        super()
        @token = token
      end

      %i[request_response client_streamer server_streamer bidi_streamer].each do |kind|
        define_method(kind) do |metadata:, **, &call|
          token = @token.read
          metadata['authorization'] = "Bearer #{token}" unless token.empty?
          call.call
        end
      end
    end
    private_constant :Authorization
  end
end
