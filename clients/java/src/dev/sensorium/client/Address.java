package dev.sensorium.client;

import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Where a mesh is.
 *
 * @param target {@code host:port}
 * @param secure whether it is reached by TLS
 */
record Address(String target, boolean secure) {
  private static final String DEFAULT = "127.0.0.1:8080";
  private static final Pattern FORM =
      Pattern.compile("(?:(https?)://)?(\\[[0-9A-Fa-f:.]+]|[^/:@?#\\[\\]\\s]+)(?::(\\d{1,5}))?/?");
  private static final Pattern LOOPBACK = Pattern.compile("(127(\\.\\d{1,3}){3}|localhost|\\[::1]):\\d+");

  /** Reads {@code host:port}, {@code http://…} or {@code https://…}; null means what the environment says. */
  static Address parse(String given, Map<String, String> environment) {
    String text = given != null ? given : environment.getOrDefault("SENSORIUM_ADDRESS", "");
    Matcher parts = FORM.matcher(text.isEmpty() ? DEFAULT : text);
    if (!parts.matches() || (parts.group(1) == null && parts.group(3) == null)) {
      throw new IllegalArgumentException("address: expected host:port, http://… or https://…, got " + text);
    }
    boolean secure = "https".equals(parts.group(1));
    String port = parts.group(3) != null ? parts.group(3) : secure ? "443" : "80";
    return new Address(parts.group(2) + ":" + port, secure);
  }

  /** Whether it is this machine. */
  boolean isLoopback() {
    return LOOPBACK.matcher(target).matches();
  }
}
