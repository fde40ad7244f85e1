package dev.sensorium.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/** What is sent with every call. */
interface Token {
  /** The token now; empty sends none. */
  String read() throws IOException;

  /**
   * The token given, else SENSORIUM_TOKEN, else the file SENSORIUM_TOKEN_FILE, else the one that {@code
   * sensorium up} leaves in the state folder, which is only ever sent to this machine. A file is read at
   * every call, because it may be replaced.
   */
  static Token find(String given, Address address, Map<String, String> environment) {
    if (given != null) {
      return given::strip;
    }
    String text = environment.getOrDefault("SENSORIUM_TOKEN", "");
    if (!text.isEmpty()) {
      return text::strip;
    }
    String named = environment.getOrDefault("SENSORIUM_TOKEN_FILE", "");
    Path own = stateFolder(environment).resolve("token");
    if (named.isEmpty() && !(address.isLoopback() && Files.isRegularFile(own))) {
      return () -> "";
    }
    Path file = named.isEmpty() ? own : Path.of(named);
    return () -> Files.readString(file).strip();
  }

  private static Path stateFolder(Map<String, String> environment) {
    String own = environment.getOrDefault("SENSORIUM_STATE_DIR", "");
    if (!own.isEmpty()) {
      return Path.of(own);
    }
    String home = environment.getOrDefault("XDG_STATE_HOME", "");
    Path states =
        home.isEmpty() ? Path.of(System.getProperty("user.home"), ".local", "state") : Path.of(home);
    return states.resolve("sensorium");
  }
}
