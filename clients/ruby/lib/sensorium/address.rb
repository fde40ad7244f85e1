# frozen_string_literal: true

module Sensorium
  # Where a mesh is: `target` as host:port, and whether it is reached by TLS.
  Address = Struct.new(:target, :secure, keyword_init: true) do
    # What was given, else SENSORIUM_ADDRESS, else 127.0.0.1:8080: host:port, http://host[:port] or https://host[:port].
    # Raises ArgumentError.
    def self.find(given, env = ENV)
      text = [given, env['SENSORIUM_ADDRESS'], '127.0.0.1:8080'].find { |each| each && !each.empty? }
      parts = %r{\A(?:(https?)://)?(\[[0-9A-Fa-f:.]+\]|[^/:@?#\[\]\s]+)(?::(\d{1,5}))?/?\z}.match(text)
      unless parts && (parts[1] || parts[3])
        raise ArgumentError, "address: expected host:port, http://… or https://…, got #{text.inspect}"
      end

      secure = parts[1] == 'https'
      new(target: "#{parts[2]}:#{parts[3] || (secure ? 443 : 80)}", secure: secure)
    end

    def loopback?
      target.match?(/\A(127(\.\d{1,3}){3}|localhost|\[::1\]):\d+\z/)
    end
  end
end
