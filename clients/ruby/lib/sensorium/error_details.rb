# frozen_string_literal: true

require 'grpc'
require 'google/protobuf/well_known_types'
require 'google/rpc/code_pb'
require 'google/rpc/error_details_pb'
require 'google/rpc/status_pb'

module Sensorium
  # One field of the request that is wrong.
  Violation = Struct.new(:field, :description)

  # What the mesh said about a call that failed: the code's name on the wire, a message for people, the fields that are
  # wrong, and, or nil: a reason for programs, when to try again in seconds, what to ask the mesh's logs for.
  ErrorDetails = Struct.new(:code, :message, :reason, :violations, :retry_after_s, :request_id, keyword_init: true) do
    # Reads the details that came with a GRPC::BadStatus. A detail that some proxy damaged is left out.
    def self.of(error)
      details = new(code: Google::Rpc::Code.lookup(error.code).to_s, message: error.details, violations: [],
                    request_id: error.metadata['x-request-id'])
      error.to_rpc_status&.details&.each { |detail| details.add(detail) }
      details
    end

    def add(detail)
      case detail.type_url.split('/').last
      when 'google.rpc.ErrorInfo'
        self.reason = detail.unpack(Google::Rpc::ErrorInfo).reason
      when 'google.rpc.BadRequest'
        found = detail.unpack(Google::Rpc::BadRequest).field_violations
        violations.concat(found.map { |each| Violation.new(each.field, each.description) })
      when 'google.rpc.RetryInfo'
        self.retry_after_s = detail.unpack(Google::Rpc::RetryInfo).retry_delay.to_f
      when 'google.rpc.RequestInfo'
        self.request_id = detail.unpack(Google::Rpc::RequestInfo).request_id
      end
    rescue Google::Protobuf::ParseError
      nil
    end
  end
end
