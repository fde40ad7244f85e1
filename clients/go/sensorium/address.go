package sensorium

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const defaultAddress = "127.0.0.1:8080"

// parseAddress says where an address leads, as host:port, and whether by TLS.
func parseAddress(address string) (target string, secure bool, err error) {
	if address == "" {
		address = defaultAddress
	}
	full := address
	if !strings.Contains(address, "://") {
		full = "plain://" + address
	}
	parts, err := url.Parse(full)
	if err != nil {
		return "", false, fmt.Errorf("address: expected host:port, http://… or https://…, got %q", address)
	}
	port, known := map[string]string{"plain": "", "http": "80", "https": "443"}[parts.Scheme]
	if parts.Port() != "" {
		port = parts.Port()
	}
	if !known || parts.Hostname() == "" || port == "" || parts.User != nil || strings.Trim(parts.Path, "/") != "" || parts.RawQuery != "" {
		return "", false, fmt.Errorf("address: expected host:port, http://… or https://…, got %q", address)
	}
	return net.JoinHostPort(parts.Hostname(), port), parts.Scheme == "https", nil
}

// token is what is sent with every call: text, or the content of a file, read at every call because it may be replaced.
type token struct{ text, path string }

// findToken looks where the package says. The token of the local mesh is only ever sent to this machine.
func findToken(given *string, target string) token {
	if given != nil {
		return token{text: strings.TrimSpace(*given)}
	}
	if text := os.Getenv("SENSORIUM_TOKEN"); text != "" {
		return token{text: strings.TrimSpace(text)}
	}
	if path := os.Getenv("SENSORIUM_TOKEN_FILE"); path != "" {
		return token{path: path}
	}
	path := filepath.Join(stateFolder(), "token")
	if _, err := os.Stat(path); err == nil && isLoopback(target) {
		return token{path: path}
	}
	return token{}
}

// stateFolder is where `sensorium up` keeps its token.
func stateFolder() string {
	if folder := os.Getenv("SENSORIUM_STATE_DIR"); folder != "" {
		return folder
	}
	if folder := os.Getenv("XDG_STATE_HOME"); folder != "" {
		return filepath.Join(folder, "sensorium")
	}
	home, _ := os.UserHomeDir() // without one there is no such file either
	return filepath.Join(home, ".local", "state", "sensorium")
}

func isLoopback(target string) bool {
	host, _, err := net.SplitHostPort(target)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	text := t.text
	if t.path != "" {
		content, err := os.ReadFile(t.path)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		text = strings.TrimSpace(string(content))
	}
	if text == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + text}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. A mesh on this machine or behind a sidecar has no TLS: who names a
// plaintext address together with a token wants it sent there.
func (token) RequireTransportSecurity() bool { return false }
