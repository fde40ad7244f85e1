# frozen_string_literal: true

module Sensorium
  # What is sent with every call: a text, or the content of a file, read at every call because it may be replaced.
  class Token
    # The token given, else SENSORIUM_TOKEN, else the file SENSORIUM_TOKEN_FILE, else the one that `sensorium up` leaves
    # in the state folder, which is only ever sent to this machine.
    def self.find(given, address, env = ENV)
      text = given || presence(env['SENSORIUM_TOKEN'])
      return new(text: text.strip) if text

      own = File.join(state_folder(env), 'token')
      file = presence(env['SENSORIUM_TOKEN_FILE']) || (own if address.loopback? && File.file?(own))
      file ? new(file: File.expand_path(file)) : new(text: '')
    end

    def self.state_folder(env)
      presence(env['SENSORIUM_STATE_DIR']) ||
        File.join(presence(env['XDG_STATE_HOME']) || File.join(Dir.home, '.local', 'state'), 'sensorium')
    end

    def self.presence(text)
      text unless text.nil? || text.empty?
    end
    private_class_method :state_folder, :presence

    def initialize(text: nil, file: nil)
      @text = text
      @file = file
    end

    # The token now; empty sends none. Raises SystemCallError if its file cannot be read.
    def read
      @text || File.read(@file).strip
    end
  end
end
